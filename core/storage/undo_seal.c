/* undo_seal.c - the end of a journal: what the repair left, so that it can be told whether somebody
 * wrote to the image since. */
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/file.h"
#include "core/storage/undo_state.h"

struct seal {
    struct pl_undo *undo;
    struct undo_file **by_index; /* null: a file that this repair did not open */
    uint64_t *end;               /* sizes now, by the same index */
    bool same;
};

static int seal_range(void *ctx, const struct undo_entry *entry, struct pl_err *e)
{
    struct seal *s = ctx;
    char before[UNDO_DIGEST], now[UNDO_DIGEST];
    struct undo_entry left = {
        .type = UNDO_LEFT, .file = entry->file, .off = entry->off, .len = entry->len, .data = now
    };
    struct undo_file *file;
    uint64_t end, inside;

    if (entry->type != UNDO_BYTES && entry->type != UNDO_ZEROS)
        return 0;
    file = s->by_index[entry->file];
    end = s->end[entry->file];
    inside = entry->off < end ? PL_MIN(entry->len, end - entry->off) : 0;
    if (undo_digest_bytes(entry->type == UNDO_BYTES ? entry->data : NULL, inside, before, e) < 0 ||
        undo_digest(file->under, entry->off, entry->len, end, now, e) < 0)
        return -1;
    if (memcmp(before, now, UNDO_DIGEST) != 0)
        s->same = false;
    return undo_log_put(&s->undo->log, &left, e);
}

static int seal_file(struct seal *s, struct undo_file *file, struct pl_err *e)
{
    struct undo_entry left = { .type = UNDO_LEFT_FILE, .file = file->index };

    left.off = s->end[file->index] = pl_storage_size(file->under);
    if (!pl_file_changed_at(file->under, &left.more))
        left.more = 0;
    if (left.off != file->old_size)
        s->same = false;
    s->by_index[file->index] = file;
    return undo_log_put(&s->undo->log, &left, e);
}

/* False: a file that an interrupted repair changed was not opened by this one. */
static bool knows_all(const struct pl_undo *undo)
{
    for (unsigned i = 0; i < undo->count; i++)
        if (undo->files[i]->noted && !undo->files[i]->under)
            return false;
    return true;
}

static int seal(struct seal *s, struct pl_err *e)
{
    struct pl_undo *undo = s->undo;
    const struct undo_entry done = { .type = UNDO_DONE };

    if (undo_log_sync(&undo->log, e) < 0)
        return -1;
    for (unsigned i = 0; i < undo->count; i++)
        if (undo->files[i]->noted && seal_file(s, undo->files[i], e) < 0)
            return -1;
    if (undo_log_walk(&undo->log, seal_range, s, e) < 0 || undo_log_put(&undo->log, &done, e) < 0)
        return -1;
    return undo_log_sync(&undo->log, e);
}

int undo_seal(struct pl_undo *undo, bool *same, struct pl_err *e)
{
    PL_FREE struct undo_file **by_index = calloc(undo->noted + 1, sizeof *by_index);
    PL_FREE uint64_t *end = calloc(undo->noted + 1, sizeof *end);
    struct seal s = { .undo = undo, .by_index = by_index, .end = end, .same = true };

    if (!by_index || !end)
        return pl_fail(e, PL_E_NOMEM, "no memory for the files of a repair");
    if (!knows_all(undo)) {
        *same = false;
        return 0;
    }
    if (seal(&s, e) < 0)
        return -1;
    *same = s.same;
    return 0;
}
