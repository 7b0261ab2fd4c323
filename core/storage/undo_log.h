/* undo_log.h - the file that keeps what a repair changed: a header and batches of entries.
 *
 * Numbers are little-endian.  Everything begins at a multiple of UNDO_PAGE.
 *
 *     header  0 magic  16 version  20 page  24 id (random)  60 CRC32C of bytes 0 to 59
 *     batch   0 magic  4 CRC32C of all that follows  8 id  16 number, from 0
 *            24 batches that were on stable storage before this one was written
 *            32 bytes of entries, which begin at 64
 *     entry   0 type  4 file  8 offset  16 length  24 more, by type; data, filled up to 8 bytes
 *
 * A batch counts once all in front of it do and its sum is right.  What a crash tore is a batch
 * that nothing relied on yet: one that was relied on has a later one that says so, and if it is
 * damaged the whole log is refused.
 *
 * One thread at a time. */
#ifndef PL_CORE_STORAGE_UNDO_LOG_H
#define PL_CORE_STORAGE_UNDO_LOG_H

#include "core/storage/storage.h"

#define UNDO_PAGE 4096u
/* The most bytes of an image in one entry. */
#define UNDO_PIECE 65536u
#define UNDO_DIGEST 64u /* hexadecimal digits of a SHA-256 */

enum undo_type {
    UNDO_FILE = 1,  /* a file: `off` its size, more its time of change (ns; 0: not known), both as
                      they were before; `len` bytes of name, none for the image's own, which is the
                      first.  Files are numbered in the order of these */
    UNDO_BYTES,     /* what [off, off + len) had before; len <= UNDO_PIECE */
    UNDO_ZEROS,     /* the same where it had zeros; no data, any length */
    UNDO_LEFT_FILE, /* the size (off) and time of change (more, ns; 0: not known) that the repair
                       left */
    UNDO_LEFT,      /* digest of what the repair left in [off, off + len), as far as that is inside
                        the file */
    UNDO_DONE,      /* the repair is over; an UNDO_LEFT stands for each range */
    UNDO_TAKING_BACK, /* what was kept is being put back */
};

struct undo_entry {
    enum undo_type type;
    uint32_t file;
    uint64_t off, len, more;
    const void *data; /* FILE, BYTES, LEFT */
};

struct undo_log {
    struct pl_storage *st; /* the caller's */
    uint64_t id;
    uint64_t end;             /* where the next batch goes */
    uint64_t number, durable; /* batches written; of these on stable storage */
    uint8_t *batch;           /* head and entries that are to be written */
    size_t used;              /* bytes of entries */
};

/* What looking at the start of a file says. */
enum undo_start { UNDO_NO_LOG, UNDO_BLANK, UNDO_LOG };

/* Whether the file is a log; BLANK: none was written yet (a crash came first). */
int undo_log_look(struct pl_storage *st, enum undo_start *what, struct pl_err *e) PL_CHECK;

/* Begins a log in an empty file.  Nothing is synced yet. */
int undo_log_begin(struct undo_log *log, struct pl_storage *st, struct pl_err *e) PL_CHECK;

/* Is called for each entry; a result other than 0 ends the walk. */
typedef int undo_visit(void *ctx, const struct undo_entry *entry, struct pl_err *e);

/* Takes up a log that exists and walks through its entries; new ones go behind.  PL_E_CORRUPT. */
int undo_log_load(struct undo_log *log, struct pl_storage *st, undo_visit *visit, void *ctx,
                  struct pl_err *e) PL_CHECK;

/* Walks through the batches that were written when it was called. */
int undo_log_walk(struct undo_log *log, undo_visit *visit, void *ctx, struct pl_err *e) PL_CHECK;

/* Adds an entry; it may wait in memory. */
int undo_log_put(struct undo_log *log, const struct undo_entry *entry, struct pl_err *e) PL_CHECK;

/* Returns when all that was put is on stable storage. */
int undo_log_sync(struct undo_log *log, struct pl_err *e) PL_CHECK;

/* Writes a batch now, even one without entries, so that the file's time of change is now. */
int undo_log_touch(struct undo_log *log, struct pl_err *e) PL_CHECK;

/* Cuts off what a crash left behind the last batch that counts; before anything is put into a log
 * that was loaded. */
int undo_log_trim(struct undo_log *log, struct pl_err *e) PL_CHECK;

/* Frees its memory; fine for one that was never begun.  The file stays open. */
void undo_log_free(struct undo_log *log);

#endif
