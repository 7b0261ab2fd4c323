/* snapshot_change.c - takes, applies, deletes and renames internal snapshots: the driver's slots.
 *
 * Taking one hands the disk's L1 table and, as far as their copied flags must change, its L2 tables
 * over to the snapshot; the disk gets copies, whose flags say that everything is shared.  Applying
 * one gives the disk such copies of the snapshot's tables, and releases its own.  Deleting one
 * releases its tables; then the disk's flags follow the counts.  Each is one change of shadow.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/shadow.h"
#include "formats/qcow2/snapshot.h"

/* One of the four under way. */
struct change {
    struct qcow2_snapshot *list; /* the table of the file ... */
    size_t count;
    uint64_t bytes;                     /* ... and its length there */
    const struct qcow2_snapshot *which; /* the one that is meant; null: a new one */
    uint64_t *which_l1;                 /* its L1 table */
    struct qcow2_header header;         /* as it shall be */
    uint64_t *l1;                       /* the disk's new L1 table; null: it keeps its own */
    struct qcow2_snapshot_draft draft;  /* raw null: the table stays */
    uint64_t room;                      /* bytes that it may take */
};

/* A change needs room for what it replaces before it can free anything. */
static void hint_at_room(const struct qcow2 *q, const struct change *c, struct pl_err *e)
{
    if (e && e->kind == PL_E_NO_SPACE && !q->broken)
        pl_hint(e,
                "nothing has changed; make %" PRIu64
                " KiB of room for new tables, then run it again",
                c->room / 1024);
}

/* Ends it with the result r, which it returns. */
static int end_change(struct qcow2 *q, struct change *c, int r, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (r < 0)
        hint_at_room(q, c, e);
    if (q->shadow)
        qcow2_shadow_abort(q);
    free(c->list);
    free(c->which_l1);
    free(c->l1);
    free(c->draft.raw);
    return r;
}

static int check_kind(const struct qcow2 *q, struct pl_err *e)
{
    if (qcow2_check_writable(q, e) < 0)
        return -1;
    if (!qcow2_has_data_file(q))
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED, "an image with an external data file cannot have snapshots");
    return pl_hint(e, "platter snapshot --external keeps the states in files of their own");
}

/* Loads the table; finds the snapshot of that name or id, unless it is null. */
static int prepare(struct qcow2 *q, struct change *c, const char *name, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    *c = (struct change){ 0 };
    if (check_kind(q, e) < 0 || qcow2_settle(q, e) < 0 ||
        qcow2_clear_autoclear(q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0 ||
        qcow2_load_snapshots(q, &c->list, &c->count, &c->bytes, e) < 0)
        return -1;
    if (!name)
        return 0;
    c->which = qcow2_find_snapshot(c->list, c->count, name);
    if (!c->which)
        return pl_fail(e, PL_E_NOT_FOUND, "there is no snapshot '%s' in it", name);
    return qcow2_load_snapshot_l1(q, c->which, &c->which_l1, e);
}

static uint64_t l1_clusters(const struct qcow2 *q, uint32_t entries)
{
    return pl_div_up(8 * (uint64_t)entries, q->cluster_size);
}

/* Begins, with room for copies of the L2 tables that `l1` names. */
static int begin(struct qcow2 *q, struct change *c, const uint64_t *l1, uint32_t entries,
                 struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_shadow_need need = {
        .contiguous = l1_clusters(q, entries) + pl_div_up(c->bytes, q->cluster_size) + 2,
    };

    need.contiguous += pl_div_up(c->count * QCOW2_SNAPSHOT_EXTRA_BYTES, q->cluster_size);
    if (qcow2_count_tables(q, l1, entries, &need.tables, e) < 0)
        return -1;
    c->room = qcow2_shadow_room(q, need);
    if (qcow2_shadow_begin(q, need, e) < 0)
        return -1;
    c->header = q->header;
    return 0;
}

/* A table for the disk, of `entries` entries. */
static int make_l1(struct change *c, uint32_t entries, struct pl_err *e)
{
    c->l1 = calloc((size_t)entries + 1, sizeof *c->l1);
    c->header.l1_size = entries;
    return c->l1 ? 0
                 : pl_fail(e, PL_E_NOMEM, "no memory for an L1 table of %" PRIu32 " entries",
                           entries);
}

/* Puts it into new clusters. */
static int write_l1(struct qcow2 *q, struct change *c, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const uint32_t entries = c->header.l1_size;
    uint64_t off;

    if (!entries)
        return 0;
    if (qcow2_shadow_allocate(q, l1_clusters(q, entries), &off, e) < 0 ||
        qcow2_write_table(q, off, c->l1, entries, e) < 0)
        return pl_within(e, "new L1 table");
    c->header.l1_table_offset = off;
    return 0;
}

/* Gives up the clusters of an L1 table. */
static int drop_l1(struct qcow2 *q, uint64_t off, uint32_t entries, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    return entries ? qcow2_reference(q, off, l1_clusters(q, entries), -1, e) : 0;
}

/* Puts all snapshots but `without` into a new table, one of them under another name. */
static int draft_table(struct qcow2 *q, struct change *c, const struct qcow2_snapshot *without,
                       const char *new_name, struct pl_err *e)
{
    if (qcow2_draft_begin(&c->draft, c->bytes, c->count, e) < 0)
        return -1;
    for (size_t i = 0; i < c->count; i++) {
        const struct qcow2_snapshot *s = &c->list[i];

        if (s != without &&
            qcow2_draft_keep(q, &c->draft, s, s == c->which ? new_name : NULL, e) < 0)
            return -1;
    }
    return 0;
}

static int write_draft(struct qcow2 *q, struct change *c, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const struct qcow2_header *old = &q->header;

    if (qcow2_draft_write(q, &c->draft, &c->header, e) < 0)
        return -1;
    return old->nb_snapshots ? qcow2_reference(q, old->snapshots_offset,
                                               pl_div_up(c->bytes, q->cluster_size), -1, e)
                             : 0;
}

/* The disk's L1 table in memory is the new one. */
static void use_l1(struct qcow2 *q, struct change *c, uint8_t *dirty) PL_NEEDS(&q->lock)
{
    free(q->l1);
    free(q->l1_dirty);
    q->l1 = pl_take(c->l1);
    q->l1_dirty = dirty;
    q->l1_size = c->header.l1_size;
}

/* Shows it all. */
static int commit(struct qcow2 *q, struct change *c, struct pl_err *e) PL_NEEDS(&q->lock)
{
    PL_FREE uint8_t *dirty = calloc(1, (size_t)c->header.l1_size * 8 / QCOW2_SECTOR + 2);

    if (!dirty)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L1 table");
    if ((c->draft.raw && write_draft(q, c, e) < 0) || qcow2_shadow_commit(q, &c->header, e) < 0)
        return -1;
    if (c->l1)
        use_l1(q, c, pl_take(dirty));
    return 0;
}

/* ---- create ---- */

static int check_new_name(const struct change *c, const char *name, struct pl_err *e)
{
    if (!*name || strnlen(name, sizeof c->list->shown.name) == sizeof c->list->shown.name)
        return pl_fail(e, PL_E_INVALID, "the name of a snapshot must have 1 to %zu bytes",
                       sizeof c->list->shown.name - 1);
    for (size_t i = 0; i < c->count; i++)
        if (&c->list[i] != c->which && strcmp(c->list[i].shown.name, name) == 0)
            return pl_fail(e, PL_E_EXISTS, "there is a snapshot '%s' in it already", name);
    return 0;
}

/* One more than the highest id that is a number, as QEMU chooses it. */
static void choose_id(const struct change *c, struct pl_snapshot *facts)
{
    unsigned long long highest = 0;

    for (size_t i = 0; i < c->count; i++) {
        const unsigned long long id = strtoull(c->list[i].shown.id, NULL, 10);

        highest = PL_MAX(highest, id);
    }
    snprintf(facts->id, sizeof facts->id, "%llu", highest + 1);
}

static int create(struct qcow2 *q, struct change *c, struct pl_snapshot *facts, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    if (check_new_name(c, facts->name, e) < 0)
        return -1;
    choose_id(c, facts);
    facts->disk_size = q->header.size;
    if (begin(q, c, q->l1, q->l1_size, e) < 0 || make_l1(c, q->l1_size, e) < 0 ||
        qcow2_share_tables(q, q->l1, q->l1_size, c->l1, e) < 0 || write_l1(q, c, e) < 0 ||
        draft_table(q, c, NULL, NULL, e) < 0)
        return -1;
    qcow2_draft_add(&c->draft, facts, q->header.l1_table_offset, q->l1_size);
    return commit(q, c, e);
}

int qcow2_snapshot_create(void *state, const struct pl_snapshot *facts, struct pl_err *e)
{
    struct pl_snapshot own = *facts;
    struct qcow2 *q = state;
    struct change c;
    int r;

    PL_LOCKED(&q->lock);
    r = prepare(q, &c, NULL, e);
    if (r == 0)
        r = create(q, &c, &own, e);
    return end_change(q, &c, r, e);
}

/* ---- apply ---- */

static int check_size(const struct qcow2 *q, const struct change *c, struct pl_err *e)
{
    if (c->which->shown.disk_size == q->header.size || q->header.version >= 3)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED,
            "its disk has %" PRIu64 " bytes instead of %" PRIu64
            ", but an image of version 2 that has snapshots cannot be resized",
            c->which->shown.disk_size, q->header.size);
    return pl_hint(e, "platter amend -o compat=1.1 makes it an image of version 3");
}

/* The old tables go first: their references may be what is in the way of new ones. */
static int apply(struct qcow2 *q, struct change *c, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const struct qcow2_snapshot *s = c->which;

    if (begin(q, c, c->which_l1, s->l1_size, e) < 0 || make_l1(c, s->l1_size, e) < 0 ||
        qcow2_release_tables(q, q->l1, q->l1_size, e) < 0 ||
        qcow2_share_tables(q, c->which_l1, s->l1_size, c->l1, e) < 0 || write_l1(q, c, e) < 0 ||
        drop_l1(q, q->header.l1_table_offset, q->l1_size, e) < 0)
        return -1;
    if (s->shown.disk_size != q->header.size && draft_table(q, c, NULL, NULL, e) < 0)
        return -1;
    c->header.size = s->shown.disk_size;
    return commit(q, c, e);
}

int qcow2_snapshot_apply(void *state, const char *name, uint64_t *size, struct pl_err *e)
{
    struct qcow2_kept_bitmaps kept = { 0 };
    struct qcow2 *q = state;
    struct change c;
    size_t bitmaps;
    int r;

    pl_lock_take(&q->lock);
    r = prepare(q, &c, name, e);
    if (r == 0)
        r = check_size(q, &c, e);
    if (r == 0)
        r = qcow2_begin_change(q, e);
    if (r == 0 && c.which->shown.disk_size != q->header.size)
        r = qcow2_keep_bitmaps(q, c.which->shown.disk_size, &kept, e);
    if (r == 0)
        r = apply(q, &c, e);
    r = end_change(q, &c, r, e);
    *size = q->header.size;
    pl_lock_drop(&q->lock);
    bitmaps = kept.count;
    if (qcow2_restore_bitmaps(q, &kept, r == 0 ? e : NULL) < 0)
        r = -1;
    return r == 0 && bitmaps ? qcow2_flush(q, e) : r;
}

/* ---- delete ---- */

static int remove_snapshot(struct qcow2 *q, struct change *c, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const struct qcow2_snapshot *s = c->which;
    bool changed;

    if (begin(q, c, q->l1, q->l1_size, e) < 0 || make_l1(c, q->l1_size, e) < 0 ||
        qcow2_release_tables(q, c->which_l1, s->l1_size, e) < 0 ||
        drop_l1(q, s->l1_table_offset, s->l1_size, e) < 0)
        return -1;
    memcpy(c->l1, q->l1, q->l1_size * sizeof *c->l1);
    if (qcow2_follow_counts(q, c->l1, q->l1_size, &changed, e) < 0)
        return -1;
    if (!changed) {
        free(pl_take(c->l1));
    } else if (write_l1(q, c, e) < 0 || drop_l1(q, q->header.l1_table_offset, q->l1_size, e) < 0) {
        return -1;
    }
    return draft_table(q, c, s, NULL, e) < 0 ? -1 : commit(q, c, e);
}

int qcow2_snapshot_delete(void *state, const char *name, struct pl_err *e)
{
    struct qcow2 *q = state;
    struct change c;
    int r;

    PL_LOCKED(&q->lock);
    r = prepare(q, &c, name, e);
    if (r == 0)
        r = remove_snapshot(q, &c, e);
    return end_change(q, &c, r, e);
}

/* ---- rename ---- */

int qcow2_snapshot_rename(void *state, const char *name, const char *new_name, struct pl_err *e)
{
    struct qcow2 *q = state;
    struct change c;
    int r;

    PL_LOCKED(&q->lock);
    r = prepare(q, &c, name, e);
    if (r == 0)
        r = check_new_name(&c, new_name, e);
    if (r == 0)
        r = begin(q, &c, NULL, 0, e);
    if (r == 0)
        r = draft_table(q, &c, NULL, new_name, e);
    if (r == 0)
        r = commit(q, &c, e);
    return end_change(q, &c, r, e);
}
