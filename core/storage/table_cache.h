/* table_cache.h - slices of on-disk tables (L1, L2, refcounts, grain tables, BATs) kept in memory,
 * never more than a fixed number of them, however large the image is.
 *
 * A slice is an aligned run of `slice` bytes of the storage.  Clean slices leave by age.  Dirty
 * ones stay until pl_table_cache_write_back: the driver decides when that is safe, because order on
 * disk is its business; a get that finds only dirty slices returns 1 ("full") and the driver writes
 * back, in its order, and asks again.
 *
 * Threads: none of its own; the driver's lock guards each call and the slices it returns. */
#ifndef PL_CORE_STORAGE_TABLE_CACHE_H
#define PL_CORE_STORAGE_TABLE_CACHE_H

#include "core/storage/storage.h"

struct pl_table_cache;

/* `slice`: a power of two from 512 to 65536; `slots`: the most slices kept at once (memory grows up
 * to that as they are used). */
int pl_table_cache_create(struct pl_storage *st, uint32_t slice, uint32_t slots,
                          struct pl_table_cache **out, struct pl_err *e) PL_CHECK;

/* Frees; dirty slices are lost.  Null is fine. */
void pl_table_cache_free(struct pl_table_cache *tc);

/* The slice that contains byte `off` (any alignment), read if it is not here (past the end of the
 * storage reads as zeros); *bytes points at the slice's start and is valid until the next call.
 * 1: every slot is dirty, write back first; 0; -1. */
int pl_table_cache_get(struct pl_table_cache *tc, uint64_t off, uint8_t **bytes, struct pl_err *e)
    PL_CHECK;

/* The slice if it is here, else null.  No I/O. */
uint8_t *pl_table_cache_peek(struct pl_table_cache *tc, uint64_t off);

/* Puts bytes read by the caller without the lock in place, unless the slice came meanwhile or
 * anything was made dirty, zeroed or dropped since pl_table_cache_epoch gave `epoch` (then nothing
 * happens: the caller looks again).  Never displaces dirty slices; never fails. */
void pl_table_cache_insert(struct pl_table_cache *tc, uint64_t off, const uint8_t *bytes,
                           uint64_t epoch);

/* Changes whenever a slice is made dirty, zeroed, dropped or written back. */
uint64_t pl_table_cache_epoch(const struct pl_table_cache *tc);

/* Like get, for a slice of a table that is new: all zeros, dirty, nothing is read. */
int pl_table_cache_get_new(struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                           struct pl_err *e) PL_CHECK;

/* The slice at off, which is here (it was got by the last call), was changed. */
void pl_table_cache_dirty(struct pl_table_cache *tc, uint64_t off);

/* Forgets slices of [off, off + len), dirty or not: the table was freed. */
void pl_table_cache_drop(struct pl_table_cache *tc, uint64_t off, uint64_t len);

/* Whether anything is dirty. */
bool pl_table_cache_is_dirty(const struct pl_table_cache *tc);

/* Writes the dirty slices in the order of their offsets, neighbours in one write; they are then
 * clean. Does not flush the storage.  On failure what was not written stays dirty. */
int pl_table_cache_write_back(struct pl_table_cache *tc, struct pl_err *e) PL_CHECK;

#endif
