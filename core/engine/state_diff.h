/* state_diff.h - what changed between two states of a disk. */
#ifndef PL_CORE_ENGINE_STATE_DIFF_H
#define PL_CORE_ENGINE_STATE_DIFF_H

#include "core/engine/snapshot.h"

/* Guest addresses whose bytes differ: whole sectors of 512 bytes, but for the end of the disk. */
struct pl_changed_run {
    uint64_t at, len;
    bool zero; /* the later state reads as zeros there, or ends before it */
};

struct pl_diff_options {
    struct pl_state_options common; /* its report: progress over the bytes of the disk */
    /* Each run, in the order of the addresses; -1 stops. */
    int (*run)(void *ctx, const struct pl_changed_run *run, struct pl_err *e);
    void *ctx;
};

struct pl_diff_result {
    uint64_t from_size, to_size; /* virtual sizes of the two */
    uint64_t changed;            /* bytes in all runs */
    uint64_t runs;
};

/* Compares two states of the disk at `path`; a null name is the disk as it is now.  Only what the
 * two do not share in their files is read.  PL_E_NOT_FOUND, PL_E_LOCKED. */
PL_API int pl_state_diff(const char *path, const char *from, const char *to,
                         const struct pl_diff_options *options, struct pl_diff_result *result,
                         struct pl_err *e) PL_CHECK;

#endif
