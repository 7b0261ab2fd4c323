/* undo_back.c - puts back what a journal has.
 *
 * Nothing is changed before all of this holds: the journal is whole, and every file is as the
 * repair left it.  Then the journal says that it is being taken back, which is synced: a second go
 * finds files that are in part as they were before, and can tell by their time of change alone that
 * nobody else wrote to them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/file.h"
#include "core/storage/undo_state.h"

struct back {
    const struct pl_undo_source *source;
    struct undo_log log;
    struct undo_journal journal;
    struct pl_undo_facts *facts;
    unsigned seals; /* ends that were seen; the last one counts */
    uint64_t left;  /* digests that were compared */
    struct timespec touched;
};

static struct pl_storage *file_of(const struct back *b, uint32_t index)
{
    return b->journal.files[index].under;
}

static int open_files(struct back *b, struct pl_err *e)
{
    const struct pl_undo_source *source = b->source;

    for (unsigned i = 0; i < b->journal.count; i++) {
        struct undo_file *file = &b->journal.files[i];

        if (i == 0)
            file->under = source->file;
        else if (source->open_file(source->ctx, file->name, &file->under, e) < 0)
            return pl_within(e, "%s", source->journal->name);
    }
    return 0;
}

static void close_files(struct back *b)
{
    for (unsigned i = 1; i < b->journal.count; i++)
        pl_storage_close(b->journal.files[i].under, NULL);
}

/* ---- is everything as the repair left it? ---- */

static int refuse_size(struct pl_storage *st, uint64_t size, uint64_t wanted, struct pl_err *e)
{
    pl_fail(e, PL_E_MISMATCH,
            "%s: was written to after the repair: it has %" PRIu64
            " bytes, the repair left %" PRIu64,
            st->name, size, wanted);
    return pl_hint(e, "the repair can no longer be taken back");
}

static int check_left(const struct back *b, uint32_t index, struct pl_err *e)
{
    struct pl_storage *st = file_of(b, index);
    const struct undo_left *left = &b->journal.left[index];
    uint64_t changed;

    if (pl_storage_size(st) != left->size)
        return refuse_size(st, pl_storage_size(st), left->size, e);
    if (b->source->force || !left->changed || !pl_file_changed_at(st, &changed) ||
        changed == left->changed)
        return 0;
    return undo_written_since(st, changed, e);
}

static int check_file(const struct back *b, uint32_t index, struct pl_err *e)
{
    if (b->journal.done && !b->journal.taking_back)
        return check_left(b, index, e);
    if (b->source->force)
        return 0;
    return undo_check_age(b->source->journal, file_of(b, index),
                          b->journal.files[index].old_changed, e);
}

static int compare_range(void *ctx, const struct undo_entry *entry, struct pl_err *e)
{
    struct back *b = ctx;
    char now[UNDO_DIGEST];
    struct pl_storage *st;

    if (entry->type == UNDO_LEFT_FILE && entry->file == 0)
        b->seals++;
    if (entry->type != UNDO_LEFT || b->seals < b->journal.seals)
        return 0;
    b->left++;
    st = file_of(b, entry->file);
    if (undo_digest(st, entry->off, entry->len, b->journal.left[entry->file].size, now, e) < 0)
        return -1;
    if (memcmp(now, entry->data, UNDO_DIGEST) == 0)
        return 0;
    pl_fail(e, PL_E_MISMATCH,
            "%s: was written to after the repair: its %" PRIu64 " bytes at 0x%" PRIx64
            " are not what the repair left",
            st->name, entry->len, entry->off);
    return pl_hint(e, "the repair can no longer be taken back");
}

static int count_range(void *ctx, const struct undo_entry *entry, struct pl_err *e)
{
    struct back *b = ctx;

    (void)e;
    if (entry->type == UNDO_BYTES || entry->type == UNDO_ZEROS) {
        b->facts->ranges++;
        b->facts->bytes += entry->len;
    }
    return 0;
}

static int check_all(struct back *b, struct pl_err *e)
{
    for (uint32_t i = 0; i < b->journal.count; i++)
        if (check_file(b, i, e) < 0)
            return -1;
    if (undo_log_walk(&b->log, count_range, b, e) < 0)
        return -1;
    if (!b->journal.done || b->journal.taking_back)
        return 0;
    if (undo_log_walk(&b->log, compare_range, b, e) < 0)
        return -1;
    if (b->left < b->facts->ranges)
        return pl_fail(e, PL_E_CORRUPT, "%s: has %" PRIu64 " digests for %" PRIu64 " ranges",
                       b->source->journal->name, b->left, b->facts->ranges);
    return 0;
}

/* ---- the way back ---- */

static int say_so(struct back *b, struct pl_err *e)
{
    const struct undo_entry entry = { .type = UNDO_TAKING_BACK };

    return undo_log_trim(&b->log, e) < 0 || undo_log_put(&b->log, &entry, e) < 0 ||
                   undo_log_sync(&b->log, e) < 0
               ? -1
               : 0;
}

static int set_sizes(struct back *b, bool grow, struct pl_err *e)
{
    for (uint32_t i = 0; i < b->journal.count; i++) {
        const uint64_t old = b->journal.files[i].old_size, now = pl_storage_size(file_of(b, i));

        if ((grow ? now < old : now > old) && pl_storage_resize(file_of(b, i), old, e) < 0)
            return -1;
    }
    return 0;
}

static int put_back(void *ctx, const struct undo_entry *entry, struct pl_err *e)
{
    struct back *b = ctx;

    if (undo_touch(&b->log, &b->touched, e) < 0)
        return -1;
    if (entry->type == UNDO_BYTES)
        return pl_storage_write(file_of(b, entry->file), entry->off, entry->data,
                                (size_t)entry->len, e);
    if (entry->type == UNDO_ZEROS)
        return pl_storage_zero(file_of(b, entry->file), entry->off, entry->len, e);
    return 0;
}

static int flush_all(struct back *b, struct pl_err *e)
{
    for (uint32_t i = 0; i < b->journal.count; i++)
        if (pl_storage_flush(file_of(b, i), e) < 0)
            return -1;
    return 0;
}

static int take_back(struct back *b, struct pl_err *e)
{
    if (open_files(b, e) < 0 || check_all(b, e) < 0 || say_so(b, e) < 0)
        return -1;
    if (set_sizes(b, true, e) < 0 || undo_log_walk(&b->log, put_back, b, e) < 0 ||
        set_sizes(b, false, e) < 0 || flush_all(b, e) < 0) {
        pl_within(e, "taking back a repair");
        return pl_hint(e, "it can be run again to put back the rest");
    }
    b->facts->files = b->journal.count;
    b->facts->interrupted = !b->journal.done;
    return 0;
}

int pl_undo_take_back(const struct pl_undo_source *source, struct pl_undo_facts *facts,
                      struct pl_err *e)
{
    struct back b = { .source = source,
                      .journal = { .name = source->journal->name },
                      .facts = facts };
    enum undo_start what;
    int result;

    *facts = (struct pl_undo_facts){ 0 };
    if (undo_log_look(source->journal, &what, e) < 0)
        return -1;
    if (what == UNDO_BLANK) { /* a crash came before the repair changed anything */
        facts->interrupted = true;
        return 0;
    }
    result = undo_log_load(&b.log, source->journal, undo_journal_visit, &b.journal, e);
    if (result == 0)
        result = take_back(&b, e);
    close_files(&b);
    undo_journal_free(&b.journal);
    undo_log_free(&b.log);
    return result;
}
