/* image.c - opens and closes one image: file, format, layer; its parents are chain.c's. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/graph/node.h"
#include "core/storage/spool.h"

/* What the driver's open_file callback needs. */
struct file_context {
    struct pl_image *img;
    struct pl_opener opener;
    const struct pl_file_source *source;
};

static int open_named_file(const struct pl_open_args *args, const char *name,
                           struct pl_storage **out, struct pl_err *e)
{
    const struct file_context *ctx = args->ctx;

    if (ctx->source->open_file)
        return ctx->source->open_file(ctx->source->ctx, name, out, e);
    return pl_open_named(&ctx->opener, ctx->img->file, name,
                         args->writable ? PL_READ_WRITE : PL_READ, out, e) < 0
               ? -1
               : pl_keeper_add(ctx->source->keeper, name, out, e);
}

static int create_beside(const struct pl_file_maker *maker, const char *name,
                         struct pl_storage **out, struct pl_err *e)
{
    const struct pl_image *img = maker->ctx;

    return pl_create_named(img->file, name, out, e);
}

static void remove_beside(const struct pl_file_maker *maker, const char *name,
                          struct pl_storage *made)
{
    const struct pl_image *img = maker->ctx;

    pl_remove_named(img->file, name, made);
}

/* Whether it has a folder to make files in: not inside a package, nor without a name yet.  A repair
 * makes none: its journal could not take them back. */
static bool is_on_host(const struct pl_image *img, const struct pl_file_source *source)
{
    return img->file->path && !img->file->device && !source->borrowed && !source->open_file &&
           !source->keeper;
}

static struct pl_opener opener_of(const struct pl_open_options *options)
{
    return (struct pl_opener){ .allowed = options->allowed_dirs,
                               .force_share = options->force_share };
}

static int find_format(struct pl_image *img, const char *format, struct pl_err *e)
{
    if (format)
        return pl_driver_find(format, &img->driver, e);
    if (pl_probe_file(img->file, NULL, &img->driver, e) < 0)
        return -1;
    img->guessed = true;
    if (img->driver)
        return 0;
    img->guard_header = true;
    if (pl_probe_perhaps(img->file, &img->perhaps, e) < 0)
        return -1;
    return pl_driver_find("raw", &img->driver, e);
}

static int check_abilities(struct pl_image *img, const struct pl_open_options *options,
                           struct pl_err *e)
{
    if (options->writable && !img->driver->allocate)
        return pl_no_slot(img, "writing", e);
    if (options->snapshot && !img->driver->snapshots)
        return pl_no_slot(img, "an internal snapshot", e);
    if (options->snapshot && options->writable)
        return pl_fail(e, PL_E_INVALID, "%s: a snapshot is opened for reading only", img->path);
    return 0;
}

static void free_texts(struct pl_layer *layer)
{
    free(pl_take(layer->parent_name));
    free(pl_take(layer->parent_format));
    free(pl_take(layer->identity));
    free(pl_take(layer->parent_identity));
    free(pl_take(layer->parent_revision));
}

static int open_layer(struct pl_image *img, const struct pl_file_source *source,
                      const struct pl_open_options *options, struct pl_err *e)
{
    struct file_context ctx = { .img = img, .opener = opener_of(options), .source = source };
    const struct pl_open_args args = {
        .file = img->file,
        .writable = options->writable,
        .check_only = options->check_only,
        .describe_only = options->describe_only,
        .keeps_content = options->keeps_content,
        .same_disk = options->same_disk,
        .snapshot = options->snapshot,
        .report = options->report,
        .created = source->created,
        .open_file = open_named_file,
        .ctx = &ctx,
        .maker = options->writable && is_on_host(img, source) ? &img->maker : NULL,
    };

    img->maker = (struct pl_file_maker){ create_beside, remove_beside, img };
    if (check_abilities(img, options, e) < 0)
        return -1;
    if (img->driver->open(&args, &img->layer, e) < 0) {
        free_texts(&img->layer);
        return pl_within(e, "%s", img->path);
    }
    return 0;
}

static void free_image(struct pl_image *img)
{
    pl_unpackers_free(img);
    pl_range_lock_destroy(&img->ranges);
    pl_lock_destroy(&img->unpackers_lock);
    free_texts(&img->layer);
    free(img->path);
    free(img);
}

static struct pl_image *new_image(struct pl_storage *file, bool borrowed, const char *path)
{
    struct pl_image *img = calloc(1, sizeof *img);

    if (!img)
        return NULL;
    pl_range_lock_init(&img->ranges);
    pl_lock_init(&img->unpackers_lock);
    img->file = file;
    img->borrowed = borrowed;
    img->path = strdup(path);
    if (!img->path) {
        free_image(img);
        return NULL;
    }
    return img;
}

int pl_open_storage(struct pl_storage *file, const struct pl_file_source *source, const char *path,
                    const struct pl_open_options *options, struct pl_image **out, struct pl_err *e)
{
    static const struct pl_open_options defaults;
    const struct pl_open_options *o = options ? options : &defaults;
    struct pl_image *img = new_image(file, source->borrowed, path);

    if (!img) {
        if (!source->borrowed)
            pl_storage_close(file, NULL);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open it", path);
    }
    img->writable = o->writable;
    if (find_format(img, o->format, e) < 0 || open_layer(img, source, o, e) < 0) {
        if (!source->borrowed)
            pl_storage_close(file, NULL);
        free_image(img);
        return -1;
    }
    if (!o->no_parent && pl_open_parents(img, o, e) < 0) {
        img->writable = false; /* nothing was changed: nothing to flush */
        pl_close(img, NULL);
        return -1;
    }
    *out = img;
    return 0;
}

static int refuse_writing(const char *path, const struct pl_package *package, struct pl_err *e)
{
    pl_fail(e, PL_E_UNSUPPORTED, "%s: a disk inside an %s package cannot be changed", path,
            package->driver->name);
    return pl_hint(e, "convert it, or make an overlay of the converted disk");
}

/* "appliance.ova: disk1.vmdk" */
static char *name_of_disk(const struct pl_package *package, size_t disk, const char *path)
{
    const struct pl_package_disk *list;
    char *name;

    package->driver->disks(package->state, &list);
    return asprintf(&name, "%s: %s", path, list[disk].name ? list[disk].name : list[disk].id) < 0
               ? NULL
               : name;
}

int pl_open_package_disk(struct pl_package *package, const char *path,
                         const struct pl_open_options *options, struct pl_image **out,
                         struct pl_err *e)
{
    const struct pl_file_source own = { 0 };
    struct pl_open_options inside = *options;
    PL_FREE char *name = NULL;
    struct pl_storage *file;
    size_t disk;
    int result;

    inside.format = NULL;
    result = pl_package_find_disk(package, options->disk, &disk, e);
    if (result == 0 && !(name = name_of_disk(package, disk, path)))
        result = pl_fail(e, PL_E_NOMEM, "%s: no memory to open it", path);
    if (result == 0 && options->writable)
        result = refuse_writing(path, package, e);
    if (result == 0 && package->driver->storage(package->state, disk, &file, e) < 0)
        result = pl_within(e, "%s", path);
    if (result == 0)
        result = pl_open_storage(file, &own, name, &inside, out, e);
    if (result < 0) {
        pl_package_close(package);
        return -1;
    }
    (*out)->package = package;
    (*out)->package_disk = disk;
    return 0;
}

/* The package that the file is, null: it is an image. */
static int find_package(struct pl_storage *file, const struct pl_open_options *options,
                        struct pl_package **package, struct pl_err *e)
{
    const struct pl_package_driver *kind = NULL;

    *package = NULL;
    if (options->format)
        kind = pl_package_kind(options->format);
    else if (!file->sequential && pl_package_probe(file, &kind, e) < 0)
        return -1;
    if (kind)
        return pl_package_open(file, false, kind, options, package, e);
    if (options->disk)
        pl_warn(options->report, "%s: is one disk, not a package of disks to choose from",
                file->name);
    return 0;
}

/* An image file, or a package with one inside. */
static int open_file(struct pl_storage *file, struct pl_keeper *keeper, const char *path,
                     const struct pl_open_options *options, struct pl_image **out, struct pl_err *e)
{
    const struct pl_file_source own = { .keeper = keeper };
    struct pl_package *package;

    if (find_package(file, options, &package, e) < 0) {
        pl_storage_close(file, NULL);
        return -1;
    }
    return package ? pl_open_package_disk(package, path, options, out, e)
                   : pl_open_storage(file, &own, path, options, out, e);
}

static int open_for_repair(struct pl_storage *file, const char *path,
                           const struct pl_open_options *options, struct pl_image **out,
                           struct pl_err *e)
{
    struct pl_keeper *keeper;

    if (pl_keeper_start(options, &file, &keeper, e) < 0)
        return -1;
    if (open_file(file, keeper, path, options, out, e) < 0) {
        pl_keeper_finish(keeper, NULL);
        return -1;
    }
    (*out)->keeper = keeper;
    return 0;
}

int pl_open(const char *path, const struct pl_open_options *options, struct pl_image **out,
            struct pl_err *e)
{
    static const struct pl_open_options defaults;
    const struct pl_open_options *o = options ? options : &defaults;
    const struct pl_opener opener = opener_of(o);
    struct pl_storage *file;

    if (o->writable && o->force_share)
        return pl_fail(e, PL_E_INVALID, "%s: force-share is for reading only", path);
    if (strcmp(path, "-") == 0) {
        if (o->writable)
            return pl_fail(e, PL_E_INVALID, "standard input cannot be opened for writing");
        if (pl_spool_stdin(&file, e) < 0)
            return -1;
    } else if (pl_open_path(&opener, path, o->writable ? PL_READ_WRITE : PL_READ, &file, e) < 0) {
        return -1;
    }
    return open_for_repair(file, path, o, out, e);
}

static int close_one(struct pl_image *img, struct pl_err *e)
{
    int result = pl_flush(img, e);

    if (result == 0 && img->writable && !img->broken && img->driver->seal &&
        img->driver->seal(img->layer.state, e) < 0)
        result = pl_within(e, "%s: closing", img->path);
    img->driver->close(img->layer.state);
    if (!img->borrowed && pl_storage_close(img->file, result < 0 ? NULL : e) < 0)
        result = -1;
    if (pl_keeper_finish(img->keeper, result < 0 ? NULL : e) < 0)
        result = -1;
    pl_package_close(img->package); /* behind the file, which lies in it */
    free_image(img);
    return result;
}

int pl_close(struct pl_image *img, struct pl_err *e)
{
    int result = 0;

    while (img) {
        struct pl_image *parent = img->parent;

        if (close_one(img, result < 0 ? NULL : e) < 0)
            result = -1;
        img = parent;
    }
    return result;
}
