/* convert_target.c - the target of a convert: a new image, or one that exists. */
#include "core/engine/convert_target.h"

#include <inttypes.h>

static int open_existing(struct pl_convert_target *target, const char *path,
                         const struct pl_convert_options *options, uint64_t size, struct pl_err *e)
{
    const struct pl_open_options open_options = {
        .format = options->target_format,
        .writable = true,
        .allowed_dirs = options->allowed_dirs,
        .report = options->report,
    };

    if (pl_open(path, &open_options, &target->existing, e) < 0)
        return -1;
    target->img = target->existing;
    if (options->target_is_zero && pl_parent_name(target->img))
        return pl_fail(e, PL_E_INVALID,
                       "%s: it has a backing file, so its disk cannot be taken for zeros", path);
    if (pl_size(target->img) >= size)
        return 0;
    pl_fail(e, PL_E_LIMIT,
            "%s: its disk of %" PRIu64 " bytes is smaller than the input of %" PRIu64, path,
            pl_size(target->img), size);
    return pl_hint(e, "platter resize makes it larger");
}

static struct pl_create_options create_options_of(const struct pl_convert_options *options,
                                                  uint64_t size)
{
    return (struct pl_create_options){
        .format = options->format,
        .size = size,
        .size_given = true,
        .options = options->options,
        .parent = options->parent,
        .parent_format = options->parent_format,
        .reproducible = options->reproducible,
        .allowed_dirs = options->allowed_dirs,
        .report = options->report,
    };
}

static int create_open(struct pl_convert_target *target, bool read_only, struct pl_err *e)
{
    const struct pl_create_options create_options =
        create_options_of(target->options, target->size);

    return pl_new_image_open(&target->created, &create_options, read_only, e);
}

static int create_new(struct pl_convert_target *target, const char *path,
                      const struct pl_convert_options *options, uint64_t size, struct pl_err *e)
{
    const struct pl_create_options create_options = create_options_of(options, size);

    if (pl_new_image_begin(&target->created, path, &create_options, e) < 0 ||
        create_open(target, false, e) < 0)
        return -1;
    target->created.unsynced = options->unsynced;
    target->img = target->created.img;
    if (pl_size(target->img) != size && (target->created.packer || !target->img->file->sequential))
        pl_warn(options->report,
                "%s: the disk gets %" PRIu64 " bytes instead of %" PRIu64
                ": the format counts in larger units",
                path, pl_size(target->img), size);
    return 0;
}

int pl_convert_open_target(struct pl_convert_target *target, const struct pl_disk *source,
                           const char *path, const struct pl_convert_options *options,
                           struct pl_err *e)
{
    int result;

    *target = (struct pl_convert_target){ .path = path, .options = options, .size = source->size };
    if (pl_refuse_in_use(source->images, source->count, path, e) < 0)
        return -1;
    /* the engine's own; asked for here so that the format does not refuse it */
    pl_options_text(options->options, "compression_level");
    if (options->existing)
        result = open_existing(target, path, options, source->size, e);
    else
        result = create_new(target, path, options, source->size, e);
    if (result < 0)
        pl_convert_drop_target(target);
    return result;
}

int pl_convert_reread_target(struct pl_convert_target *target, struct pl_err *e)
{
    if (target->existing)
        return pl_flush(target->img, e);
    if (pl_new_image_close(&target->created, e) < 0 || create_open(target, true, e) < 0)
        return -1;
    target->img = target->created.img;
    return 0;
}

int pl_convert_finish_target(struct pl_convert_target *target, struct pl_err *e)
{
    if (target->existing)
        return pl_close(target->existing, e);
    return pl_new_image_finish(&target->created, e);
}

void pl_convert_drop_target(struct pl_convert_target *target)
{
    if (target->existing)
        pl_close(target->existing, NULL);
    else
        pl_new_image_abandon(&target->created);
}
