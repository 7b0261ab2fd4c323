/* new_tables.c - the tables of a new image, computed rather than grown.
 *
 * All clusters of the image are in use from the first to the last, so refcount blocks are runs of
 * ones, and preallocated L2 tables count upwards.  Everything is written in order through one
 * buffer. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/create.h"

#define BUFFER_BYTES (2 * PL_MIB) /* at least a cluster */

/* How many refcount blocks and clusters of their table make `others` clusters and themselves count.
 */
static void plan_refcounts(const struct qcow2 *q, uint64_t others, struct qcow2_new_layout *plan)
{
    uint64_t total = 0;

    plan->refcount_block_count = plan->refcount_table_clusters = 0;
    while (total != others + plan->refcount_block_count + plan->refcount_table_clusters) {
        total = others + plan->refcount_block_count + plan->refcount_table_clusters;
        plan->refcount_block_count = pl_div_up(total, q->refcounts_per_block);
        plan->refcount_table_clusters = pl_div_up(plan->refcount_block_count * 8, q->cluster_size);
    }
    plan->total = total;
}

static void place(struct qcow2_new_layout *plan)
{
    plan->refcount_table = 1;
    plan->refcount_blocks = plan->refcount_table + plan->refcount_table_clusters;
    plan->l1 = plan->refcount_blocks + plan->refcount_block_count;
    plan->l2 = plan->l1 + plan->l1_clusters;
    plan->data = plan->l2 + plan->l2_tables;
}

int qcow2_plan_layout(const struct qcow2 *q, bool prealloc, struct qcow2_new_layout *plan,
                      struct pl_err *e)
{
    const uint64_t clusters = pl_div_up(q->header.size, q->cluster_size);
    const uint64_t tables = pl_div_up(clusters, q->l2_entries);

    *plan = (struct qcow2_new_layout){ .l1_clusters = pl_div_up(tables * 8, q->cluster_size) };
    if (tables * 8 > QCOW2_L1_BYTES_MAX) {
        pl_fail(e, PL_E_LIMIT,
                "a disk of %" PRIu64 " bytes is too big for clusters of %" PRIu32
                " bytes (at most %" PRIu64 ")",
                q->header.size, q->cluster_size,
                ((uint64_t)QCOW2_L1_BYTES_MAX / 8 * q->l2_entries) << q->cluster_bits);
        return pl_hint(e, "use a larger cluster_size");
    }
    if (prealloc) {
        plan->l2_tables = tables;
        plan->data_clusters = qcow2_has_data_file(q) ? 0 : clusters;
    }
    plan_refcounts(q, 1 + plan->l1_clusters + plan->l2_tables + plan->data_clusters, plan);
    place(plan);
    if (plan->refcount_table_clusters << q->cluster_bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX ||
        plan->total > (QCOW2_OFFSET_MASK >> q->cluster_bits))
        return pl_fail(e, PL_E_LIMIT,
                       "preallocating %" PRIu64 " clusters of %" PRIu32
                       " bytes exceeds what the format can count",
                       plan->total, q->cluster_size);
    return 0;
}

/* Tables written from front to back. */
struct sink {
    struct qcow2 *q;
    uint8_t *bytes; /* BUFFER_BYTES */
    size_t used;
    uint64_t at; /* byte offset in the file where bytes[0] goes */
};

static int sink_flush(struct sink *s, struct pl_err *e)
{
    if (pl_check_cancelled(s->q->report, e) < 0)
        return -1;
    if (s->used && pl_storage_write(s->q->file, s->at, s->bytes, s->used, e) < 0)
        return -1;
    s->at += s->used;
    s->used = 0;
    return 0;
}

/* Room for `len` more bytes, all zero; BUFFER_BYTES is a multiple of all lengths that are used. */
static int sink_room(struct sink *s, size_t len, uint8_t **room, struct pl_err *e)
{
    if (s->used + len > BUFFER_BYTES && sink_flush(s, e) < 0)
        return -1;
    *room = s->bytes + s->used;
    memset(*room, 0, len);
    s->used += len;
    return 0;
}

static int put_word(struct sink *s, uint64_t word, struct pl_err *e)
{
    uint8_t *room;

    if (sink_room(s, 8, &room, e) < 0)
        return -1;
    store_be64(room, word);
    return 0;
}

/* `count` entries that point at clusters from number `first` on, and zeros to the end of
 * `clusters`. */
static int put_pointers(struct sink *s, uint64_t first, uint64_t count, uint64_t flags,
                        uint64_t clusters, struct pl_err *e)
{
    const uint64_t room = clusters << s->q->cluster_bits >> 3;

    for (uint64_t i = 0; i < room; i++)
        if (put_word(s, i < count ? (first + i) << s->q->cluster_bits | flags : 0, e) < 0)
            return -1;
    return 0;
}

static int put_refcount_blocks(struct sink *s, const struct qcow2_new_layout *plan,
                               struct pl_err *e)
{
    const struct qcow2 *q = s->q;

    for (uint64_t block = 0; block < plan->refcount_block_count; block++) {
        const uint64_t first = block * q->refcounts_per_block;
        const uint64_t ones = PL_MIN(plan->total - first, q->refcounts_per_block);
        uint8_t *room;

        if (sink_room(s, q->cluster_size, &room, e) < 0)
            return -1;
        for (uint64_t i = 0; i < ones; i++)
            qcow2_count_put(room, q->refcount_bits, i, 1);
    }
    return 0;
}

/* With extended entries no subcluster shows the room yet: a parent stays visible. */
static int put_l2_tables(struct sink *s, const struct qcow2_new_layout *plan, struct pl_err *e)
{
    const struct qcow2 *q = s->q;
    const uint64_t clusters = pl_div_up(q->header.size, q->cluster_size);
    const uint64_t entries = plan->l2_tables * q->l2_entries;
    const uint64_t first = qcow2_has_data_file(q) ? 0 : plan->data;

    for (uint64_t i = 0; i < entries; i++) {
        const uint64_t word = (first + i) << q->cluster_bits | QCOW2_COPIED;
        uint8_t *room;

        if (sink_room(s, q->l2_entry_size, &room, e) < 0)
            return -1;
        if (i < clusters)
            qcow2_store_entry(q, room, (struct qcow2_entry){ .word = word });
    }
    return 0;
}

static int put_all(struct sink *s, const struct qcow2_new_layout *plan, struct pl_err *e)
{
    if (put_pointers(s, plan->refcount_blocks, plan->refcount_block_count, 0,
                     plan->refcount_table_clusters, e) < 0 ||
        put_refcount_blocks(s, plan, e) < 0)
        return -1;
    if (plan->l2_tables == 0) {
        if (sink_flush(s, e) < 0)
            return -1;
        return pl_storage_zero(s->q->file, s->at, plan->l1_clusters << s->q->cluster_bits, e);
    }
    if (put_pointers(s, plan->l2, plan->l2_tables, QCOW2_COPIED, plan->l1_clusters, e) < 0 ||
        put_l2_tables(s, plan, e) < 0)
        return -1;
    return sink_flush(s, e);
}

int qcow2_write_tables(struct qcow2 *q, const struct qcow2_new_layout *plan, struct pl_err *e)
{
    PL_FREE uint8_t *buffer = pl_buffer(BUFFER_BYTES);
    struct sink s = { .q = q, .bytes = buffer, .at = plan->refcount_table << q->cluster_bits };
    const uint64_t data = plan->data << q->cluster_bits;
    const uint64_t end = plan->total << q->cluster_bits;

    if (!buffer)
        return pl_fail(e, PL_E_NOMEM, "no memory for the tables of a new image");
    if (put_all(&s, plan, e) < 0)
        return pl_within(e, "tables of the new image");
    if (!q->file->device)
        return pl_storage_resize(q->file, end, e);
    /* what the device held must not show through preallocated entries */
    return pl_storage_zero(q->file, data, end - data, e);
}
