/* undo.c - where the journal of a repair is, and what is put back by it. */
#include "core/graph/undo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/graph/keeper.h"
#include "core/storage/opener.h"
#include "core/storage/undo.h"

struct pl_keeper {
    struct pl_undo *undo;
    struct pl_undo_place place;
    struct pl_storage *like; /* the image's own file: the undo's, for its permissions */
    char *path;
    struct pl_keep_undo *keep;
};

int pl_undo_path(const char *image, char **path, struct pl_err *e)
{
    PL_FREE char *real = realpath(image, NULL);

    if (!real)
        return pl_fail_sys(e, errno, "%s", image);
    if (asprintf(path, "%s.undo", real) < 0)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for the name of its journal", image);
    return 0;
}

/* The path that the caller named, or the usual one; the caller frees it. */
static int choose_path(const char *image, const char *file, char **path, struct pl_err *e)
{
    if (!file)
        return pl_undo_path(image, path, e);
    *path = strdup(file);
    return *path ? 0 : pl_fail(e, PL_E_NOMEM, "%s: no memory for its name", file);
}

/* ---- keeping ---- */

static int open_journal(const char *path, struct pl_storage **out, struct pl_err *e)
{
    static const struct pl_opener opener;

    if (pl_open_path(&opener, path, PL_READ_WRITE, out, e) < 0)
        return -1;
    if (!(*out)->device)
        return 0;
    pl_storage_close(*out, NULL);
    return pl_fail(e, PL_E_INVALID, "%s: is a device, not a file for a journal", path);
}

static int open_place(void *ctx, struct pl_storage **out, struct pl_err *e)
{
    const struct pl_keeper *keeper = ctx;

    return open_journal(keeper->path, out, e);
}

static int create_place(void *ctx, struct pl_storage **out, struct pl_err *e)
{
    const struct pl_keeper *keeper = ctx;

    return pl_create_path(keeper->like, keeper->path, out, e);
}

static void remove_place(void *ctx, struct pl_storage *journal)
{
    const struct pl_keeper *keeper = ctx;

    pl_remove_path(keeper->path, journal);
}

static void free_keeper(struct pl_keeper *keeper)
{
    free(keeper->path);
    free(keeper);
}

static int new_keeper(const struct pl_open_options *options, const char *image,
                      struct pl_keeper **out, struct pl_err *e)
{
    struct pl_keeper *keeper = calloc(1, sizeof *keeper);

    if (!keeper)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a journal", image);
    keeper->keep = options->undo;
    if (choose_path(image, options->undo->file, &keeper->path, e) < 0) {
        free_keeper(keeper);
        return -1;
    }
    keeper->place = (struct pl_undo_place){ .name = keeper->path,
                                            .open = open_place,
                                            .create = create_place,
                                            .remove = remove_place,
                                            .ctx = keeper };
    if (pl_undo_new(&keeper->place, options->report, &keeper->undo, e) < 0) {
        free_keeper(keeper);
        return -1;
    }
    *out = keeper;
    return 0;
}

int pl_keeper_start(const struct pl_open_options *options, struct pl_storage **file,
                    struct pl_keeper **out, struct pl_err *e)
{
    *out = NULL;
    if (!options->undo)
        return 0;
    options->undo->kept = false;
    if ((*file)->device && !options->undo->file) {
        pl_warn(options->report,
                "%s: is a device: the repair cannot be taken back; --undo-file FILE keeps what it "
                "changes",
                (*file)->name);
        return 0;
    }
    if (new_keeper(options, (*file)->path, out, e) < 0) {
        pl_storage_close(*file, NULL);
        return -1;
    }
    (*out)->like = *file;
    if (pl_keeper_add(*out, NULL, file, e) == 0)
        return 0;
    pl_keeper_finish(*out, NULL);
    return -1;
}

int pl_keeper_add(struct pl_keeper *keeper, const char *name, struct pl_storage **file,
                  struct pl_err *e)
{
    return keeper ? pl_undo_wrap(keeper->undo, name, *file, file, e) : 0;
}

int pl_keeper_finish(struct pl_keeper *keeper, struct pl_err *e)
{
    struct pl_undo_outcome outcome;
    int result;

    if (!keeper)
        return 0;
    result = pl_undo_finish(keeper->undo, &outcome, e);
    keeper->keep->kept = outcome.kept;
    free_keeper(keeper);
    return result;
}

/* ---- taking back ---- */

struct names {
    struct pl_opener opener;
    struct pl_storage *by;
};

static int open_named(void *ctx, const char *name, struct pl_storage **out, struct pl_err *e)
{
    const struct names *names = ctx;

    return pl_open_named(&names->opener, names->by, name, PL_READ_WRITE, out, e);
}

static int put_back(struct pl_storage *file, struct pl_storage *journal,
                    const struct pl_undo_options *options, struct pl_undo_result *result,
                    struct pl_err *e)
{
    struct names names = { .opener = { .allowed = options->allowed_dirs }, .by = file };
    const struct pl_undo_source source = { .journal = journal,
                                           .file = file,
                                           .open_file = open_named,
                                           .ctx = &names,
                                           .force = options->force };
    struct pl_undo_facts facts;

    if (pl_undo_take_back(&source, &facts, e) < 0)
        return -1;
    *result = (struct pl_undo_result){ .bytes = facts.bytes,
                                       .ranges = facts.ranges,
                                       .files = facts.files,
                                       .interrupted = facts.interrupted };
    return 0;
}

static int find_journal(const char *image, const char *path, struct pl_storage **journal,
                        struct pl_err *e)
{
    if (open_journal(path, journal, e) == 0)
        return 0;
    if (e && e->kind == PL_E_NOT_FOUND)
        pl_fail(e, PL_E_NOT_FOUND, "%s: there is no repair to take back: %s does not exist", image,
                path);
    return -1;
}

int pl_undo_repair(const char *image, const struct pl_undo_options *options,
                   struct pl_undo_result *result, struct pl_err *e)
{
    static const struct pl_opener opener;
    PL_FREE char *path = NULL;
    struct pl_storage *file, *journal;
    int done;

    *result = (struct pl_undo_result){ 0 };
    if (choose_path(image, options->file, &path, e) < 0 ||
        pl_open_path(&opener, image, PL_READ_WRITE, &file, e) < 0)
        return -1;
    if (find_journal(image, path, &journal, e) < 0) {
        pl_storage_close(file, NULL);
        return -1;
    }
    done = put_back(file, journal, options, result, e);
    if (pl_storage_close(file, done < 0 ? NULL : e) < 0)
        done = -1;
    if (done == 0)
        pl_remove_path(path, journal);
    pl_storage_close(journal, NULL);
    return done;
}
