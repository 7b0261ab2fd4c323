/* measure.c - what the files of a new disk take together. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/vmdk.h"

/* Sectors of a stream besides grains and tables: header, descriptor, the markers of grain
 * directory, footer and end, the footer itself. */
#define STREAM_FIXED_SECTORS (1u + VMDK_DESCRIPTOR_ROOM / VMDK_SECTOR + 4u)
/* A grain that cannot be packed: marker, frame, and five bytes for each stored block of 64 KiB. */
#define STREAM_GRAIN_EXTRA(grain) (12u + 11u + 5u * ((grain) / 65535u))

/* An upper bound: nothing is known of how well the data can be packed. */
static uint64_t stream_size(const struct vmdk_request *r, uint64_t data)
{
    const uint64_t grain =
        pl_round_up(r->grain_size + STREAM_GRAIN_EXTRA(r->grain_size), VMDK_SECTOR);
    const uint64_t grains = pl_div_up(r->size, r->grain_size);
    const uint64_t tables = pl_div_up(grains, VMDK_TABLE_ENTRIES);

    return STREAM_FIXED_SECTORS * VMDK_SECTOR + pl_div_up(data, r->grain_size) * grain +
           tables * (VMDK_SECTOR + VMDK_STREAM_TABLE_BYTES) + pl_round_up(4 * tables, VMDK_SECTOR);
}

/* Headers and tables of all sparse extents. */
static uint64_t sparse_overhead(const struct vmdk_request *r)
{
    struct vmdk_sparse_new what = {
        .grain_size = r->grain_size,
        .descriptor = vmdk_is_embedded(r->subformat) ? "" : NULL,
        .zeroed_grain = r->zeroed_grain,
        .cowd = r->subformat == VMDK_VMFS_SPARSE,
    };
    uint64_t sum = 0;

    for (uint64_t i = 0; i < r->extents; i++) {
        what.size = vmdk_extent_size(r, i);
        sum += vmdk_sparse_overhead(&what);
    }
    return sum;
}

static uint64_t file_size(const struct vmdk_request *r, uint64_t data)
{
    if (vmdk_is_flat(r->subformat))
        return r->size;
    if (r->subformat == VMDK_STREAM_OPTIMIZED)
        return stream_size(r, data);
    return sparse_overhead(r) +
           PL_MIN(pl_round_up(data, r->grain_size), pl_round_up(r->size, r->grain_size));
}

int vmdk_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                 struct pl_err *e)
{
    const bool has_parent = args->has_parent || pl_options_text(args->options, "backing_file");
    struct vmdk_request r;

    if (vmdk_read_request(args->options, args->size, has_parent, &r, e) < 0)
        return -1;
    if (r.size > PL_OFFSET_MAX / 2)
        return pl_fail(e, PL_E_LIMIT, "a disk of %" PRIu64 " bytes is too big", args->size);
    *result = (struct pl_measure_result){
        .required = file_size(&r, has_parent ? r.size : PL_MIN(args->data_bytes, r.size)),
        .fully_allocated = file_size(&r, r.size),
    };
    return 0;
}
