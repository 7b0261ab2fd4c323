#include "core/base/report.h"

#include <stdarg.h>
#include <stdio.h>

void pl_warn(const struct pl_report *report, const char *fmt, ...)
{
    char message[640];
    va_list ap;

    if (!report || !report->warn)
        return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    report->warn(report->ctx, message);
}

void pl_progress(const struct pl_report *report, uint64_t done, uint64_t total)
{
    if (report && report->progress)
        report->progress(report->ctx, done, total);
}

int pl_check_cancelled(const struct pl_report *report, struct pl_err *e)
{
    if (report && report->cancelled && report->cancelled(report->ctx))
        return pl_fail(e, PL_E_CANCELLED, "stopped as asked");
    return 0;
}
