/* change.h - what the parts of storage share about changing bytes. */
#ifndef PL_CORE_STORAGE_CHANGE_H
#define PL_CORE_STORAGE_CHANGE_H

#include "core/storage/storage.h"

/* Whether [off, off + len) of st may be written: PL_E_INVALID when it is open for reading only,
 * PL_E_LIMIT beyond PL_OFFSET_MAX, PL_E_NO_SPACE past the end of a kind with a fixed size. */
int pl_check_change(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e) PL_CHECK;

/* Whether the kind can neither grow nor shrink. */
bool pl_is_fixed(const struct pl_storage *st);

/* Writes len zeros at off byte by byte, in large pieces, for kinds that know no shorter
 * way.  The range was checked. */
int pl_write_zeros(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e) PL_CHECK;

/* PL_E_CORRUPT: a read of [off, off + len) left the `size` bytes there are.  Returns -1. */
int pl_past_end(const struct pl_storage *st, uint64_t off, uint64_t len, uint64_t size,
                struct pl_err *e);

#endif
