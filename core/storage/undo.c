/* undo.c - one repair's undo: its files, and its end. */
#include "core/storage/undo.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/undo_state.h"

int pl_undo_new(const struct pl_undo_place *place, const struct pl_report *report,
                struct pl_undo **out, struct pl_err *e)
{
    struct pl_undo *undo = calloc(1, sizeof *undo);

    if (!undo)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a journal", place->name);
    undo->place = place;
    undo->report = report;
    pl_lock_init(&undo->lock);
    *out = undo;
    return 0;
}

/* The file of that name that the journal of an interrupted repair knows, null: none. */
static struct undo_file *known_file(const struct pl_undo *undo, const char *name)
{
    for (unsigned i = 0; i < undo->count; i++)
        if (!undo->files[i]->under && strcmp(undo->files[i]->name, name) == 0)
            return undo->files[i];
    return NULL;
}

int undo_add_file(struct pl_undo *undo, const char *name, struct undo_file **out, struct pl_err *e)
{
    struct undo_file **more = NULL;
    struct undo_file *file = calloc(1, sizeof *file);

    if (file)
        file->name = strdup(name);
    if (file && file->name && undo->count < UNDO_FILES_MAX)
        more = reallocarray(undo->files, undo->count + 1, sizeof *more);
    if (!more) {
        if (file)
            free(file->name);
        free(file);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for file %u of a repair", undo->place->name,
                       undo->count);
    }
    undo->files = more;
    undo->files[undo->count++] = file;
    *out = file;
    return 0;
}

int pl_undo_wrap(struct pl_undo *undo, const char *name, struct pl_storage *under,
                 struct pl_storage **out, struct pl_err *e)
{
    struct undo_file *file;

    PL_LOCKED(&undo->lock);
    file = known_file(undo, name ? name : "");
    if ((file && undo_check_age(undo->journal, under, file->old_changed, e) < 0) ||
        (!file && undo_add_file(undo, name ? name : "", &file, e) < 0)) {
        pl_storage_close(under, NULL);
        return -1;
    }
    file->under = under;
    return undo_file_storage(undo, file, out, e);
}

static int close_files(struct pl_undo *undo, struct pl_err *e)
{
    int result = 0;

    for (unsigned i = 0; i < undo->count; i++) {
        struct undo_file *file = undo->files[i];

        if (file->under && pl_storage_close(file->under, result < 0 ? NULL : e) < 0)
            result = -1;
        pl_range_set_free(&file->saved);
        free(file->name);
        free(file);
    }
    free(undo->files);
    return result;
}

static int sync_files(const struct pl_undo *undo, struct pl_err *e)
{
    for (unsigned i = 0; i < undo->count; i++)
        if (undo->files[i]->under && pl_storage_flush(undo->files[i]->under, e) < 0)
            return -1;
    return 0;
}

/* A journal of a repair that changed nothing is of no use. */
static int seal_or_drop(struct pl_undo *undo, struct pl_err *e)
{
    bool same = !undo->changed && !undo->outcome.continued;
    int result = 0;

    if (!undo->broken && (sync_files(undo, e) < 0 || undo_seal(undo, &same, e) < 0))
        result = -1;
    if (same)
        undo->place->remove(undo->place->ctx, undo->journal);
    undo->outcome.kept = !same;
    if (pl_storage_close(undo->journal, result < 0 ? NULL : e) < 0)
        result = -1;
    return result;
}

int pl_undo_finish(struct pl_undo *undo, struct pl_undo_outcome *outcome, struct pl_err *e)
{
    int result = 0;

    if (!undo)
        return 0;
    if (undo->journal && seal_or_drop(undo, e) < 0)
        result = pl_within(e, "%s", undo->place->name);
    if (outcome)
        *outcome = undo->outcome;
    if (close_files(undo, result < 0 ? NULL : e) < 0)
        result = -1;
    for (unsigned i = 0; i < UNDO_SLOTS; i++)
        free(undo->slots[i].bytes);
    undo_log_free(&undo->log);
    pl_lock_destroy(&undo->lock);
    free(undo);
    return result;
}
