#include "core/engine/new_package.h"

#include <string.h>

#include "core/base/scope.h"

/* The last part of the path without its ending. */
static char *machine_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');

    return strndup(name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

int pl_new_package_begin(struct pl_new_image *image, const struct pl_create_options *options,
                         struct pl_err *e)
{
    PL_FREE char *name = machine_name(image->path);
    const struct pl_package_create_args args = {
        .file = pl_output_storage(image->output),
        .name = name,
        .capacities = &options->size,
        .disk_count = 1,
        .options = options->options,
        .reproducible = options->reproducible,
        .report = options->report,
    };

    image->member_options = pl_options_new();
    if (!name || !image->member_options)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", image->path);
    if (options->parent)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: a disk in a package has no backing file",
                       image->path);
    if (image->packer->begin(&args, &image->writer, e) < 0 ||
        pl_options_add(image->member_options, image->packer->disk_options(image->writer), e) < 0 ||
        image->packer->disk_storage(image->writer, 0, &image->member, e) < 0)
        return pl_within(e, "%s", image->path);
    return 0;
}

int pl_new_package_finish(struct pl_new_image *image, struct pl_err *e)
{
    if (pl_storage_close(pl_take(image->member), e) < 0 ||
        image->packer->finish(pl_take(image->writer), e) < 0)
        return pl_within(e, "%s: finishing it", image->path);
    return 0;
}

int pl_new_package_open(struct pl_new_image *image, const struct pl_open_options *options,
                        struct pl_err *e)
{
    struct pl_package *package;

    if (pl_package_open(pl_output_storage(image->output), true, image->packer, options, &package,
                        e) < 0)
        return -1;
    return pl_open_package_disk(package, image->path, options, &image->img, e);
}
