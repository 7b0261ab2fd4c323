/* measure.c - what a new VHD would take. */
#include "formats/vhd/change.h"
#include "formats/vhd/create.h"

int vhd_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                struct pl_err *e)
{
    const bool has_parent = args->has_parent || pl_options_text(args->options, "backing_file");
    struct vhd_request r;
    uint64_t before, all, blocks, data;

    if (vhd_read_request(args->options, args->size, has_parent, &r, e) < 0)
        return -1;
    vhd_plan(&r, &before, &all);
    *result = (struct pl_measure_result){ .required = all + VHD_FOOTER_BYTES,
                                          .fully_allocated = all + VHD_FOOTER_BYTES };
    blocks = pl_div_up(r.size, r.block_size);
    data = pl_div_up(PL_MIN(args->data_bytes, r.size), r.block_size);
    if (!r.fixed && blocks > 0)
        result->required = before + (all - before) / blocks * data + VHD_FOOTER_BYTES;
    return 0;
}
