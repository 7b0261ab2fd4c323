/* measure.c - what a new image would take.
 *
 * What is required is counted in host space: blocks are as large as 256 MiB, but those parts of
 * them that were never written are holes of the file. */
#include "formats/vhdx/create.h"

int vhdx_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                 struct pl_err *e)
{
    struct vhdx_request request;
    struct vhdx v = { 0 };
    uint64_t data, all;

    if (vhdx_read_request(args->options, args->size, args->has_parent, &request, e) < 0 ||
        vhdx_plan(&request, &v, &data, e) < 0)
        return -1;
    all = vhdx_blocks(&v, v.size) << v.block_bits;
    *result = (struct pl_measure_result){
        .required = data + (request.fixed ? all : PL_MIN(args->data_bytes, all)),
        .fully_allocated = data + all,
    };
    return 0;
}
