/* refcount.c - the reference counts of host clusters.
 *
 * Specification: docs/interop/qcow2, "Host cluster management".  A count is 2^refcount_order bits
 * wide; counts narrower than a byte fill it from the lowest bit, wider ones are big endian. */
#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/shadow.h"

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

int qcow2_counts(struct qcow2 *q, uint64_t cluster, struct qcow2_counts *out, struct pl_err *e)
{
    uint64_t in_slice = (uint64_t)q->slice * 8 / q->refcount_bits;
    uint64_t in_block = cluster % q->refcounts_per_block, block;

    if (qcow2_refcount_block(q, cluster, &block, e) < 0)
        return -1;
    *out = (struct qcow2_counts){ .first = in_block % in_slice };
    out->count = in_slice - out->first;
    if (!block)
        return 0;
    out->off = block + in_block / in_slice * q->slice;
    return qcow2_slice(q, q->refcount_cache, out->off, &out->slice, e);
}

int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count, struct pl_err *e)
{
    struct qcow2_counts c;

    if (qcow2_counts(q, cluster, &c, e) < 0)
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

/* What becomes of a count. */
enum change {
    DROP = -1,
    TAKE = 1,  /* the cluster may have been free */
    SHARE = 2, /* one more user of a cluster in use */
};

static int refuse_uncounted(uint64_t cluster, struct pl_err *e)
{
    pl_fail(e, PL_E_CORRUPT, "cluster %" PRIu64 " is in use but has no reference", cluster);
    return pl_hint(e, "check and repair the image first");
}

static int refuse_overflow(const struct qcow2 *q, uint64_t cluster, struct pl_err *e)
{
    pl_fail(e, PL_E_LIMIT,
            "cluster %" PRIu64 " has %" PRIu64 " references, the most that %" PRIu32 " bits hold",
            cluster, q->refcount_max, q->refcount_bits);
    return pl_hint(e, "platter amend -o refcount_bits=%" PRIu32 " makes the counts wider",
                   PL_MIN(64, PL_MAX(2 * q->refcount_bits, 16)));
}

static int change_one(struct qcow2 *q, const struct qcow2_counts *c, uint64_t i, uint64_t cluster,
                      enum change change, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t count = qcow2_count_get(c->slice, q->refcount_bits, c->first + i);

    if (change == DROP && !count)
        return pl_fail(e, PL_E_CORRUPT, "cluster %" PRIu64 " loses a reference but has none",
                       cluster);
    if (change == SHARE && !count)
        return refuse_uncounted(cluster, e);
    if (change != DROP && count == q->refcount_max)
        return refuse_overflow(q, cluster, e);
    count = change == DROP ? count - 1 : count + 1;
    qcow2_count_put(c->slice, q->refcount_bits, c->first + i, count);
    if (!count)
        became_free(q, cluster);
    return 0;
}

/* Makes the missing block of a cluster, or fails where there must be one. */
static int add_missing(struct qcow2 *q, uint64_t cluster, uint64_t count, enum change change,
                       struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (change == TAKE && !q->shadow)
        return qcow2_cover(q, cluster, count, e) < 0 ? -1 : 0;
    if (change == DROP)
        return pl_fail(e, PL_E_CORRUPT,
                       "cluster %" PRIu64 " loses a reference but has no refcount block", cluster);
    return refuse_uncounted(cluster, e);
}

static int change_counts(struct qcow2 *q, uint64_t off, uint64_t count, enum change change,
                         struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t cluster = off >> q->cluster_bits;
    int r = 0;

    while (count && r == 0) {
        struct qcow2_counts c;
        uint64_t i = 0;

        if (qcow2_own_block(q, cluster, e) < 0 || qcow2_counts(q, cluster, &c, e) < 0)
            return -1;
        if (!c.slice) {
            if (add_missing(q, cluster, count, change, e) < 0)
                return -1;
            continue;
        }
        for (; i < PL_MIN(count, c.count) && r == 0; i++)
            r = change_one(q, &c, i, cluster + i, change, e);
        pl_table_cache_dirty(q->refcount_cache, c.off);
        cluster += i;
        count -= i;
    }
    return r;
}

int qcow2_reference(struct qcow2 *q, uint64_t off, uint64_t count, int delta, struct pl_err *e)
{
    return change_counts(q, off, count, delta < 0 ? DROP : TAKE, e);
}

int qcow2_share(struct qcow2 *q, uint64_t off, uint64_t count, struct pl_err *e)
{
    return change_counts(q, off, count, SHARE, e);
}

/* Adds the clusters of one slice to a search; true: the search is over. */
static bool scan_slice(const struct qcow2 *q, const struct qcow2_counts *c, uint64_t cluster,
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
        struct qcow2_counts c;

        if (qcow2_counts(q, cluster, &c, e) < 0)
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
