/* measure.c - what a new VHD would take. */
#include "formats/vhd/change.h"
#include "formats/vhd/create.h"

int vhd_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                struct pl_err *e)
{
    const bool has_parent = args->has_parent || pl_options_text(args->options, "backing_file");
    struct vhd_request r;
    uint64_t blocks, data;

    if (vhd_read_request(args->options, args->size, has_parent, &r, e) < 0)
        return -1;
    blocks = pl_div_up(r.size, r.block_size);
    data = PL_MIN(pl_div_up(args->data_bytes, r.block_size), blocks);
    *result = (struct pl_measure_result){
        .required = vhd_file_bytes(&r, data) + VHD_FOOTER_BYTES,
        .fully_allocated = vhd_file_bytes(&r, blocks) + VHD_FOOTER_BYTES,
    };
    return 0;
}
