/* log.h - what the replaced calls of record.c share: which files count, the log, the faults.
 *
 * All but record_begin need the lock that it takes. */
#ifndef TESTS_PROGRAMS_LOG_H
#define TESTS_PROGRAMS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/record.h"

/* The next definition of the function in load order: libc's. */
void *record_real(const char *name);
#define REAL(name) ((__typeof__(&name))record_real(#name))

/* One replaced call at a time.  No function here changes errno, but those that fail with it. */
void record_begin(void);
void record_end(void);

/* Whether the descriptor is a regular file of the folder. */
bool record_is_file(int fd, uint64_t *inode);

/* Whether it is the folder itself. */
bool record_is_folder(int fd);

/* Where a path leads: not into the folder, to an entry of it (the last part of the path), or deeper
 * than that. */
enum record_where { RECORD_OUTSIDE, RECORD_ENTRY, RECORD_DEEPER };
enum record_where record_where(int folder, const char *path, const char **name);

/* Appends to the log. */
void record_put(struct record record, const void *bytes, size_t len);

/* Appends RECORD_UNKNOWN. */
void record_unknown(const char *call);

/* A change is about to be made that needs room on the disk or not: whether it must fail, with
 * errno. */
bool record_change_fails(bool needs_room);

/* The same for a read. */
bool record_read_fails(uint64_t inode, uint64_t off, uint64_t len);

/* Whether reads are to be logged. */
bool record_wants_reads(void);

#endif
