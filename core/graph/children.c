/* children.c - which images in a folder have a certain image for a parent.
 *
 * Whoever changes an image that others build on changes them all: it must know of them.  Only files
 * of a format that tells itself are looked at, for no other can name a parent. */
#include <stdlib.h>

#include "core/base/scope.h"
#include "core/graph/chain.h"
#include "core/storage/folder.h"

/* As `child`, whose name for its parent is `name`, sees the file that it leads to. */
enum leads { NOWHERE, HERE, ELSEWHERE };

static enum leads lead_of_name(const struct pl_family *f, const struct pl_image *child)
{
    const struct pl_opener opener = { .allowed = f->allowed_dirs, .force_share = true };
    struct pl_storage *file;
    enum leads lead;

    if (!child->layer.parent_name ||
        pl_open_named(&opener, child->file, child->layer.parent_name, PL_READ, &file, NULL) < 0)
        return NOWHERE;
    lead = pl_storage_same(file, f->parent->file) ? HERE : ELSEWHERE;
    pl_storage_close(file, NULL);
    return lead;
}

/* Whether what the child names is a parent that it takes. */
static bool has_other_parent(const struct pl_family *f, struct pl_image *child)
{
    const struct pl_open_options options = { .force_share = true, .allowed_dirs = f->allowed_dirs };
    const struct pl_step step = { .youngest = child, .child = child, .options = &options };
    enum pl_link link;

    if (pl_step_to(&step, child->layer.parent_name, &link, NULL) < 0)
        return false;
    pl_close(pl_take(child->parent), NULL);
    return true;
}

enum pl_link pl_child_link(const struct pl_family *f, struct pl_image *child)
{
    const char *wanted = child->layer.parent_identity, *revision = child->layer.parent_revision;
    const bool known = wanted && pl_has_identity(f->parent, wanted);
    const enum leads lead = lead_of_name(f, child);

    if (wanted && !known)
        return lead == HERE ? PL_LINK_MISMATCH : PL_LINK_NONE;
    if (!wanted && lead != HERE)
        return PL_LINK_NONE;
    if (lead == ELSEWHERE && has_other_parent(f, child))
        return PL_LINK_NONE;
    return revision && !pl_has_identity(f->parent, revision) ? PL_LINK_CHANGED : PL_LINK_SOUND;
}

struct pl_image *pl_open_relative(const struct pl_family *f, struct pl_storage *by,
                                  const char *name)
{
    const struct pl_opener opener = { .allowed = f->allowed_dirs, .force_share = true };
    struct pl_open_options alone = { .no_parent = true,
                                     .force_share = true,
                                     .describe_only = true, /* a child it is all the same */
                                     .allowed_dirs = f->allowed_dirs };
    const struct pl_file_source own = { 0 };
    const struct pl_driver *driver = NULL;
    struct pl_storage *file;
    struct pl_image *img;

    if (pl_open_named(&opener, by, name, PL_READ, &file, NULL) < 0)
        return NULL;
    if (pl_storage_same(file, f->parent->file) || pl_probe_file(file, NULL, &driver, NULL) < 0 ||
        !driver) {
        pl_storage_close(file, NULL);
        return NULL;
    }
    alone.format = driver->name;
    return pl_open_storage(file, &own, name, &alone, &img, NULL) < 0 ? NULL : img;
}

static bool is_childs_file(const struct pl_family *f, struct pl_storage *by, const char *name)
{
    PL_FREE char *said = pl_name_to_say(name);
    struct pl_image *img = said ? pl_open_relative(f, by, said) : NULL;
    const enum pl_link link = img ? pl_child_link(f, img) : PL_LINK_NONE;

    pl_close(img, NULL);
    return link == PL_LINK_SOUND || link == PL_LINK_CHANGED;
}

int pl_children_beside(struct pl_image *parent, struct pl_image *beside,
                       const struct pl_open_options *options, char ***names, size_t *count,
                       struct pl_err *e)
{
    const struct pl_family family = { .parent = parent, .allowed_dirs = options->allowed_dirs };
    char **all;
    size_t seen, found = 0;

    if (pl_names_beside(beside->file, &all, &seen, e) < 0)
        return -1;
    for (size_t i = 0; i < seen; i++) {
        if (is_childs_file(&family, beside->file, all[i]))
            all[found++] = all[i];
        else
            free(all[i]);
    }
    *names = all;
    *count = found;
    return 0;
}
