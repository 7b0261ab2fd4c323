/* flaky.h - a storage in memory that fails on request and remembers every change, so that a test
 * can see what a crash at any instant could have left.
 *
 * Changes (write, zero, discard, resize, replace) and completed flushes are numbered from 0 in the
 * order they came.  Discarded bytes become garbage at once: nobody may count on them.  Threads: any
 * number; what runs at once is numbered in some order. */
#ifndef TESTS_SUPPORT_FLAKY_H
#define TESTS_SUPPORT_FLAKY_H

#include "core/storage/storage.h"

/* A writable storage that starts with a copy of `len` bytes (null: zeros), all of it stable, and
 * grows up to `limit` bytes. */
int pl_flaky_storage(const void *bytes, size_t len, size_t limit, struct pl_storage **out,
                     struct pl_err *e) PL_CHECK;

/* Makes two new storages count together: an operation of one has the next number in both, so that
 * both can be cut at one instant.  One thread at a time from then on. */
void pl_flaky_pair(struct pl_storage *a, struct pl_storage *b);

/* The n-th change or flush from the start of the storage (0: the very first) fails with errno
 * `error`; with `for_ever` so do all that follow.  A write that fails has written the first half
 * of its sectors all the same.  A new call replaces the last one; UINT64_MAX: nothing fails any
 * more. */
void pl_flaky_fail_at(struct pl_storage *st, uint64_t n, int error, bool for_ever);

/* The same for reads, which have their own count. */
void pl_flaky_fail_read_at(struct pl_storage *st, uint64_t n, int error, bool for_ever);

/* Changes and flushes attempted so far. */
uint64_t pl_flaky_operation_count(struct pl_storage *st);

/* Reads attempted so far. */
uint64_t pl_flaky_read_count(struct pl_storage *st);

/* Whether operation n was a completed flush. */
bool pl_flaky_is_flush(struct pl_storage *st, uint64_t n);

/* What a crash after the first n operations could leave; *bytes is the caller's to free.  All up
 * to the last flush among them is there.  Of what came after it: seed 0: everything;  seed 1:
 * nothing; other: a choice that depends on the seed alone: each change is there, is missing, or
 * (writes, zeros) is there in some of its 512-byte sectors; every fourth seed also lets later
 * changes reach the disk before earlier ones. */
void pl_flaky_cut(struct pl_storage *st, uint64_t n, uint64_t seed, uint8_t **bytes, size_t *len);

/* Loses power now: the storage's content becomes pl_flaky_cut(st, all, seed), all of it
 * stable.  The numbers and the failures that were asked for stay. */
void pl_flaky_lose_power(struct pl_storage *st, uint64_t seed);

#endif
