/* chain_find.c - see chain_find.h.
 *
 * The files are opened under the policy for names in images, with the folder in question allowed,
 * and without locks: all that is read of them is what they are. */
#include "core/engine/chain_find.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/engine/new_image.h"
#include "core/storage/tree.h"

struct find {
    const struct pl_step *step;
    const char *allowed[2]; /* the folder that is looked through; null */
    const char *last; /* what the parent is called, folders aside; null: the child says none */
    struct pl_candidate *list; /* room for PL_CANDIDATES_MAX */
    size_t count;
};

static bool is_known(const struct find *f, const char *path)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->list[i].path, path) == 0)
            return true;
    return false;
}

static bool is_in_chain(const struct find *f, struct pl_storage *file)
{
    for (const struct pl_image *img = f->step->youngest; img; img = img->parent)
        if (pl_storage_same(img->file, file))
            return true;
    return false;
}

/* Whether its first bytes say that it could be the parent: an identity counts within a format. */
static bool has_right_format(const struct find *f, struct pl_storage *file)
{
    const struct pl_image *child = f->step->child;
    const struct pl_driver *driver;

    return !child->layer.parent_identity ||
           (pl_probe_file(file, NULL, &driver, NULL) == 0 && driver == child->driver);
}

static bool fits(const struct pl_image *child, const struct pl_image *img)
{
    return child->layer.parent_identity ? pl_has_identity(img, child->layer.parent_identity)
                                        : img->layer.size <= child->layer.size;
}

/* Opens the file alone; null: it is not what is looked for. */
static struct pl_image *open_candidate(const struct find *f, const char *path)
{
    const struct pl_image *child = f->step->child;
    const struct pl_opener opener = { .allowed = f->allowed, .force_share = true };
    const struct pl_open_options options = { .format = child->layer.parent_format,
                                             .no_parent = true,
                                             .force_share = true,
                                             .allowed_dirs = f->allowed };
    const struct pl_file_source own = { 0 };
    struct pl_storage *file;
    struct pl_image *img;

    if (pl_open_named(&opener, child->file, path, PL_READ, &file, NULL) < 0)
        return NULL;
    if (is_in_chain(f, file) || !has_right_format(f, file)) {
        pl_storage_close(file, NULL);
        return NULL;
    }
    if (pl_open_storage(file, &own, path, &options, &img, NULL) < 0)
        return NULL;
    if (fits(child, img))
        return img;
    pl_close(img, NULL);
    return NULL;
}

static int keep(struct find *f, const struct pl_image *img, const char *path, bool same_name,
                struct pl_err *e)
{
    const struct pl_layer *child = &f->step->child->layer;
    struct pl_candidate found = {
        .path = strdup(path),
        .format = img->driver->name,
        .size = img->layer.size,
        .by_identity = child->parent_identity != NULL,
        .same_name = same_name,
        .unchanged = !child->parent_revision || pl_has_identity(img, child->parent_revision),
    };

    if (!found.path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to keep it in mind", path);
    f->list[f->count++] = found;
    return f->count == PL_CANDIDATES_MAX;
}

static int consider(void *ctx, const char *path, struct pl_err *e)
{
    struct find *f = ctx;
    const bool same_name = f->last && strcmp(pl_last_part(path), f->last) == 0;
    struct pl_image *img;
    int result;

    if ((!same_name && !f->step->child->layer.parent_identity) || is_known(f, path))
        return 0;
    img = open_candidate(f, path);
    if (!img)
        return 0;
    result = keep(f, img, path, same_name, e);
    pl_close(img, NULL);
    return result;
}

static int look_in(struct find *f, const char *dir, struct pl_err *e)
{
    const struct pl_tree_visit visit = { consider, f, f->step->report };
    PL_FREE char *root = realpath(dir, NULL);

    f->allowed[0] = root;
    return pl_tree_walk(root ? root : dir, PL_TREE_DEPTH_MAX, &visit, e);
}

/* A file of that name in the child's own folder. */
static int look_beside(struct find *f, struct pl_err *e)
{
    const struct pl_image *child = f->step->child;
    PL_FREE char *path = NULL;
    PL_FREE char *real = NULL;

    if (!child->file->path || !f->last || child->layer.parent_identity)
        return 0;
    path = pl_path_beside(child->file->path, f->last);
    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to look for its parent", child->path);
    real = realpath(path, NULL);
    return real ? consider(f, real, e) : 0;
}

/* Better ones first; with nothing between them, in the order of their names. */
static int by_merit(const void *a, const void *b)
{
    const struct pl_candidate *first = a, *second = b;

    if (first->unchanged != second->unchanged)
        return first->unchanged ? -1 : 1;
    if (first->same_name != second->same_name)
        return first->same_name ? -1 : 1;
    if (first->size != second->size)
        return first->size > second->size ? -1 : 1;
    return strcmp(first->path, second->path);
}

int pl_find_parents(const struct pl_step *step, const char *const *dirs, struct pl_candidate **list,
                    size_t *count, struct pl_err *e)
{
    const char *name = step->child->layer.parent_name;
    struct find f = { .step = step, .last = name ? pl_last_part(name) : NULL };
    int result;

    f.list = calloc(PL_CANDIDATES_MAX, sizeof *f.list);
    if (!f.list)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to look for its parent", step->child->path);
    result = look_beside(&f, e);
    for (; result == 0 && dirs && *dirs; dirs++)
        result = look_in(&f, *dirs, e);
    if (result < 0) {
        pl_candidates_free(f.list, f.count);
        return -1;
    }
    qsort(f.list, f.count, sizeof *f.list, by_merit);
    *list = f.list;
    *count = f.count;
    return 0;
}

void pl_candidates_free(struct pl_candidate *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i].path);
    free(list);
}
