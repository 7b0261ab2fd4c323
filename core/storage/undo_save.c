/* undo_save.c - old bytes get into the journal before the changes that wait reach the files. */
#include <inttypes.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/storage/file.h"
#include "core/storage/undo_state.h"

/* ---- the journal's beginning ---- */

static int create_journal(struct pl_undo *undo, struct pl_err *e)
{
    if (undo->place->create(undo->place->ctx, &undo->journal, e) < 0) {
        pl_within(e, "keeping what the repair changes");
        return pl_hint(e, "--undo-file FILE keeps it elsewhere, --no-undo does without");
    }
    if (undo_log_begin(&undo->log, undo->journal, e) < 0)
        return -1;
    return 0;
}

static int replace_journal(struct pl_undo *undo, struct pl_storage *old, struct pl_err *e)
{
    undo->place->remove(undo->place->ctx, old);
    pl_storage_close(old, NULL);
    return create_journal(undo, e);
}

static struct undo_file *find_file(const struct pl_undo *undo, const char *name)
{
    for (unsigned i = 0; i < undo->count; i++)
        if (strcmp(undo->files[i]->name, name) == 0)
            return undo->files[i];
    return NULL;
}

/* Nobody wrote to the files since the interrupted repair did. */
static bool is_untouched(const struct pl_undo *undo, struct pl_storage *old,
                         const struct undo_journal *journal, struct pl_err *e)
{
    for (unsigned i = 0; i < journal->count; i++) {
        const struct undo_file *known = &journal->files[i];
        const struct undo_file *file = find_file(undo, known->name);

        if (file && undo_check_age(old, file->under, known->old_changed, e) < 0)
            return false;
    }
    return true;
}

/* What the journal knows of a file. */
static int take_over(struct pl_undo *undo, struct undo_file *known, uint32_t index,
                     struct pl_err *e)
{
    struct undo_file *file = find_file(undo, known->name);

    if (!file && undo_add_file(undo, known->name, &file, e) < 0)
        return -1;
    file->old_size = known->old_size;
    file->old_changed = known->old_changed;
    file->index = index;
    file->noted = true;
    file->saved = known->saved;
    known->saved = (struct pl_range_set){ 0 };
    return 0;
}

static int continue_journal(struct pl_undo *undo, struct pl_storage *old,
                            struct undo_journal *journal, struct pl_err *e)
{
    undo->journal = old;
    undo->outcome.continued = true;
    for (uint32_t i = 0; i < journal->count; i++)
        if (take_over(undo, &journal->files[i], i, e) < 0)
            return -1;
    undo->noted = journal->count;
    return undo_log_trim(&undo->log, e);
}

/* A journal that was read to its end. */
static int go_on_or_replace(struct pl_undo *undo, struct pl_storage *old,
                            struct undo_journal *journal, struct pl_err *e)
{
    struct pl_err why = { 0 };

    if (journal->taking_back) {
        pl_fail(e, PL_E_INVALID, "%s: taking back the last repair was interrupted", old->name);
        pl_storage_close(old, NULL);
        return pl_hint(e, "run platter check --undo again first");
    }
    if (!journal->done && is_untouched(undo, old, journal, &why))
        return continue_journal(undo, old, journal, e);
    undo_log_free(&undo->log);
    if (journal->done)
        pl_warn(undo->report, "%s: replaced: an earlier repair can no longer be taken back",
                old->name);
    else
        pl_warn(undo->report,
                "%s: replaced: an interrupted repair can no longer be taken back (%s)", old->name,
                why.msg);
    undo->outcome.replaced = true;
    return replace_journal(undo, old, e);
}

static int load_journal(struct pl_undo *undo, struct pl_storage *old, struct pl_err *e)
{
    struct undo_journal journal = { .name = old->name };
    struct pl_err why = { 0 };
    int result;

    if (undo_log_load(&undo->log, old, undo_journal_visit, &journal, &why) == 0) {
        result = go_on_or_replace(undo, old, &journal, e);
    } else if (why.kind == PL_E_CORRUPT) {
        undo_log_free(&undo->log);
        pl_warn(undo->report, "%s: replaced, it was of no use: %s", old->name, why.msg);
        undo->outcome.replaced = true;
        result = replace_journal(undo, old, e);
    } else {
        undo_log_free(&undo->log);
        pl_storage_close(old, NULL);
        if (e)
            *e = why;
        result = -1;
    }
    undo_journal_free(&journal);
    return result;
}

static int refuse_other_file(struct pl_storage *old, struct pl_err *e)
{
    pl_fail(e, PL_E_EXISTS, "%s: is there already, and is no undo journal", old->name);
    pl_storage_close(old, NULL);
    return pl_hint(e, "--undo-file FILE keeps what the repair changes elsewhere");
}

static int begin_journal(struct pl_undo *undo, struct pl_err *e)
{
    struct pl_storage *old;
    enum undo_start what;
    struct pl_err why = { 0 };

    if (undo->place->open(undo->place->ctx, &old, &why) < 0) {
        if (why.kind == PL_E_NOT_FOUND)
            return create_journal(undo, e);
        if (e)
            *e = why;
        return -1;
    }
    if (undo_log_look(old, &what, e) < 0) {
        pl_storage_close(old, NULL);
        return -1;
    }
    if (what == UNDO_NO_LOG)
        return refuse_other_file(old, e);
    return what == UNDO_BLANK ? replace_journal(undo, old, e) : load_journal(undo, old, e);
}

/* ---- old bytes ---- */

static int note(struct pl_undo *undo, struct undo_file *file, struct pl_err *e)
{
    struct undo_entry entry = { .type = UNDO_FILE, .file = undo->noted };

    if (file->noted)
        return 0;
    file->old_size = pl_storage_size(file->under);
    if (!pl_file_changed_at(file->under, &file->old_changed))
        file->old_changed = 0;
    file->index = undo->noted++;
    file->noted = true;
    entry.off = file->old_size;
    entry.len = strlen(file->name);
    entry.data = file->name;
    entry.more = file->old_changed;
    return undo_log_put(&undo->log, &entry, e);
}

/* The first run of a gap: zeros of any length where there is a hole, else bytes. */
static int save_run(struct pl_undo *undo, struct undo_file *file, const struct pl_range *gap,
                    uint64_t *done, struct pl_err *e)
{
    struct undo_entry entry = {
        .type = UNDO_ZEROS, .file = file->index, .off = gap->from, .len = gap->to - gap->from
    };
    bool hole = false;

    if (entry.len > UNDO_PIECE && pl_storage_map(file->under, gap->from, &entry.len, &hole, e) < 0)
        return -1;
    if (!hole) {
        entry.len = PL_MIN(entry.len, UNDO_PIECE - gap->from % UNDO_PIECE);
        if (pl_storage_read(file->under, gap->from, undo->piece, (size_t)entry.len, e) < 0)
            return -1;
        entry.data = undo->piece;
        entry.type = pl_is_zero(undo->piece, (size_t)entry.len) ? UNDO_ZEROS : UNDO_BYTES;
    }
    *done = entry.len;
    return undo_log_put(&undo->log, &entry, e);
}

static int save_range(struct pl_undo *undo, struct undo_file *file, uint64_t from, uint64_t to,
                      struct pl_err *e)
{
    struct pl_range gap;

    while (pl_range_set_gap(&file->saved, from, to, &gap)) {
        uint64_t done;

        if (save_run(undo, file, &gap, &done, e) < 0)
            return -1;
        from = gap.from + done;
        if (!pl_range_set_add(&file->saved, gap.from, from))
            return pl_fail(e, PL_E_NOMEM, "%s: no memory to note what was changed",
                           file->under->name);
    }
    return 0;
}

/* The first file that the journal has is the image's own. */
static int begin(struct pl_undo *undo, struct pl_err *e)
{
    return begin_journal(undo, e) < 0 || note(undo, undo->files[0], e) < 0 ? -1 : 0;
}

static int save(struct pl_undo *undo, struct undo_file *file, uint64_t off, uint64_t len,
                struct pl_err *e)
{
    const uint64_t from = pl_round_down(off, UNDO_PIECE);
    uint64_t to;

    if ((!undo->journal && begin(undo, e) < 0) || note(undo, file, e) < 0)
        return -1;
    to = PL_MIN(pl_round_up(off + len, UNDO_PIECE), file->old_size);
    return len > 0 && from < to ? save_range(undo, file, from, to, e) : 0;
}

static int stop(struct pl_undo *undo, struct pl_err *e)
{
    undo->broken = true;
    if (e && e->kind == PL_E_NO_SPACE)
        pl_hint(e, "nothing more was changed; --undo-file FILE keeps the undo journal elsewhere, "
                   "--no-undo does without");
    return -1;
}

static int check_broken(const struct pl_undo *undo, struct pl_err *e)
{
    return undo->broken ? pl_fail(e, PL_E_SYS, "%s: the repair was stopped by an earlier error",
                                  undo->place->name)
                        : 0;
}

int undo_save(struct pl_undo *undo, struct undo_file *file, uint64_t off, uint64_t len,
              struct pl_err *e)
{
    if (check_broken(undo, e) < 0)
        return -1;
    return save(undo, file, off, len, e) < 0 ? stop(undo, e) : 0;
}

int undo_touch(struct undo_log *log, struct timespec *touched, struct pl_err *e)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - touched->tv_sec < UNDO_TOUCH_SECONDS)
        return 0;
    *touched = now;
    return undo_log_touch(log, e);
}

int undo_secure(struct pl_undo *undo, struct pl_err *e)
{
    if (check_broken(undo, e) < 0)
        return -1;
    if (!undo->journal)
        return 0;
    if (undo_log_sync(&undo->log, e) < 0 || undo_touch(&undo->log, &undo->touched, e) < 0)
        return stop(undo, e);
    undo->changed = true;
    return 0;
}

int undo_drain(struct pl_undo *undo, struct pl_err *e)
{
    bool waiting = false;

    for (unsigned i = 0; !waiting && i < UNDO_SLOTS; i++)
        waiting = undo->slots[i].file;
    if (!waiting)
        return check_broken(undo, e);
    if (undo_secure(undo, e) < 0)
        return -1;
    for (unsigned i = 0; i < UNDO_SLOTS; i++) {
        struct undo_slot *slot = &undo->slots[i];

        if (slot->file && pl_storage_write(slot->file->under, slot->at + slot->from,
                                           slot->bytes + slot->from, slot->to - slot->from, e) < 0)
            return stop(undo, e);
        slot->file = NULL;
    }
    return 0;
}
