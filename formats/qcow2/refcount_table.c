/* refcount_table.c - refcount blocks and the refcount table that points at them; both grow.
 *
 * A refcount block is a cluster and so has a reference of its own, counted in a block: in itself
 * where it can lie in the range that it describes, else in one that is there already.
 *
 * The table grows by moving.  In memory it is enlarged first, which makes room for the blocks that
 * describe the new place; on disk: blocks, the whole table at its new place, the header, each
 * synced; then the old place is free.  Entries past the table's end on disk are not written before
 * that (see qcow2_write_back). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"

static void set_entry(struct qcow2 *q, uint64_t index, uint64_t off) PL_NEEDS(&q->lock)
{
    q->refcount_table[index] = off;
    q->refcount_table_dirty[index * 8 / QCOW2_SECTOR] = 1;
}

/* Fills a new block with zeros. */
static int clear_block(struct qcow2 *q, uint64_t off, struct pl_err *e) PL_NEEDS(&q->lock)
{
    for (uint32_t done = 0; done < q->cluster_size; done += q->slice) {
        uint8_t *bytes;

        if (qcow2_slice_new(q, q->refcount_cache, off + done, &bytes, e) < 0)
            return -1;
    }
    return 0;
}

/* Makes the missing block number `index` in the free cluster `cluster`, whose own count is in that
 * block or in one that exists. */
static int add_block(struct qcow2 *q, uint64_t index, uint64_t cluster, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t off = cluster << q->cluster_bits;

    if (off > QCOW2_OFFSET_MASK)
        return pl_fail(e, PL_E_LIMIT, "the file would grow past 64 PiB");
    if (qcow2_guard_metadata(q, off, q->cluster_size, e) < 0)
        return -1;
    q->file_end = PL_MAX(q->file_end, off + q->cluster_size);
    if (clear_block(q, off, e) == 0) {
        set_entry(q, index, off);
        if (qcow2_reference(q, off, 1, 1, e) == 0)
            return 0;
        set_entry(q, index, 0);
    }
    pl_table_cache_drop(q->refcount_cache, off, q->cluster_size);
    return pl_within(e, "new refcount block at 0x%" PRIx64, off);
}

/* Writes the enlarged table to its new place and makes the header point there. */
static int move_table(struct qcow2 *q, uint64_t off, uint32_t clusters, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t old_off = q->header.refcount_table_offset;
    uint32_t old_clusters = q->header.refcount_table_clusters;

    if (pl_table_cache_write_back(q->refcount_cache, e) < 0 ||
        qcow2_write_table(q, off, q->refcount_table, q->refcount_table_size, e) < 0 ||
        qcow2_sync(q, e) < 0)
        return -1;
    q->header.refcount_table_offset = off;
    q->header.refcount_table_clusters = clusters;
    if (qcow2_write_header(q, e) < 0 || qcow2_sync(q, e) < 0)
        return -1;
    memset(q->refcount_table_dirty, 0,
           pl_div_up((uint64_t)q->refcount_table_size * 8, QCOW2_SECTOR));
    return qcow2_free_later(q, old_off, old_clusters, false, e);
}

/* The fewest clusters, but more than `n`, of a table that counts the first `need` clusters of the
 * file, itself and its new blocks. */
static uint64_t table_clusters(const struct qcow2 *q, uint64_t n, uint64_t need)
{
    uint64_t per_cluster = (uint64_t)q->cluster_size / 8 * q->refcounts_per_block;

    for (;;) {
        uint64_t end = need + n + 2 * (n / q->refcounts_per_block) + 8;

        if (n * per_cluster >= end)
            return n;
        n = PL_MAX(n + 1, end / per_cluster);
    }
}

/* Makes the arrays in memory longer. */
static int enlarge(struct qcow2 *q, uint32_t entries, struct pl_err *e) PL_NEEDS(&q->lock)
{
    size_t old_flags = pl_div_up((uint64_t)q->refcount_table_size * 8, QCOW2_SECTOR);
    size_t flags = pl_div_up((uint64_t)entries * 8, QCOW2_SECTOR);
    uint64_t *table = reallocarray(q->refcount_table, entries, sizeof *table);
    uint8_t *dirty;

    if (table)
        q->refcount_table = table;
    dirty = table ? realloc(q->refcount_table_dirty, flags + 1) : NULL;
    if (!dirty)
        return pl_fail(e, PL_E_NOMEM, "no memory for %" PRIu32 " refcount table entries", entries);
    q->refcount_table_dirty = dirty;
    memset(table + q->refcount_table_size, 0,
           (size_t)(entries - q->refcount_table_size) * sizeof *table);
    memset(dirty + old_flags, 0, flags - old_flags);
    q->refcount_table_size = entries;
    return 0;
}

/* How many clusters the next table has: half as many again, if the limit lets it. */
static int next_table_clusters(const struct qcow2 *q, uint64_t need, uint64_t *clusters,
                               struct pl_err *e)
{
    uint64_t old = q->header.refcount_table_clusters;
    uint64_t max = QCOW2_REFCOUNT_TABLE_BYTES_MAX >> q->cluster_bits;
    uint64_t used = (uint64_t)q->refcount_table_size * q->refcounts_per_block;
    uint64_t least = table_clusters(q, old + 1, PL_MAX(need, used));

    if (q->growing || least > max) {
        pl_fail(e, PL_E_LIMIT,
                "the refcount table would need %" PRIu64 " bytes, more than the %" PRIu32
                " MiB that it may have: the file cannot grow any more",
                least << q->cluster_bits, QCOW2_REFCOUNT_TABLE_BYTES_MAX >> 20);
        return pl_hint(e, "convert to an image with larger clusters");
    }
    *clusters = PL_MIN(PL_MAX(least, old + old / 2), max);
    return 0;
}

/* Makes the table describe at least the first `need` clusters of the file. */
static int grow_table(struct qcow2 *q, uint64_t need, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t n = 0, off = 0;
    int r;

    if (next_table_clusters(q, need, &n, e) < 0 ||
        enlarge(q, (uint32_t)((n << q->cluster_bits) / 8), e) < 0)
        return -1;
    q->growing = true;
    r = qcow2_allocate_clusters(q, n, true, &off, NULL, e);
    if (r == 0)
        r = move_table(q, off, (uint32_t)n, e);
    q->growing = false;
    if (r < 0) {
        q->broken = true; /* memory and disk do not agree on the table's length */
        return pl_within(e, "growing the refcount table");
    }
    return 0;
}

int qcow2_add_own_block(struct qcow2 *q, uint64_t cluster, struct pl_err *e)
{
    uint64_t index = cluster / q->refcounts_per_block;

    if (index >= q->refcount_table_size)
        return grow_table(q, cluster + 1, e);
    return add_block(q, index, cluster, e);
}

int qcow2_drop_own_block(struct qcow2 *q, uint64_t cluster, struct pl_err *e)
{
    uint64_t index = cluster / q->refcounts_per_block, count;

    if (index >= q->refcount_table_size || q->refcount_table[index] != cluster << q->cluster_bits)
        return 0;
    for (uint64_t i = index * q->refcounts_per_block; i < cluster; i++) {
        if (qcow2_refcount(q, i, &count, e) < 0)
            return -1;
        if (count)
            return 0;
    }
    set_entry(q, index, 0);
    pl_table_cache_drop(q->refcount_cache, cluster << q->cluster_bits, q->cluster_size);
    return 1;
}

/* A place outside the run for block `index`, which describes a part of the run and does not exist
 * yet. */
static int add_block_outside(struct qcow2 *q, uint64_t index, uint64_t first, uint64_t count,
                             struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t low = index * q->refcounts_per_block, high = low + q->refcounts_per_block;
    struct qcow2_run run;

    if (low < first)
        return add_block(q, index, low, e);
    if (high > first + count)
        return add_block(q, index, first + count, e);
    if (qcow2_find_free(q, first + count, 1, false, &run, e) < 0)
        return -1;
    return run.count ? add_block(q, index, run.first, e) : qcow2_add_own_block(q, run.first, e);
}

int qcow2_cover(struct qcow2 *q, uint64_t first, uint64_t count, struct pl_err *e)
{
    uint64_t end = first + count, index = first / q->refcounts_per_block;

    if (end > (uint64_t)q->refcount_table_size * q->refcounts_per_block)
        return grow_table(q, end, e) < 0 ? -1 : 1;
    for (; index * q->refcounts_per_block < end; index++)
        if (!q->refcount_table[index])
            return add_block_outside(q, index, first, count, e) < 0 ? -1 : 1;
    return 0;
}
