/* packed.c - room for compressed clusters.
 *
 * Units lie one behind the other, byte by byte; one that does not fit into the rest of a host
 * cluster goes on in the next one if that is free, else it begins anew in another.  A host cluster
 * has one reference for each unit that touches it. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"

/* The L2 entry for a unit; see "Compressed Clusters Descriptor". */
static int packed_word(const struct qcow2 *q, uint64_t off, uint32_t len, uint64_t *word,
                       struct pl_err *e)
{
    unsigned offset_bits = QCOW2_PACKED_OFFSET_BITS(q->cluster_bits);
    uint64_t limit = PL_MIN(UINT64_C(1) << offset_bits, UINT64_C(1) << 56);
    uint64_t sectors = (off + len - 1) / QCOW2_SECTOR - off / QCOW2_SECTOR;

    if (!pl_inside(off, len, limit))
        return pl_fail(e, PL_E_LIMIT,
                       "compressed clusters cannot lie past 0x%" PRIx64 " in a file with "
                       "clusters of %" PRIu32 " bytes",
                       limit, q->cluster_size);
    *word = QCOW2_PACKED | sectors << offset_bits | off;
    return 0;
}

/* The bytes left behind the last unit, 0 where that host cluster can count no further unit. */
static int rest_of_cluster(struct qcow2 *q, uint32_t *rest, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint32_t in = (uint32_t)(q->packed_next & (q->cluster_size - 1));
    uint64_t count;

    *rest = 0;
    if (!in)
        return 0;
    if (qcow2_refcount(q, q->packed_next >> q->cluster_bits, &count, e) < 0)
        return -1;
    if (count && count < q->refcount_max)
        *rest = q->cluster_size - in;
    return 0;
}

/* References for a unit of `len` bytes, and where it begins. */
static int place_unit(struct qcow2 *q, uint32_t len, uint64_t *off, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t next = q->packed_next, last = pl_round_down(next, q->cluster_size), fresh;
    uint32_t rest;

    if (rest_of_cluster(q, &rest, e) < 0)
        return -1;
    *off = next;
    if (len <= rest)
        return qcow2_reference(q, last, 1, 1, e);
    if (qcow2_allocate_clusters(q, 1, true, &fresh, NULL, e) < 0)
        return -1;
    if (rest && fresh == last + q->cluster_size)
        return qcow2_reference(q, last, 1, 1, e);
    *off = fresh;
    return 0;
}

static int check_packed(const struct qcow2 *q, uint64_t at, uint32_t len, struct pl_err *e)
{
    if (qcow2_has_data_file(q))
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "an image with an external data file cannot hold "
                       "compressed clusters");
    if (at % q->cluster_size || at >= q->header.size || !len || len > q->cluster_size)
        return pl_fail(e, PL_E_INVALID, "a compressed cluster of %" PRIu32 " bytes at 0x%" PRIx64,
                       len, at);
    return 0;
}

int qcow2_allocate_packed(void *state, uint64_t at, uint32_t packed_len, struct pl_place *out,
                          struct pl_err *e)
{
    struct qcow2 *q = state;
    uint64_t off = 0, word = 0;

    PL_LOCKED(&q->lock);
    if (qcow2_begin_change(q, e) < 0 || check_packed(q, at, packed_len, e) < 0 ||
        place_unit(q, packed_len, &off, e) < 0 || packed_word(q, off, packed_len, &word, e) < 0)
        return -1;
    q->packed_next = off + packed_len;
    *out = (struct pl_place){
        .at = at,
        .len = PL_MIN(q->cluster_size, q->header.size - at),
        .st = q->file,
        .off = off,
        .fresh = true,
        .packed_len = packed_len,
        .token = word,
    };
    return 0;
}
