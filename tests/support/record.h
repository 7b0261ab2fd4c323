/* record.h - the log of what a program did to the files of one folder.
 *
 * tests/programs/record.so, preloaded, writes it; replay.h reads it.  The environment tells the
 * library what to do:
 *
 *   RECORD_FOLDER  the folder, an absolute path without links; it has no folders in it
 *   RECORD_LOG     the file to append the log to; unset: no log
 *   RECORD_READS   set: reads are logged too
 *   RECORD_FAULT   fail:N:ERRNO   the N-th change or sync (from 0) fails, all others work
 *                  full:N         from the N-th change on there is no room: what needs any fails
 *                  read:INODE:OFF the 512 bytes at OFF of that file cannot be read
 *
 * Changes come in the order in which they were made; those of several threads are put into one.
 * What the library cannot log is a record of its own (RECORD_UNKNOWN), so that nothing is missed
 * in silence. */
#ifndef TESTS_SUPPORT_RECORD_H
#define TESTS_SUPPORT_RECORD_H

#include <stdint.h>

enum record_kind {
    RECORD_NEW = 1,    /* a new, empty file; bytes: its name, or nothing (O_TMPFILE) */
    RECORD_WRITE,      /* bytes, at `off` */
    RECORD_ZERO,       /* `range` bytes at `off` are zeros; the size stays */
    RECORD_RESIZE,     /* the size is `range` */
    RECORD_SYNC,       /* all of the file's content is on stable storage */
    RECORD_NAME,       /* bytes: a further name of the file */
    RECORD_UNNAME,     /* bytes: the name that is gone */
    RECORD_RENAME,     /* bytes: the old name, a null byte, the new one */
    RECORD_SYNC_NAMES, /* all names are on stable storage */
    RECORD_MARK,       /* the program says so: what it did until now is flushed */
    RECORD_READ,       /* `range` bytes at `off` were read */
    RECORD_UNKNOWN,    /* bytes: a call that is not understood */
};

/* Followed by `len` bytes; the next record begins at the next multiple of 8. */
struct record {
    uint32_t kind;
    uint32_t len;
    uint64_t inode; /* the file, where there is one */
    uint64_t off, range;
};

#define RECORD_STEP(len) (sizeof(struct record) + (((len) + 7u) & ~7u))

#endif
