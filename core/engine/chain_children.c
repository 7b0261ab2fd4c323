/* chain_children.c - which images have another one as their parent: see chain_report.h.
 *
 * Unlike what commit looks for beside an image, this goes down into folders, and shows children
 * that want another identity, too. */
#include "core/engine/chain_report.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/graph/chain.h"
#include "core/storage/tree.h"

/* No more children than that are listed. */
#define CHILDREN_MAX 4096

struct children {
    struct pl_family family;
    const char *allowed[3]; /* the folder that is looked through, that of the parent; null */
    struct pl_child *list;
    size_t count;
};

static int add(struct children *f, const struct pl_image *child, const char *path,
               enum pl_link link, struct pl_err *e)
{
    struct pl_child *more;
    char *copy;

    if (f->count == CHILDREN_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: more than %d children, too many to list",
                       f->family.parent->path, CHILDREN_MAX);
    more = reallocarray(f->list, f->count + 1, sizeof *more);
    if (more)
        f->list = more;
    copy = more ? strdup(path) : NULL;
    if (!copy)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to list it", path);
    more[f->count++] = (struct pl_child){ copy, child->driver->name, child->layer.size, link };
    return 0;
}

static bool is_listed(const struct children *f, const char *path)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->list[i].path, path) == 0)
            return true;
    return false;
}

static int consider(void *ctx, const char *path, struct pl_err *e)
{
    struct children *f = ctx;
    struct pl_image *img =
        is_listed(f, path) ? NULL : pl_open_relative(&f->family, f->family.parent->file, path);
    enum pl_link link;
    int result = 0;

    if (!img)
        return 0;
    link = pl_child_link(&f->family, img);
    if (link != PL_LINK_NONE)
        result = add(f, img, path, link, e);
    pl_close(img, NULL);
    return result;
}

/* The folder that the image is in, without links; null: none. */
static char *folder_of(const struct pl_image *img)
{
    char *path = img->file->path ? realpath(img->file->path, NULL) : NULL;

    if (path)
        path[strrchr(path, '/') == path ? 1 : strrchr(path, '/') - path] = '\0';
    return path;
}

int pl_children(struct pl_image *img, const char *const *dirs,
                const struct pl_chain_options *options, struct pl_child **list, size_t *count,
                struct pl_err *e)
{
    struct children f = { .family = { .parent = img } };
    const struct pl_tree_visit visit = { consider, &f, options->report };
    PL_FREE char *own = folder_of(img);
    int result = 0;

    f.family.allowed_dirs = f.allowed;
    for (; result == 0 && *dirs; dirs++) {
        PL_FREE char *root = realpath(*dirs, NULL);

        f.allowed[0] = root ? root : *dirs;
        f.allowed[1] = own;
        result = pl_tree_walk(f.allowed[0], PL_TREE_DEPTH_MAX, &visit, e);
    }
    if (result < 0) {
        pl_children_free(f.list, f.count);
        return -1;
    }
    *list = f.list;
    *count = f.count;
    return 0;
}

void pl_children_free(struct pl_child *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i].path);
    free(list);
}
