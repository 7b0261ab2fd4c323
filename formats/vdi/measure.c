/* measure.c - what a new image would take. */
#include "core/base/checked.h"
#include "formats/vdi/create.h"
#include "formats/vdi/vdi.h"

int vdi_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                struct pl_err *e)
{
    struct vdi_request request;
    struct vdi_header h;
    uint64_t all, data;

    if (vdi_read_request(args->options, args->has_parent, &request, e) < 0 ||
        vdi_plan(&request, args->size, &h, e) < 0)
        return -1;
    all = (uint64_t)h.blocks * h.block_size;
    data = pl_round_up(PL_MIN(args->data_bytes, all), h.block_size);
    *result = (struct pl_measure_result){
        .required = h.data_offset + (request.fixed ? all : data),
        .fully_allocated = h.data_offset + all,
    };
    return 0;
}
