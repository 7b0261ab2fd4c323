/* source_check.h - digests of packages, compared while something else reads their disks. */
#ifndef PL_CORE_ENGINE_SOURCE_CHECK_H
#define PL_CORE_ENGINE_SOURCE_CHECK_H

#include "core/engine/disk.h"

/* Runs `run` and, on a thread of its own, the verification of the packages that the sources lie in:
 * both read the same bytes, so the disk or the network gives them once.  Fails when either does;
 * when `run` fails, the verification is given up. */
int pl_run_beside_source_check(const struct pl_disk *source, const struct pl_report *report,
                               int (*run)(void *ctx, struct pl_err *e), void *ctx, struct pl_err *e)
    PL_CHECK;

#endif
