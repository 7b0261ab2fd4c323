/* rebuild.c - a new refcount structure, for images whose own cannot be trusted.
 *
 * Blocks and table are written behind everything else, so that nothing is overwritten that a
 * damaged table may still have named; one write of the header then shows them.  The old structure
 * is free space afterwards. A device cannot grow: there the first free run large enough is taken.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/check.h"

/* The new structure: the table, then its blocks, in one run of clusters. */
struct structure {
    uint64_t first; /* cluster */
    uint64_t table_clusters;
    uint64_t blocks;
    uint64_t entries; /* of the table that are needed */
};

/* Whether a cluster that block `index` counts is in use, the new structure aside. */
static bool is_needed(const struct qcow2_check *c, uint64_t index)
{
    uint64_t per_block = c->q->refcounts_per_block, first = index * per_block;
    uint64_t end = PL_MIN(first + per_block, c->refs.clusters);

    for (uint64_t i = first; i < end; i++) {
        if (!c->refs.page[i / QCOW2_TALLY_PAGE])
            i |= QCOW2_TALLY_PAGE - 1;
        else if (qcow2_tally_get(&c->refs, i))
            return true;
    }
    return false;
}

static bool covers(uint64_t first, uint64_t count, uint64_t other, uint64_t other_count)
{
    return first < other + other_count && other < first + count;
}

static uint64_t count_blocks(const struct qcow2_check *c, const struct structure *s)
{
    uint64_t per_block = c->q->refcounts_per_block, n = 0;

    for (uint64_t i = 0; i < s->entries; i++)
        n += covers(s->first, s->table_clusters + s->blocks, i * per_block, per_block) ||
             is_needed(c, i);
    return n;
}

/* The first cluster of a run of `count` that nothing uses; on a device it must be inside. */
static uint64_t find_run(const struct qcow2_check *c, uint64_t count)
{
    uint64_t run = 0, end = pl_div_up(c->file_size, c->q->cluster_size);

    if (!c->q->file->device)
        return qcow2_tally_get(&c->refs, end) ? end + 1 : end;
    for (uint64_t i = 0; i < end; i++) {
        run = qcow2_tally_get(&c->refs, i) ? 0 : run + 1;
        if (run == count)
            return i + 1 - count;
    }
    return end;
}

/* Grows the structure until it counts itself. */
static int plan(const struct qcow2_check *c, struct structure *s, struct pl_err *e)
{
    const struct qcow2 *q = c->q;

    *s = (struct structure){ .table_clusters = 1, .blocks = 1 };
    for (;;) {
        uint64_t total = s->table_clusters + s->blocks, blocks, table;

        s->first = find_run(c, total);
        s->entries = pl_div_up(PL_MAX(s->first + total, c->refs.clusters), q->refcounts_per_block);
        table = pl_div_up(8 * s->entries, q->cluster_size);
        if (table << q->cluster_bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX)
            return pl_fail(e, PL_E_LIMIT,
                           "the reference counts of a file of %" PRIu64 " bytes need a table of "
                           "more than 8 MiB",
                           c->file_size);
        blocks = count_blocks(c, s);
        if (blocks <= s->blocks && table <= s->table_clusters)
            return 0;
        s->blocks = PL_MAX(s->blocks, blocks);
        s->table_clusters = PL_MAX(s->table_clusters, table);
    }
}

static uint64_t count_of(const struct qcow2_check *c, const struct structure *s, uint64_t cluster)
{
    if (covers(s->first, s->table_clusters + s->blocks, cluster, 1))
        return 1;
    return PL_MIN(qcow2_tally_get(&c->refs, cluster), c->q->refcount_max);
}

/* Writes the blocks that are needed and fills the table.  Blocks that the plan has too many of are
 * written as blocks for what follows the file. */
static int write_blocks(const struct qcow2_check *c, const struct structure *s, uint64_t *table,
                        struct pl_err *e)
{
    const struct qcow2 *q = c->q;
    uint64_t per_block = q->refcounts_per_block,
             capacity = (s->table_clusters << q->cluster_bits) / 8;
    uint64_t next = s->first + s->table_clusters, left = s->blocks;
    PL_FREE uint8_t *bytes = pl_buffer(q->cluster_size);

    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for a refcount block");
    for (uint64_t i = 0; left && i < capacity; i++) {
        if (i < s->entries && !is_needed(c, i) &&
            !covers(s->first, s->table_clusters + s->blocks, i * per_block, per_block))
            continue;
        memset(bytes, 0, q->cluster_size);
        for (uint64_t k = 0; k < per_block; k++)
            qcow2_count_put(bytes, q->refcount_bits, k, count_of(c, s, i * per_block + k));
        table[i] = next << q->cluster_bits;
        if (pl_storage_write(q->file, table[i], bytes, q->cluster_size, e) < 0)
            return -1;
        next++;
        left--;
    }
    return 0;
}

/* Makes the header and the state in memory point at the new structure. */
static int show(struct qcow2 *q, const struct structure *s, uint64_t **table, uint8_t **dirty,
                struct pl_err *e) PL_NEEDS(&q->lock)
{
    q->header.refcount_table_offset = s->first << q->cluster_bits;
    q->header.refcount_table_clusters = (uint32_t)s->table_clusters;
    if (qcow2_write_header(q, e) < 0 || qcow2_sync(q, e) < 0) {
        q->broken = true;
        return -1;
    }
    free(q->refcount_table);
    free(q->refcount_table_dirty);
    q->refcount_table = pl_take(*table);
    q->refcount_table_dirty = pl_take(*dirty);
    q->refcount_table_size = (uint32_t)((s->table_clusters << q->cluster_bits) / 8);
    q->file_end =
        PL_MAX(q->file_end, (s->first + s->table_clusters + s->blocks) << q->cluster_bits);
    pl_table_cache_drop(q->refcount_cache, 0, PL_OFFSET_MAX);
    return 0;
}

int qcow2_rebuild(struct qcow2_check *c, struct pl_err *e)
{
    PL_FREE uint64_t *table = NULL;
    PL_FREE uint8_t *dirty = NULL;
    struct structure s;
    uint64_t bytes;

    if (plan(c, &s, e) < 0)
        return -1;
    bytes = s.table_clusters << c->q->cluster_bits;
    table = calloc(1, bytes);
    dirty = calloc(1, bytes / QCOW2_SECTOR + 1);
    if (!table || !dirty)
        return pl_fail(e, PL_E_NOMEM, "no memory for a refcount table of %" PRIu64 " bytes", bytes);
    if (write_blocks(c, &s, table, e) < 0 ||
        qcow2_write_table(c->q, s.first << c->q->cluster_bits, table, bytes / 8, e) < 0 ||
        qcow2_sync(c->q, e) < 0 || show(c->q, &s, &table, &dirty, e) < 0)
        return pl_within(e, "new refcount structure");
    return 0;
}
