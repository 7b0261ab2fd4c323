/* absent.c - stands in for the kinds of extents that are not there yet. */
#include "formats/vmdk/extent.h"

int vmdk_sparse_create(struct pl_storage *file, const struct vmdk_sparse_new *what,
                       struct pl_err *e)
{
    (void)file;
    (void)what;
    return pl_fail(e, PL_E_UNSUPPORTED, "sparse extents are not supported yet");
}

uint64_t vmdk_sparse_overhead(const struct vmdk_sparse_new *what)
{
    (void)what;
    return 0;
}
