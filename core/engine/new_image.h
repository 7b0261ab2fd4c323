/* new_image.h - a new image under way: written without a name, named when complete.
 *
 * The image may lie inside a package: then the output is the package, and the image's file a
 * storage that the package's writer gives. */
#ifndef PL_CORE_ENGINE_NEW_IMAGE_H
#define PL_CORE_ENGINE_NEW_IMAGE_H

#include "core/engine/create.h"
#include "core/graph/node.h"
#include "core/package.h"
#include "core/storage/output.h"

/* Further files that an image consists of, like an external data file. */
#define PL_NEW_IMAGE_FILES_MAX 65536

struct pl_new_file {
    struct pl_output *output;
    char *name; /* as the image says it; owned */
};

struct pl_new_image {
    const struct pl_driver *driver;
    char *path; /* owned */
    struct pl_output *output;
    struct pl_new_file *more; /* named before the image itself; owned */
    size_t more_count, more_room;
    char *parent_identity; /* what the parent is known by; owned, null: nothing, or no parent */
    const struct pl_package_driver *packer; /* of the package around the image; null: none */
    void *writer;                           /* the packer's; null before it begins and when done */
    struct pl_storage *member;              /* the image's file in the package; owned, or null */
    struct pl_options *member_options;      /* what the image is made with; owned, or null */
    bool unsynced;                          /* see pl_output_leave_unsynced */
    struct pl_image *img; /* open for writing; null before pl_new_image_open and after _close */
};

/* Writes the metadata of a new image for `path`; nothing has a name yet.  On failure everything is
 * undone. */
int pl_new_image_begin(struct pl_new_image *image, const char *path,
                       const struct pl_create_options *options, struct pl_err *e) PL_CHECK;

/* The same in the place of the file that `older` is open on, with a writer's lock (see
 * pl_output_begin_over), as a child of `parent`, an open image of a format that is the new one's,
 * too: options->parent is what the child calls it. */
int pl_new_image_begin_over(struct pl_new_image *image, struct pl_storage *older,
                            const struct pl_image *parent, const struct pl_create_options *options,
                            struct pl_err *e) PL_CHECK;

/* Opens it into image->img, with its parents; for writing, unless `read_only`.  Failing undoes
 * nothing. */
int pl_new_image_open(struct pl_new_image *image, const struct pl_create_options *options,
                      bool read_only, struct pl_err *e) PL_CHECK;

/* Flushes and closes image->img. */
int pl_new_image_close(struct pl_new_image *image, struct pl_err *e) PL_CHECK;

/* Closes, syncs and names all files.  On failure what has no name yet is removed. */
int pl_new_image_finish(struct pl_new_image *image, struct pl_err *e) PL_CHECK;

/* The same for an image that nothing more is written to: a format that writes something behind the
 * data gets the chance. */
int pl_new_image_finish_empty(struct pl_new_image *image, const struct pl_create_options *options,
                              struct pl_err *e) PL_CHECK;

/* Removes everything. */
void pl_new_image_abandon(struct pl_new_image *image);

/* PL_E_INVALID when the file at `path`, which is about to be replaced, belongs to one of the images
 * or to one of their parents. */
int pl_refuse_in_use(struct pl_image *const *images, size_t count, const char *path,
                     struct pl_err *e) PL_CHECK;

/* The path of `name` as seen from the folder of `path`; the caller's to free.  Null: no memory. */
char *pl_path_beside(const char *path, const char *name);

#endif
