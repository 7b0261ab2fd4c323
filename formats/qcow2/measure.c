/* measure.c - what a new image would take, in the numbers of qemu-img measure.
 *
 * They count tables for the whole disk, as if all of it were allocated, and so are an upper bound.
 */
#include <inttypes.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/qcow2/create.h"

/* Clusters of refcount blocks and their table for `clusters` others. */
static uint64_t refcount_clusters(uint64_t clusters, uint64_t cluster_size, uint32_t refcount_order)
{
    const uint64_t per_block = cluster_size * 8 >> refcount_order;
    uint64_t total = 0, before;

    do {
        const uint64_t blocks = pl_div_up(clusters + total, per_block);

        before = total;
        total = blocks + pl_div_up(blocks * 8, cluster_size);
    } while (total != before);
    return total;
}

/* The file's bytes when every cluster of a disk of `size` (whole clusters) is allocated. */
static uint64_t full_size(const struct qcow2_request *r, uint64_t size)
{
    const uint64_t cluster_size = UINT64_C(1) << r->cluster_bits;
    const uint64_t per_table = cluster_size / (r->extended_l2 ? 16 : 8);
    const uint64_t data = size / cluster_size;
    const uint64_t l2 = pl_div_up(data, per_table);
    const uint64_t l1 = pl_div_up(l2, cluster_size / 8);
    const uint64_t others = 1 + l2 + l1 + data;

    return (others + refcount_clusters(others, cluster_size, r->refcount_order)) << r->cluster_bits;
}

static uint64_t bitmap_bytes(const struct pl_measure_args *args, uint64_t cluster_size)
{
    uint64_t bytes = 0, directory = 0;

    for (size_t i = 0; i < args->bitmap_count; i++) {
        const struct pl_bitmap *b = &args->bitmaps[i];
        const uint64_t bits = pl_div_up(args->size, b->granularity);
        const uint64_t clusters = pl_div_up(pl_div_up(bits, 8), cluster_size);

        if (b->in_use) /* cannot be copied */
            continue;
        bytes += clusters * cluster_size + pl_round_up(clusters * 8, cluster_size);
        directory += pl_round_up(QCOW2_BITMAP_ENTRY_BYTES + strlen(b->name), 8);
    }
    return bytes + pl_round_up(directory, cluster_size);
}

int qcow2_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                  struct pl_err *e)
{
    struct qcow2_request r;
    uint64_t cluster_size, per_table, size, data;
    const bool has_parent = args->has_parent || pl_options_text(args->options, "backing_file");

    if (qcow2_read_request(args->options, has_parent, &r, e) < 0)
        return -1;
    cluster_size = UINT64_C(1) << r.cluster_bits;
    per_table = cluster_size / (r.extended_l2 ? 16 : 8) << r.cluster_bits;
    if (args->size > PL_OFFSET_MAX / 2 || pl_div_up(args->size, per_table) > QCOW2_L1_BYTES_MAX / 8)
        return pl_fail(e, PL_E_LIMIT,
                       "a disk of %" PRIu64 " bytes is too big for clusters of %" PRIu64 " bytes",
                       args->size, cluster_size);
    size = pl_round_up(args->size, cluster_size);
    data = pl_round_up(PL_MIN(args->data_bytes, args->size), cluster_size);
    if (has_parent || r.prealloc == PL_PREALLOC_FALLOC || r.prealloc == PL_PREALLOC_FULL)
        data = size;
    result->fully_allocated = full_size(&r, size);
    result->required = result->fully_allocated - size + data;
    result->has_bitmaps = args->with_bitmaps && r.version == 3;
    result->bitmaps = result->has_bitmaps ? bitmap_bytes(args, cluster_size) : 0;
    return 0;
}
