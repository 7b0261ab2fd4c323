#include "core/engine/zero_shown.h"

int pl_zero_shown(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
{
    while (len > 0) {
        struct pl_run run;

        if (pl_map(img, at, len, &run, e) < 0)
            return -1;
        if (!run.zero && pl_zero(img, at, run.len, true, e) < 0)
            return -1;
        at += run.len;
        len -= run.len;
    }
    return 0;
}
