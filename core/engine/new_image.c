#include "core/engine/new_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/new_package.h"
#include "core/storage/alias.h"

/* Whether something at `path` could be an image.  To look at a pipe is to wait for its writer. */
static bool could_be_image(const char *path)
{
    struct stat status;

    return strcmp(path, "-") != 0 && stat(path, &status) == 0 && !S_ISFIFO(status.st_mode);
}

int pl_refuse_in_use(struct pl_image *const *images, size_t count, const char *path,
                     struct pl_err *e)
{
    const struct pl_opener opener = { .force_share = true };
    struct pl_storage *there;
    bool same = false;

    if (!could_be_image(path) || pl_open_path(&opener, path, PL_READ, &there, NULL) < 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        for (struct pl_image *img = images[i]; img; img = img->parent)
            same = same || pl_storage_same(img->file, there);
    pl_storage_close(there, NULL);
    if (!same)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: the output is one of the inputs or a backing file of one", path);
    return pl_hint(e, "write to another name and rename it afterwards");
}

char *pl_path_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *joined;

    if (*name == '/' || !slash)
        return strdup(name);
    return asprintf(&joined, "%.*s%s", (int)(slash - path + 1), path, name) < 0 ? NULL : joined;
}

/* The storage of a further file, found again by its name: it has none on the host yet. */
static int open_more(void *ctx, const char *name, struct pl_storage **out, struct pl_err *e)
{
    struct pl_new_image *image = ctx;

    for (size_t i = 0; i < image->more_count; i++)
        if (strcmp(image->more[i].name, name) == 0)
            return pl_alias_storage(pl_output_storage(image->more[i].output), out, e);
    return pl_fail(e, PL_E_NOT_FOUND, "%s: not one of the new image's files", name);
}

/* A place for a further file at the end of the list; null: no memory, or too many. */
static struct pl_new_file *add_more(struct pl_new_image *image, const char *name, struct pl_err *e)
{
    if (image->more_count == PL_NEW_IMAGE_FILES_MAX) {
        pl_fail(e, PL_E_LIMIT, "%s: too many files for one image", name);
        return NULL;
    }
    if (image->more_count == image->more_room) {
        const size_t room = image->more_room ? 2 * image->more_room : 8;
        struct pl_new_file *more = reallocarray(image->more, room, sizeof *more);

        if (!more) {
            pl_fail(e, PL_E_NOMEM, "%s: no memory", name);
            return NULL;
        }
        image->more = more;
        image->more_room = room;
    }
    return &image->more[image->more_count];
}

/* The driver's create_file. */
static int create_more(const struct pl_create_args *args, const char *name, struct pl_storage **out,
                       struct pl_err *e)
{
    struct pl_new_image *image = args->ctx;
    PL_FREE char *path = pl_path_beside(image->path, name);
    PL_FREE char *copy = strdup(name);
    struct pl_new_file *file = add_more(image, name, e);

    if (!file)
        return -1;
    if (!path || !copy)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", name);
    if (pl_output_begin(path, &file->output, e) < 0)
        return -1;
    file->name = pl_take(copy);
    image->more_count++;
    return open_more(image, name, out, e);
}

static struct pl_storage *image_file(const struct pl_new_image *image)
{
    return image->packer ? image->member : pl_output_storage(image->output);
}

/* What the driver is told of the new image, to make it and to open it the first time. */
static struct pl_create_args create_args(struct pl_new_image *image,
                                         const struct pl_create_options *options)
{
    return (struct pl_create_args){
        .file = image_file(image),
        .size = options->size,
        .parent.name = options->parent,
        .parent.format = options->parent_format,
        .parent.identity = image->parent_identity,
        .options = image->packer ? image->member_options : options->options,
        .reproducible = options->reproducible,
        .report = options->report,
        .create_file = create_more,
        .ctx = image,
    };
}

/* The parent alone tells what its children know it by; a format that needs that and does not get
 * it says so itself. */
static int ask_identity(struct pl_new_image *image, const struct pl_create_options *options,
                        struct pl_err *e)
{
    const struct pl_open_options alone = {
        .format = options->parent_format,
        .no_parent = true,
        .allowed_dirs = options->allowed_dirs,
    };
    PL_FREE char *path = options->parent ? pl_path_beside(image->path, options->parent) : NULL;
    struct pl_image *parent;

    if (!options->parent || (path && pl_open(path, &alone, &parent, NULL) < 0))
        return 0;
    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", image->path);
    image->parent_identity = pl_take(parent->layer.identity);
    return pl_close(parent, e);
}

static int write_metadata(struct pl_new_image *image, const struct pl_create_options *options,
                          struct pl_err *e)
{
    const struct pl_create_args args = create_args(image, options);

    if (image->driver->create(&args, e) < 0)
        return pl_within(e, "%s", image->path);
    return pl_options_check_all_known(options->options,
                                      image->packer ? image->packer->name : image->driver->name, e);
}

static int check_request(const struct pl_driver *driver, const char *path,
                         const struct pl_create_options *options, struct pl_err *e)
{
    if (!driver->create)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: creating is not supported by the format %s", path,
                       driver->name);
    if (options->size > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: a disk of %llu bytes is too big", path,
                       (unsigned long long)options->size);
    return 0;
}

/* What the image will be, and its path. */
static int prepare(struct pl_new_image *image, const char *path,
                   const struct pl_create_options *options, struct pl_err *e)
{
    const char *format = options->format ? options->format : "raw";

    *image = (struct pl_new_image){ .packer = pl_package_kind(format) };
    if (image->packer && !image->packer->begin)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: packages of the kind %s cannot be made", path,
                       format);
    if (pl_driver_find(image->packer ? image->packer->disk_format : format, &image->driver, e) <
            0 ||
        check_request(image->driver, path, options, e) < 0)
        return -1;
    image->path = strdup(path);
    return image->path ? 0 : pl_fail(e, PL_E_NOMEM, "%s: no memory", path);
}

int pl_new_image_begin(struct pl_new_image *image, const char *path,
                       const struct pl_create_options *options, struct pl_err *e)
{
    if (prepare(image, path, options, e) < 0)
        return -1;
    if (pl_output_begin(path, &image->output, e) < 0 || ask_identity(image, options, e) < 0 ||
        (image->packer && pl_new_package_begin(image, options, e) < 0) ||
        write_metadata(image, options, e) < 0) {
        pl_new_image_abandon(image);
        return -1;
    }
    return 0;
}

int pl_new_image_begin_over(struct pl_new_image *image, struct pl_storage *older,
                            const struct pl_image *parent, const struct pl_create_options *options,
                            struct pl_err *e)
{
    const char *identity = parent->layer.identity;

    if (prepare(image, older->path ? older->path : older->name, options, e) < 0)
        return -1;
    image->parent_identity = identity ? strdup(identity) : NULL;
    if (identity && !image->parent_identity) {
        pl_new_image_abandon(image);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", older->name);
    }
    if (pl_output_begin_over(older, &image->output, e) < 0 ||
        write_metadata(image, options, e) < 0) {
        pl_new_image_abandon(image);
        return -1;
    }
    return 0;
}

int pl_new_image_open(struct pl_new_image *image, const struct pl_create_options *options,
                      bool read_only, struct pl_err *e)
{
    const struct pl_open_options open_options = {
        .format = image->driver->name,
        .writable = !read_only,
        .no_parent = !options->parent || options->unsafe_parent,
        .allowed_dirs = options->allowed_dirs,
        .report = options->report,
    };
    const struct pl_create_args created = create_args(image, options);
    const struct pl_file_source source = {
        .borrowed = true,
        .open_file = open_more,
        .ctx = image,
        .created = read_only ? NULL : &created,
    };

    if (image->packer && read_only)
        return pl_new_package_open(image, &open_options, e);
    return pl_open_storage(image_file(image), &source, image->path, &open_options, &image->img, e);
}

int pl_new_image_close(struct pl_new_image *image, struct pl_err *e)
{
    struct pl_image *img = image->img;

    if (img && img->writable && img->driver->finish && img->driver->finish(img->layer.state, e) < 0)
        return pl_within(e, "%s: finishing it", image->path);
    if (pl_close(pl_take(image->img), e) < 0)
        return -1;
    return image->writer ? pl_new_package_finish(image, e) : 0;
}

static void release(struct pl_new_image *image)
{
    for (size_t i = 0; i < image->more_count; i++)
        free(image->more[i].name);
    free(image->more);
    free(image->parent_identity);
    pl_options_free(image->member_options);
    free(image->path);
    *image = (struct pl_new_image){ 0 };
}

/* Gives back room that was made ahead and not used. */
static int trim(struct pl_storage *file, struct pl_err *e)
{
    return file->device || file->sequential ? 0 : pl_storage_resize(file, pl_storage_size(file), e);
}

static int finish_file(struct pl_new_image *image, struct pl_output *output, struct pl_err *e)
{
    if (image->unsynced)
        pl_output_leave_unsynced(output);
    return pl_output_finish(output, e);
}

int pl_new_image_finish(struct pl_new_image *image, struct pl_err *e)
{
    int result = pl_new_image_close(image, e);

    if (result == 0)
        result = trim(pl_output_storage(image->output), e);

    for (size_t i = 0; result == 0 && i < image->more_count; i++)
        result = finish_file(image, pl_take(image->more[i].output), e);
    if (result == 0)
        result = finish_file(image, pl_take(image->output), e);
    if (result < 0)
        pl_new_image_abandon(image);
    else
        release(image);
    return result;
}

int pl_new_image_finish_empty(struct pl_new_image *image, const struct pl_create_options *options,
                              struct pl_err *e)
{
    struct pl_create_options alone = *options;

    alone.unsafe_parent = true; /* nobody reads */
    /* what stands behind the data is written by who has it open */
    if (image->driver->finish && pl_new_image_open(image, &alone, false, e) < 0) {
        pl_new_image_abandon(image);
        return -1;
    }
    return pl_new_image_finish(image, e);
}

void pl_new_image_abandon(struct pl_new_image *image)
{
    if (image->img)
        image->img->writable = false; /* what is thrown away is not flushed */
    pl_close(pl_take(image->img), NULL);
    pl_storage_close(pl_take(image->member), NULL);
    if (image->writer)
        image->packer->abandon(image->writer);
    for (size_t i = 0; i < image->more_count; i++)
        pl_output_abandon(image->more[i].output);
    pl_output_abandon(image->output);
    release(image);
}
