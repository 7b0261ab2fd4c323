/* rate.h - a bound on the bytes that are copied in a second. */
#ifndef PL_CORE_ENGINE_RATE_H
#define PL_CORE_ENGINE_RATE_H

#include <stdint.h>

#include "core/base/report.h"

struct pl_rate {
    uint64_t limit;      /* bytes a second; 0: none */
    uint64_t started_ns; /* on a clock that only runs forward */
    const struct pl_report *report;
};

/* Starts the clock. */
struct pl_rate pl_rate_start(uint64_t limit, const struct pl_report *report);

/* Sleeps, a little at a time, until `copied` bytes fit the limit.  Any thread.  PL_E_CANCELLED. */
int pl_rate_keep(const struct pl_rate *rate, uint64_t copied, struct pl_err *e) PL_CHECK;

#endif
