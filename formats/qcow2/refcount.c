/* refcount.c - the reference counts of host clusters.
 *
 * Specification: docs/interop/qcow2, "Host cluster management".  A count is 2^refcount_order bits
 * wide; counts narrower than a byte fill it from the lowest bit, wider ones are big endian. */
#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/qcow2/change.h"

uint64_t qcow2_count_get(const uint8_t *bytes, uint32_t bits, uint64_t i)
{
    switch (bits) {
    case 8:
        return bytes[i];
    case 16:
        return load_be16(bytes + 2 * i);
    case 32:
        return load_be32(bytes + 4 * i);
    case 64:
        return load_be64(bytes + 8 * i);
    default:
        return bytes[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
    }
}

void qcow2_count_put(uint8_t *bytes, uint32_t bits, uint64_t i, uint64_t count)
{
    switch (bits) {
    case 8:
        bytes[i] = (uint8_t)count;
        return;
    case 16:
        store_be16(bytes + 2 * i, (uint16_t)count);
        return;
    case 32:
        store_be32(bytes + 4 * i, (uint32_t)count);
        return;
    case 64:
        store_be64(bytes + 8 * i, count);
        return;
    default: {
        unsigned shift = i * bits % 8, mask = (1u << bits) - 1;
        uint8_t *p = bytes + i * bits / 8;

        *p = (uint8_t)((*p & ~(mask << shift)) | ((unsigned)count & mask) << shift);
    }
    }
}

int qcow2_refcount_block(const struct qcow2 *q, uint64_t cluster, uint64_t *off, struct pl_err *e)
{
    uint64_t index = cluster / q->refcounts_per_block, entry;

    *off = 0;
    if (index >= q->refcount_table_size)
        return 0;
    entry = q->refcount_table[index];
    if (entry % q->cluster_size || entry > PL_OFFSET_MAX || (entry && entry >= q->file_end)) {
        pl_fail(e, PL_E_CORRUPT,
                "refcount table entry %" PRIu64 ": block at 0x%" PRIx64
                " is unaligned or outside the file",
                index, entry);
        return pl_hint(e, "check and repair the image first");
    }
    *off = entry;
    return 0;
}

/* The counts from `cluster` to the end of its slice. */
struct counts {
    uint8_t *slice; /* null: no refcount block */
    uint64_t off;   /* of the slice in the file */
    uint64_t first; /* index in the slice of the cluster's count */
    uint64_t count;
};

static int get_counts(struct qcow2 *q, uint64_t cluster, struct counts *out, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t in_slice = (uint64_t)q->slice * 8 / q->refcount_bits;
    uint64_t in_block = cluster % q->refcounts_per_block, block;

    if (qcow2_refcount_block(q, cluster, &block, e) < 0)
        return -1;
    *out = (struct counts){ .first = in_block % in_slice };
    out->count = in_slice - out->first;
    if (!block)
        return 0;
    out->off = block + in_block / in_slice * q->slice;
    return qcow2_slice(q, q->refcount_cache, out->off, &out->slice, e);
}

int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count, struct pl_err *e)
{
    struct counts c;

    if (get_counts(q, cluster, &c, e) < 0)
        return -1;
    *count = c.slice ? qcow2_count_get(c.slice, q->refcount_bits, c.first) : 0;
    return 0;
}

/* Notes that a cluster is free again: nothing may be packed behind its last unit any more. */
static void became_free(struct qcow2 *q, uint64_t cluster) PL_NEEDS(&q->lock)
{
    if (cluster < q->free_hint)
        q->free_hint = cluster;
    if (cluster == q->packed_next >> q->cluster_bits)
        q->packed_next = 0;
}

static int add_one(struct qcow2 *q, const struct counts *c, uint64_t i, uint64_t cluster, int delta,
                   struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t count = qcow2_count_get(c->slice, q->refcount_bits, c->first + i);

    if (delta < 0 && !count)
        return pl_fail(e, PL_E_CORRUPT, "cluster %" PRIu64 " loses a reference but has none",
                       cluster);
    if (delta > 0 && count == q->refcount_max)
        return pl_fail(e, PL_E_LIMIT,
                       "cluster %" PRIu64 " has %" PRIu64 " references, the most that "
                       "%" PRIu32 " bits hold",
                       cluster, count, q->refcount_bits);
    count = delta < 0 ? count - 1 : count + 1;
    qcow2_count_put(c->slice, q->refcount_bits, c->first + i, count);
    if (!count)
        became_free(q, cluster);
    return 0;
}

int qcow2_reference(struct qcow2 *q, uint64_t off, uint64_t count, int delta, struct pl_err *e)
{
    uint64_t cluster = off >> q->cluster_bits;
    int r = 0;

    while (count && r == 0) {
        struct counts c;
        uint64_t i = 0;

        if (get_counts(q, cluster, &c, e) < 0)
            return -1;
        if (!c.slice && delta < 0)
            return pl_fail(e, PL_E_CORRUPT,
                           "cluster %" PRIu64 " loses a reference but has no "
                           "refcount block",
                           cluster);
        if (!c.slice) {
            if (qcow2_cover(q, cluster, count, e) < 0)
                return -1;
            continue;
        }
        for (; i < PL_MIN(count, c.count) && r == 0; i++)
            r = add_one(q, &c, i, cluster + i, delta, e);
        pl_table_cache_dirty(q->refcount_cache, c.off);
        cluster += i;
        count -= i;
    }
    return r;
}

/* Adds the clusters of one slice to a search; true: the search is over. */
static bool scan_slice(const struct qcow2 *q, const struct counts *c, uint64_t cluster,
                       uint64_t want, bool contiguous, struct qcow2_run *run)
{
    for (uint64_t i = 0; i < c->count; i++) {
        if (qcow2_count_get(c->slice, q->refcount_bits, c->first + i)) {
            if (run->count && !contiguous)
                return true;
            run->count = 0;
            continue;
        }
        if (!run->count)
            run->first = cluster + i;
        if (++run->count == want)
            return true;
    }
    return false;
}

int qcow2_find_free(struct qcow2 *q, uint64_t from, uint64_t want, bool contiguous,
                    struct qcow2_run *run, struct pl_err *e)
{
    *run = (struct qcow2_run){ .first = from };
    for (uint64_t cluster = from;;) {
        struct counts c;

        if (get_counts(q, cluster, &c, e) < 0)
            return -1;
        if (c.slice) {
            if (scan_slice(q, &c, cluster, want, contiguous, run))
                return 0;
        } else {
            if (!run->count)
                run->first = cluster;
            if (!contiguous)
                return 0;
            run->count += c.count;
            if (run->count >= want) {
                run->count = want;
                return 0;
            }
        }
        cluster += c.count;
    }
}
