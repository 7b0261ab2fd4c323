/* report.h - how long work talks to its caller while it runs: warnings, progress, and "stop". */
#ifndef PL_CORE_BASE_REPORT_H
#define PL_CORE_BASE_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

/* Every member may be null.  `ctx` is handed to each call.  All calls for one piece of work come
 * from one thread at a time, not necessarily the one that started it; they must not block for long.
 */
struct pl_report {
    void *ctx;
    /* Something the user should know and that stops nothing: one line, no newline at its end. */
    void (*warn)(void *ctx, const char *message);
    /* `done` of `total` bytes of work are behind us; total may grow. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    /* True: stop soon; the work then fails with PL_E_CANCELLED and removes what it made.  May be
     * called from several threads at once. */
    bool (*cancelled)(void *ctx);
};

/* Formats a warning and hands it on; does nothing where `report` or its `warn` is null. */
PL_API void pl_warn(const struct pl_report *report, const char *fmt, ...) PL_PRINTF(2, 3);

/* Hands progress on; does nothing where `report` or its `progress` is null. */
PL_API void pl_progress(const struct pl_report *report, uint64_t done, uint64_t total);

/* PL_E_CANCELLED in *e and -1 when the caller asked to stop, else 0. */
PL_API int pl_check_cancelled(const struct pl_report *report, struct pl_err *e) PL_CHECK;

#endif
