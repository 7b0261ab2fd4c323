/* chain.c - opens the parents of an image, the youngest first, under the opener's policy.
 *
 * A chain ends where an image names no parent.  One that comes back to a file already in it, or is
 * deeper than PL_CHAIN_MAX, is refused: both are ways to make a reader loop. */
#include <inttypes.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/graph/node.h"

/* The folder of `child` decides what its parent's name means. */
static int open_parent_file(const struct pl_image *child, const struct pl_open_options *options,
                            struct pl_storage **out, struct pl_err *e)
{
    const struct pl_opener opener = { .allowed = options->allowed_dirs,
                                      .force_share = options->force_share };

    if (pl_open_named(&opener, child->file, child->layer.parent_name, PL_READ, out, e) < 0)
        return pl_within(e, "%s: opening its backing file", child->path);
    return 0;
}

static int refuse_loop(const struct pl_image *youngest, const struct pl_image *child,
                       struct pl_storage *file, unsigned depth, struct pl_err *e)
{
    if (depth >= PL_CHAIN_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: its chain of backing files is deeper than %d",
                       youngest->path, PL_CHAIN_MAX);
    for (const struct pl_image *img = youngest; img; img = img->parent)
        if (pl_storage_same(img->file, file))
            return pl_fail(e, PL_E_CORRUPT, "%s: its backing file '%s' is already in the chain",
                           child->path, child->layer.parent_name);
    return 0;
}

/* Opens the parent of `child` alone and hangs it below. */
static int open_parent(struct pl_image *youngest, struct pl_image *child, unsigned depth,
                       const struct pl_open_options *options, struct pl_err *e)
{
    const struct pl_open_options parent_options = {
        .format = child->layer.parent_format,
        .no_parent = true, /* one step at a time: no recursion */
        .force_share = options->force_share,
        .allowed_dirs = options->allowed_dirs,
        .report = options->report,
    };
    const struct pl_file_source own = { 0 };
    struct pl_storage *file;

    if (open_parent_file(child, options, &file, e) < 0)
        return -1;
    if (refuse_loop(youngest, child, file, depth, e) < 0) {
        pl_storage_close(file, NULL);
        return -1;
    }
    if (pl_open_storage(file, &own, file->path ? file->path : child->layer.parent_name,
                        &parent_options, &child->parent, e) < 0)
        return pl_within(e, "%s: opening its backing file", child->path);
    return 0;
}

int pl_open_parents(struct pl_image *img, const struct pl_open_options *options, struct pl_err *e)
{
    struct pl_image *child = img;

    for (unsigned depth = 1; child->layer.parent_name; depth++) {
        if (open_parent(img, child, depth, options, e) < 0) {
            pl_close(pl_take(img->parent), NULL);
            return -1;
        }
        child = child->parent;
    }
    return 0;
}
