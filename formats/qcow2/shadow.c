/* shadow.c - see shadow.h.
 *
 * A copied block needs a reference, whose count may lie in a block that must be copied first; so
 * copies are only noted when they are made, and counted one after the other (settle).  Room is
 * handed out in one direction through the file: what was passed over is not looked at again, so
 * clusters that are about to be counted are never taken twice. */
#include "formats/qcow2/shadow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"

/* A refcount block that has got a copy. */
struct moved {
    uint64_t index; /* in the refcount table */
    uint64_t old;   /* byte offset of the block that the file shows */
};

struct qcow2_shadow {
    uint64_t *table;              /* the refcount table that the file shows */
    uint32_t size;                /* its entries */
    uint64_t next;                /* the cluster from which on room is looked for */
    uint64_t file_size, file_end; /* as they were at the beginning */
    struct moved *moved;
    size_t moved_count, moved_room;
    uint64_t *tables; /* byte offsets of tables that lost a reference */
    size_t table_count, table_room;
    size_t counted;  /* so many of the copies have their reference */
    bool settling;   /* they are getting it */
    uint8_t slice[]; /* room for one slice of counts */
};

static void free_shadow(struct qcow2_shadow *s)
{
    if (!s)
        return;
    free(s->table);
    free(s->moved);
    free(s->tables);
    free(s);
}

/* ---- room ---- */

/* Whether the block of the cluster was copied, and where the one is that the file shows. */
static bool was_moved(const struct qcow2 *q, uint64_t cluster, uint64_t *old)
{
    const struct qcow2_shadow *s = q->shadow;
    const uint64_t index = cluster / q->refcounts_per_block;

    *old = index < s->size ? s->table[index] : 0;
    return *old && *old != q->refcount_table[index];
}

/* The counts of the file for the clusters that `c` has the new counts of; null: they are the same.
 */
static int old_counts(struct qcow2 *q, uint64_t cluster, const struct qcow2_counts *c,
                      const uint8_t **bytes, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const uint64_t in_slice = (uint64_t)q->slice * 8 / q->refcount_bits;
    const uint64_t slice = cluster % q->refcounts_per_block / in_slice;
    uint8_t *slice_bytes;
    uint64_t old;

    *bytes = NULL;
    if (!was_moved(q, cluster, &old))
        return 0;
    memcpy(q->shadow->slice, c->slice, q->slice);
    if (qcow2_slice(q, q->refcount_cache, old + slice * q->slice, &slice_bytes, e) < 0)
        return -1;
    *bytes = slice_bytes;
    return 0;
}

/* Looks for the end of a run of `want` free clusters among those of one slice; *run is its length
 * so far. */
static bool ends_here(const struct qcow2 *q, const struct qcow2_counts *c, const uint8_t *old,
                      uint64_t want, uint64_t *run, uint64_t *at)
{
    const uint8_t *now = old ? q->shadow->slice : c->slice;

    for (*at = 0; *at < c->count; ++*at) {
        const uint64_t i = c->first + *at;

        if (qcow2_count_get(now, q->refcount_bits, i) ||
            (old && qcow2_count_get(old, q->refcount_bits, i)))
            *run = 0;
        else if (++*run == want)
            return true;
    }
    return false;
}

/* The first `want` neighbouring clusters that are free now and in the file, among those that have a
 * refcount block. */
static int find_run(struct qcow2 *q, uint64_t want, uint64_t *first, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const uint64_t end = (uint64_t)q->refcount_table_size * q->refcounts_per_block;
    struct qcow2_shadow *s = q->shadow;
    struct qcow2_counts c;
    uint64_t run = 0, at;

    for (uint64_t cluster = s->next; cluster < end; cluster += c.count) {
        const uint8_t *old;

        if (qcow2_counts(q, cluster, &c, e) < 0 ||
            (c.slice && old_counts(q, cluster, &c, &old, e) < 0))
            return -1;
        if (!c.slice)
            run = 0;
        else if (ends_here(q, &c, old, want, &run, &at)) {
            s->next = cluster + at + 1;
            *first = s->next - want;
            return 0;
        }
    }
    return pl_fail(e, PL_E_NO_SPACE, "no %" PRIu64 " neighbouring clusters are free", want);
}

/* Room that nobody has counted yet. */
static int take_room(struct qcow2 *q, uint64_t count, uint64_t *off, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const uint64_t bytes = count << q->cluster_bits;
    uint64_t first = 0;

    if (find_run(q, count, &first, e) < 0)
        return -1;
    *off = first << q->cluster_bits;
    if (q->file->device && !pl_inside(*off, bytes, pl_storage_size(q->file)))
        return pl_fail(e, PL_E_NO_SPACE, "the device has no room for %" PRIu64 " more clusters",
                       count);
    q->file_end = PL_MAX(q->file_end, *off + bytes);
    return qcow2_guard_metadata(q, *off, bytes, e);
}

int qcow2_shadow_allocate(struct qcow2 *q, uint64_t count, uint64_t *off, struct pl_err *e)
{
    return take_room(q, count, off, e) < 0 ? -1 : qcow2_reference(q, *off, count, 1, e);
}

/* ---- blocks ---- */

static int note_moved(struct qcow2_shadow *s, uint64_t index, uint64_t old, struct pl_err *e)
{
    if (s->moved_count == s->moved_room) {
        const size_t room = 2 * s->moved_room + 64;
        struct moved *grown = reallocarray(s->moved, room, sizeof *grown);

        if (!grown)
            return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu refcount blocks", room);
        s->moved = grown;
        s->moved_room = room;
    }
    s->moved[s->moved_count++] = (struct moved){ .index = index, .old = old };
    return 0;
}

static int note_table(struct qcow2_shadow *s, uint64_t off, struct pl_err *e)
{
    if (s->table_count == s->table_room) {
        const size_t room = 2 * s->table_room + 64;
        uint64_t *grown = reallocarray(s->tables, room, sizeof *grown);

        if (!grown)
            return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu tables", room);
        s->tables = grown;
        s->table_room = room;
    }
    s->tables[s->table_count++] = off;
    return 0;
}

int qcow2_shadow_drop_table(struct qcow2 *q, uint64_t off, struct pl_err *e)
{
    return note_table(q->shadow, off, e) < 0 ? -1 : qcow2_reference(q, off, 1, -1, e);
}

static int copy_block(struct qcow2 *q, uint64_t index, uint64_t old, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t off;

    if (take_room(q, 1, &off, e) < 0 || note_moved(q->shadow, index, old, e) < 0 ||
        qcow2_fill_table(q, q->refcount_cache, off, old, e) < 0)
        return -1;
    q->refcount_table[index] = off;
    return 0;
}

/* Counts the copies; each may cause further ones. */
static int settle(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_shadow *s = q->shadow;
    int r = 0;

    s->settling = true;
    while (r == 0 && s->counted < s->moved_count) {
        const uint64_t index = s->moved[s->counted++].index;

        r = qcow2_reference(q, q->refcount_table[index], 1, 1, e);
    }
    s->settling = false;
    return r;
}

int qcow2_own_block(struct qcow2 *q, uint64_t cluster, struct pl_err *e)
{
    const struct qcow2_shadow *s = q->shadow;
    uint64_t old, index = cluster / q->refcounts_per_block;

    if (!s || index >= s->size || was_moved(q, cluster, &old) || !old)
        return 0;
    if (qcow2_refcount_block(q, cluster, &old, e) < 0 || copy_block(q, index, old, e) < 0)
        return -1;
    return s->settling ? 0 : settle(q, e);
}

/* ---- begin and end ---- */

static uint64_t block_count(const struct qcow2 *q)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < q->refcount_table_size; i++)
        count += q->refcount_table[i] != 0;
    return count;
}

/* Where the clusters end that may be in use. */
static uint64_t used_end(const struct qcow2 *q)
{
    uint64_t blocks = q->refcount_table_size;

    if (!q->file->device)
        return q->file_end >> q->cluster_bits;
    while (blocks && !q->refcount_table[blocks - 1])
        blocks--;
    return PL_MIN(blocks * q->refcounts_per_block, q->file_end >> q->cluster_bits);
}

/* Clusters that the change takes at most, blocks and table among them.  Runs may miss some places;
 * the table may grow before the change, and stand where room was looked for. */
static uint64_t clusters_needed(const struct qcow2 *q, struct qcow2_shadow_need need)
{
    const uint64_t contiguous = need.contiguous + 2 * (uint64_t)q->header.refcount_table_clusters;
    const uint64_t count = need.tables + 2 * contiguous + block_count(q);

    return count + 2 * (count / q->refcounts_per_block) + 8;
}

uint64_t qcow2_shadow_room(const struct qcow2 *q, struct qcow2_shadow_need need)
{
    return clusters_needed(q, need) << q->cluster_bits;
}

/* Makes sure that enough clusters have refcount blocks: none are added during the change. */
static int cover(struct qcow2 *q, struct qcow2_shadow_need need, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const uint64_t first = used_end(q);
    bool added = false;
    int r = 1;

    while (r == 1) {
        uint64_t count = clusters_needed(q, need);

        if (q->file->device)
            count = PL_MIN(count, (q->file_end >> q->cluster_bits) - first);
        r = count ? qcow2_cover(q, first, count, e) : 0;
        added = added || r == 1;
    }
    if (r < 0 || !added)
        return r;
    return qcow2_write_back(q, true, e);
}

int qcow2_shadow_begin(struct qcow2 *q, struct qcow2_shadow_need need, struct pl_err *e)
{
    struct qcow2_shadow *s;

    if (cover(q, need, e) < 0)
        return -1;
    s = calloc(1, sizeof *s + q->slice);
    if (!s || !(s->table = calloc((size_t)q->refcount_table_size + 1, sizeof *s->table))) {
        free_shadow(s);
        return pl_fail(e, PL_E_NOMEM, "no memory for a refcount table of %" PRIu32 " entries",
                       q->refcount_table_size);
    }
    s->size = q->refcount_table_size;
    memcpy(s->table, q->refcount_table, s->size * sizeof *s->table);
    s->next = q->free_hint;
    s->file_size = pl_storage_size(q->file);
    s->file_end = q->file_end;
    q->shadow = s;
    return 0;
}

/* Cuts off what was written behind the file's old end.  Where that fails file_end stays: room
 * behind it does not read as zeros any more. */
static void cut_file(struct qcow2 *q, const struct qcow2_shadow *s) PL_NEEDS(&q->lock)
{
    struct pl_err ignored;

    if (q->file->device || pl_storage_size(q->file) <= s->file_size ||
        pl_storage_resize(q->file, s->file_size, &ignored) == 0)
        q->file_end = s->file_end;
}

void qcow2_shadow_abort(struct qcow2 *q)
{
    struct qcow2_shadow *s = pl_take(q->shadow);

    cut_file(q, s);
    memcpy(q->refcount_table, s->table, s->size * sizeof *s->table);
    pl_table_cache_drop(q->refcount_cache, 0, PL_OFFSET_MAX);
    free_shadow(s);
}

/* Writes the new structure; *table is where the refcount table is. */
static int write_counts(struct qcow2 *q, uint64_t *table, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_shadow *s = q->shadow;
    const uint32_t clusters = q->header.refcount_table_clusters;

    if (qcow2_shadow_allocate(q, clusters, table, e) < 0 ||
        qcow2_reference(q, q->header.refcount_table_offset, clusters, -1, e) < 0)
        return -1;
    for (size_t i = 0; i < s->moved_count; i++) /* which makes it longer */
        if (qcow2_shadow_drop_table(q, s->moved[i].old, e) < 0)
            return -1;
    if (pl_table_cache_write_back(q->refcount_cache, e) < 0 ||
        qcow2_write_table(q, *table, q->refcount_table, q->refcount_table_size, e) < 0 ||
        qcow2_cover_file(q, e) < 0)
        return -1;
    return qcow2_sync(q, e);
}

/* ---- what is free afterwards ---- */

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Tables keep their blocks on the host: the next change puts others there, and holes all over the
 * file cost more time than the change itself. */
static bool was_table(const struct qcow2_shadow *s, uint64_t off)
{
    return s->table_count &&
           bsearch(&off, s->tables, s->table_count, sizeof off, by_number) != NULL;
}

static void give_back(struct qcow2 *q, uint64_t first, uint64_t count)
{
    const uint64_t off = first << q->cluster_bits;
    struct pl_err ignored; /* the host may refuse: they are free all the same */
    uint64_t size;

    if (!count)
        return;
    size = pl_storage_size(q->file);
    if (off < size && pl_storage_discard(q->file, off, PL_MIN(count << q->cluster_bits, size - off),
                                         &ignored) < 0)
        return;
}

/* Gives the host what one slice of an old block counts and its copy does not. */
static int give_back_slice(struct qcow2 *q, uint64_t old, uint64_t cluster) PL_NEEDS(&q->lock)
{
    const struct qcow2_shadow *s = q->shadow;
    PL_FREE uint8_t *bytes = malloc(q->slice);
    struct qcow2_counts c;
    uint64_t run = 0;

    if (!bytes || pl_storage_read_padded(q->file, old, bytes, q->slice, NULL) < 0 ||
        qcow2_counts(q, cluster, &c, NULL) < 0)
        return -1;
    memcpy(q->shadow->slice, c.slice, q->slice);
    for (uint64_t i = 0; i < c.count; i++) {
        const uint64_t off = (cluster + i) << q->cluster_bits;
        const bool freed = qcow2_count_get(bytes, q->refcount_bits, i) &&
                           !qcow2_count_get(s->slice, q->refcount_bits, i) && !was_table(s, off);

        if (!freed)
            give_back(q, cluster + i - run, run);
        run = freed ? run + 1 : 0;
    }
    give_back(q, cluster + c.count - run, run);
    return 0;
}

/* The clusters that the old state alone used. */
static void give_back_all(struct qcow2 *q) PL_NEEDS(&q->lock)
{
    const struct qcow2_shadow *s = q->shadow;
    const uint64_t in_slice = (uint64_t)q->slice * 8 / q->refcount_bits;

    if (s->table_count)
        qsort(s->tables, s->table_count, sizeof *s->tables, by_number);
    for (size_t i = 0; i < s->moved_count; i++) {
        const uint64_t first = s->moved[i].index * q->refcounts_per_block;

        for (uint64_t k = 0; k < q->cluster_size / q->slice; k++)
            if (give_back_slice(q, s->moved[i].old + k * q->slice, first + k * in_slice) < 0)
                return;
    }
}

/* The write that shows it all. */
static int show(struct qcow2 *q, const struct qcow2_header *header, uint64_t table,
                struct pl_err *e) PL_NEEDS(&q->lock)
{
    const uint32_t clusters = q->header.refcount_table_clusters;

    q->header = *header;
    q->header.refcount_table_offset = table;
    q->header.refcount_table_clusters = clusters;
    if (qcow2_write_header(q, e) == 0 && qcow2_sync(q, e) == 0)
        return 0;
    q->broken = true; /* nobody knows which header the file has */
    return -1;
}

int qcow2_shadow_commit(struct qcow2 *q, const struct qcow2_header *header, struct pl_err *e)
{
    const uint64_t flags = pl_div_up((uint64_t)q->refcount_table_size * 8, QCOW2_SECTOR);
    uint64_t table;

    if (write_counts(q, &table, e) < 0) {
        qcow2_shadow_abort(q);
        return -1;
    }
    if (show(q, header, table, e) == 0) {
        memset(q->refcount_table_dirty, 0, flags);
        pl_table_cache_drop(q->l2_cache, 0, PL_OFFSET_MAX);
        give_back_all(q);
    }
    free_shadow(pl_take(q->shadow));
    return q->broken ? -1 : 0;
}
