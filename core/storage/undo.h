/* undo.h - what a repair changes in the files of an image is kept in a journal, and put back.
 *
 * While a repair runs, each file of the image is reached through a storage that writes the old
 * bytes of what is about to change (in blocks of 64 KiB, once for each block) to the journal and
 * syncs them before the change reaches the file.  Changes wait in memory, at most 4 MiB of them,
 * until a flush or until there are too many, so that many of them share one sync.  What is
 * discarded stays in the file as it is: keeping it would cost the room that it gives back.
 *
 * The journal is made when something changes for the first time.  When the repair is over it gets
 * digests of what every changed range had and has, so that --undo can tell whether somebody wrote
 * to the image since; one that finds nothing changed is removed.  Its form is in undo_log.h.
 *
 * Threads: the storages may be used by several threads at once; one at a time works. */
#ifndef PL_CORE_STORAGE_UNDO_H
#define PL_CORE_STORAGE_UNDO_H

#include "core/base/report.h"
#include "core/storage/storage.h"

/* The changes of one repair. */
struct pl_undo;

/* Where the journal is. */
struct pl_undo_place {
    const char *name;                                                  /* for messages */
    int (*open)(void *ctx, struct pl_storage **out, struct pl_err *e); /* PL_E_NOT_FOUND */
    /* A new, empty file whose name is on stable storage.  PL_E_EXISTS. */
    int (*create)(void *ctx, struct pl_storage **out, struct pl_err *e);
    void (*remove)(void *ctx, struct pl_storage *journal); /* takes its name away; still open */
    void *ctx;
};

/* What became of the journal. */
struct pl_undo_outcome {
    bool kept;      /* there is one: something was changed */
    bool replaced;  /* it took the place of one of an earlier repair */
    bool continued; /* it goes on with that of a repair that was interrupted */
};

/* Nothing is made yet.  `place`, not copied, and `report` live as long as the result. */
int pl_undo_new(const struct pl_undo_place *place, const struct pl_report *report,
                struct pl_undo **out, struct pl_err *e) PL_CHECK;

/* A storage in place of `file`, under the name by which the image names it (null: its own file).
 * It is closed before pl_undo_finish; `file` is the undo's from now on, on failure too. */
int pl_undo_wrap(struct pl_undo *undo, const char *name, struct pl_storage *file,
                 struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* The repair is over, whatever came of it: completes the journal, closes the files and frees.  On
 * failure there may be a journal all the same, as one of a repair that was interrupted. */
int pl_undo_finish(struct pl_undo *undo, struct pl_undo_outcome *outcome, struct pl_err *e);

/* ---- taking back ---- */

struct pl_undo_source {
    struct pl_storage *journal; /* writable */
    struct pl_storage *file;    /* the image's own, writable */
    /* Opens a further file that the image names, for writing. */
    int (*open_file)(void *ctx, const char *name, struct pl_storage **out, struct pl_err *e);
    void *ctx;
    bool force; /* although the files were written since, where that changed nothing that the
                   repair had changed */
};

/* What was put back. */
struct pl_undo_facts {
    uint64_t bytes;   /* in how many ranges ... */
    uint64_t ranges;  /* ... bytes were put back */
    unsigned files;   /* of so many files */
    bool interrupted; /* the repair had not come to its end */
};

/* Puts back what the journal has, on stable storage; the journal can then be removed.  May be
 * interrupted and done again.  Changes nothing where the image was written since
 * (PL_E_MISMATCH) or the journal is damaged (PL_E_CORRUPT, PL_E_FORMAT). */
int pl_undo_take_back(const struct pl_undo_source *source, struct pl_undo_facts *facts,
                      struct pl_err *e) PL_CHECK;

#endif
