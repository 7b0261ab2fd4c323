/* fixed.c - fixed disks: the file is the disk, with a footer behind it. */
#include "formats/vhd/change.h"

int vhd_fixed_map(struct vhd *v, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    bool hole = true;

    if (pl_storage_map(v->file, at, &len, &hole, e) < 0)
        return -1;
    *out = (struct pl_extent){
        .state = hole ? PL_ZERO : PL_DATA,
        .allocated = hole,
        .len = len,
        .st = v->file,
        .off = at,
    };
    return 0;
}

int vhd_finish(void *state, struct pl_err *e)
{
    struct vhd *v = state;

    PL_LOCKED(&v->lock);
    if (!v->file->sequential)
        return 0;
    return vhd_write_footer(v, v->footer_at, e);
}
