#include "core/engine/rate.h"

#include <time.h>

#include "core/base/checked.h"

/* Seconds: how soon somebody who waits notices that the work is cancelled. */
#define NAP 0.1

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct pl_rate pl_rate_start(uint64_t limit, const struct pl_report *report)
{
    return (struct pl_rate){ .limit = limit, .started_ns = now_ns(), .report = report };
}

int pl_rate_keep(const struct pl_rate *rate, uint64_t copied, struct pl_err *e)
{
    while (rate->limit) {
        const double due = (double)copied / (double)rate->limit;
        const double wait = due - (double)(now_ns() - rate->started_ns) / 1e9;
        const struct timespec nap = { .tv_nsec = (long)(PL_MIN(wait, NAP) * 1e9) };

        if (wait <= 0)
            return 0;
        if (pl_check_cancelled(rate->report, e) < 0)
            return -1;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
    }
    return 0;
}
