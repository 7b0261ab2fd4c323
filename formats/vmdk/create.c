/* create.c - makes the files of a new disk: the extents first, the descriptor that names them
 * last. */
#include "formats/vmdk/create.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/vmdk.h"

static struct vmdk_sparse_new sparse_of(const struct vmdk_request *r, uint64_t index,
                                        const char *descriptor)
{
    return (struct vmdk_sparse_new){
        .size = vmdk_extent_size(r, index),
        .grain_size = r->grain_size,
        .descriptor = descriptor,
        .zeroed_grain = r->zeroed_grain,
        .cowd = r->subformat == VMDK_VMFS_SPARSE,
    };
}

int vmdk_fill_extent(struct pl_storage *file, const struct vmdk_request *r, uint64_t index,
                     struct pl_err *e)
{
    const uint64_t size = vmdk_extent_size(r, index);
    const struct vmdk_sparse_new what = sparse_of(r, index, NULL);

    if (!vmdk_is_flat(r->subformat))
        return vmdk_sparse_create(file, &what, e);
    if (pl_storage_resize(file, size, e) < 0)
        return -1;
    return r->prealloc == PL_PREALLOC_OFF ? 0
                                          : pl_storage_preallocate(file, 0, size, r->prealloc, e);
}

static int make_extent(const struct pl_create_args *args, const struct vmdk_request *r,
                       uint64_t index, struct pl_err *e)
{
    PL_FREE char *name = vmdk_extent_name(r, args->file, index);
    struct pl_storage *file;
    int result;

    if (!name)
        return pl_fail(e, PL_E_NOMEM, "no memory for a file name");
    if (args->create_file(args, name, &file, e) < 0)
        return pl_within(e, "extent '%s'", name);
    result = vmdk_fill_extent(file, r, index, e);
    if (pl_storage_close(file, result < 0 ? NULL : e) < 0)
        result = -1;
    return result < 0 ? pl_within(e, "extent '%s'", name) : 0;
}

static int make_files(const struct pl_create_args *args, const struct vmdk_request *r,
                      const char *text, struct pl_err *e)
{
    if (args->file->sequential || args->file->device) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "this subformat is made of several files, and cannot be in a "
                "pipe or a device");
        return pl_hint(e, "use -o subformat=streamOptimized");
    }
    if (!args->create_file)
        return pl_fail(e, PL_E_UNSUPPORTED, "further files cannot be made here");
    for (uint64_t i = 0; i < r->extents; i++)
        if (make_extent(args, r, i, e) < 0)
            return -1;
    return pl_storage_write(args->file, 0, text, strlen(text), e);
}

static int make_sparse(const struct pl_create_args *args, const struct vmdk_request *r,
                       const char *text, struct pl_err *e)
{
    const struct vmdk_sparse_new what = sparse_of(r, 0, text);

    if (!args->file->sequential)
        return vmdk_sparse_create(args->file, &what, e);
    pl_fail(e, PL_E_UNSUPPORTED, "a sparse image cannot be written to a pipe");
    return pl_hint(e, "use -o subformat=streamOptimized");
}

int vmdk_create(const struct pl_create_args *args, struct pl_err *e)
{
    PL_FREE char *text = NULL;
    struct vmdk_request r;
    struct vmdk_sparse_new what;

    if (vmdk_read_request(args->options, args->size, args->parent.name, &r, e) < 0 ||
        vmdk_new_descriptor(&r, args, &text, e) < 0)
        return -1;
    if (!vmdk_is_embedded(r.subformat))
        return make_files(args, &r, text, e);
    if (r.subformat == VMDK_MONOLITHIC_SPARSE)
        return make_sparse(args, &r, text, e);
    what = sparse_of(&r, 0, text);
    return vmdk_stream_create(args->file, &what, e);
}

bool vmdk_creates_stream(const struct pl_create_args *args)
{
    const char *subformat = pl_options_text(args->options, "subformat");

    return subformat && strcmp(subformat, "streamOptimized") == 0;
}

int vmdk_describe_stream(const struct pl_create_args *args, struct vmdk_sparse_new *what,
                         char **text, struct pl_err *e)
{
    struct vmdk_request r;

    if (vmdk_read_request(args->options, args->size, args->parent.name, &r, e) < 0 ||
        vmdk_new_descriptor(&r, args, text, e) < 0)
        return -1;
    *what = sparse_of(&r, 0, *text);
    return 0;
}
