/* children.c - which images in a folder have a certain image for a parent.
 *
 * Whoever changes an image that others build on changes them all: it must know of them.  Only files
 * of a format that tells itself are looked at, for no other can name a parent. */
#include <stdlib.h>
#include <string.h>

#include "core/graph/node.h"
#include "core/storage/folder.h"

/* What is looked for, and how files are opened. */
struct search {
    struct pl_image *parent, *beside;
    struct pl_opener opener;
    struct pl_open_options alone;
};

/* Whether the name that the image gives leads to the parent's file. */
static bool names_parent(const struct search *s, const struct pl_image *img)
{
    struct pl_storage *file;
    bool same;

    if (!img->layer.parent_name ||
        pl_open_named(&s->opener, img->file, img->layer.parent_name, PL_READ, &file, NULL) < 0)
        return false;
    same = pl_storage_same(file, s->parent->file);
    pl_storage_close(file, NULL);
    return same;
}

static bool is_child(const struct search *s, const struct pl_image *img)
{
    const char *word = img->layer.parent_identity;

    return word ? pl_has_identity(s->parent, word) : names_parent(s, img);
}

/* Opens the image in a file of the folder, alone; null: there is none. */
static struct pl_image *open_alone(const struct search *s, const char *name)
{
    const struct pl_file_source own = { 0 };
    struct pl_open_options options = s->alone;
    const struct pl_driver *driver = NULL;
    struct pl_storage *file;
    struct pl_image *img;

    if (pl_open_named(&s->opener, s->beside->file, name, PL_READ, &file, NULL) < 0)
        return NULL;
    if (pl_storage_same(file, s->parent->file) || pl_probe_file(file, NULL, &driver, NULL) < 0 ||
        !driver) {
        pl_storage_close(file, NULL);
        return NULL;
    }
    options.format = driver->name;
    return pl_open_storage(file, &own, name, &options, &img, NULL) < 0 ? NULL : img;
}

static bool is_childs_file(const struct search *s, const char *name)
{
    struct pl_image *img = open_alone(s, name);
    const bool found = img && is_child(s, img);

    pl_close(img, NULL);
    return found;
}

int pl_children_beside(struct pl_image *parent, struct pl_image *beside,
                       const struct pl_open_options *options, char ***names, size_t *count,
                       struct pl_err *e)
{
    const struct search s = {
        .parent = parent,
        .beside = beside,
        .opener = { .allowed = options->allowed_dirs, .force_share = true },
        .alone = { .no_parent = true, .force_share = true, .allowed_dirs = options->allowed_dirs },
    };
    char **all;
    size_t seen, found = 0;

    if (pl_names_beside(beside->file, &all, &seen, e) < 0)
        return -1;
    for (size_t i = 0; i < seen; i++) {
        if (is_childs_file(&s, all[i]))
            all[found++] = all[i];
        else
            free(all[i]);
    }
    *names = all;
    *count = found;
    return 0;
}
