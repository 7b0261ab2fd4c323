/* undo_state.h - what the parts of undo.h share. */
#ifndef PL_CORE_STORAGE_UNDO_STATE_H
#define PL_CORE_STORAGE_UNDO_STATE_H

#include <time.h>

#include "core/base/lock.h"
#include "core/storage/range_set.h"
#include "core/storage/undo.h"
#include "core/storage/undo_log.h"

/* Changed blocks that wait in memory, at most: 4 MiB of them. */
#define UNDO_SLOTS 64u
/* Files of one image at most; the drivers allow fewer. */
#define UNDO_FILES_MAX 65536u
/* A repair that is not over touches its journal at least that often while it writes (s) ... */
#define UNDO_TOUCH_SECONDS 1
/* ... so that a file which is that much (ns) younger was written by somebody else. */
#define UNDO_YOUNGER_NS UINT64_C(5000000000)

/* A file of the image. */
struct undo_file {
    char *name;               /* as the image names it; "" for its own; owned */
    struct pl_storage *under; /* owned; null: the journal knows it, nobody opened it */
    uint64_t old_size;        /* before the first change ... */
    uint64_t old_changed;     /* ... as is its time of change (ns), 0: not known */
    uint32_t index;           /* in the journal */
    bool noted;               /* the journal has it */
    struct pl_range_set saved;
};

/* A changed block that waits. */
struct undo_slot {
    struct undo_file *file; /* null: it is free */
    uint64_t at;            /* multiple of UNDO_PIECE */
    uint32_t from, to;      /* what was changed in it */
    uint8_t *bytes;         /* UNDO_PIECE; null: none yet */
};

struct pl_undo {
    const struct pl_undo_place *place;
    const struct pl_report *report;
    struct pl_lock lock;        /* guards the rest */
    struct pl_storage *journal; /* null: nothing was changed yet */
    struct undo_log log;
    struct undo_file **files;
    unsigned count;
    uint32_t noted; /* files that the journal has */
    struct undo_slot slots[UNDO_SLOTS];
    uint8_t piece[UNDO_PIECE]; /* the one that is being saved */
    struct timespec touched;
    struct pl_undo_outcome outcome;
    bool changed; /* a change has reached a file */
    bool broken;  /* one failed: nothing more is changed */
};

/* As in UNDO_LEFT_FILE. */
struct undo_left {
    uint64_t size, changed;
};

/* What a journal says, gathered entry by entry: see undo_journal_visit. */
struct undo_journal {
    struct undo_file *files; /* without `under` */
    unsigned count;
    struct undo_left *left; /* one for each file */
    unsigned seals;         /* ends that were begun: each has an UNDO_LEFT_FILE of file 0 */
    bool done, taking_back; /* taking_back: after that */
    const char *name;       /* of the journal, for messages */
};

/* Adds an entry to a struct undo_journal; PL_E_CORRUPT where it contradicts what came before. */
undo_visit undo_journal_visit;
/* Frees what was gathered; the files are not closed. */
void undo_journal_free(struct undo_journal *journal);

/* Writes to the log where that was not done by this for a while: its time of change tells later
 * that the changes of the files were the repair's own. */
int undo_touch(struct undo_log *log, struct timespec *touched, struct pl_err *e) PL_CHECK;

/* PL_E_MISMATCH when the file was changed after the journal of an interrupted repair was last
 * written, or when it is older than the one that the repair found (old_changed, 0: not known). */
int undo_check_age(struct pl_storage *journal, struct pl_storage *file, uint64_t old_changed,
                   struct pl_err *e) PL_CHECK;

/* PL_E_MISMATCH: it was changed at that time. */
int undo_written_since(struct pl_storage *file, uint64_t changed, struct pl_err *e);

/* The digest of a range of a file, without what is past `end`. */
int undo_digest(struct pl_storage *st, uint64_t off, uint64_t len, uint64_t end,
                char digits[UNDO_DIGEST], struct pl_err *e) PL_CHECK;
/* The same of bytes; null: zeros. */
int undo_digest_bytes(const uint8_t *bytes, uint64_t len, char digits[UNDO_DIGEST],
                      struct pl_err *e) PL_CHECK;

/* A further file, without a storage yet. */
int undo_add_file(struct pl_undo *undo, const char *name, struct undo_file **out, struct pl_err *e)
    PL_CHECK;

/* The old bytes of a range get into the journal, on stable storage after undo_secure. */
int undo_save(struct pl_undo *undo, struct undo_file *file, uint64_t off, uint64_t len,
              struct pl_err *e) PL_NEEDS(&undo->lock) PL_CHECK;
/* Everything saved is on stable storage: the files may change. */
int undo_secure(struct pl_undo *undo, struct pl_err *e) PL_NEEDS(&undo->lock) PL_CHECK;
/* Writes the changes that wait. */
int undo_drain(struct pl_undo *undo, struct pl_err *e) PL_NEEDS(&undo->lock) PL_CHECK;

/* Completes the journal; *same: nothing is other than before.  All files are on stable storage. */
int undo_seal(struct pl_undo *undo, bool *same, struct pl_err *e) PL_CHECK;

/* The storage that stands for a file. */
int undo_file_storage(struct pl_undo *undo, struct undo_file *file, struct pl_storage **out,
                      struct pl_err *e) PL_CHECK;

#endif
