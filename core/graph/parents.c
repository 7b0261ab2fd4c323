/* parents.c - another parent for an open image: what its file says, not what is read meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/graph/node.h"

static int copy_text(const char *text, char **copy, struct pl_err *e)
{
    *copy = text && *text ? strdup(text) : NULL;
    return text && *text && !*copy ? pl_fail(e, PL_E_NOMEM, "no memory for a name") : 0;
}

/* The words that the new parent must have are the driver's choice: opening the file again tells
 * them. */
static void set_texts(struct pl_layer *layer, char *name, char *format)
{
    free(layer->parent_name);
    free(layer->parent_format);
    free(pl_take(layer->parent_identity));
    free(pl_take(layer->parent_revision));
    layer->parent_name = name;
    layer->parent_format = format;
}

int pl_set_parent(struct pl_image *img, const struct pl_parent_ref *parent, struct pl_err *e)
{
    PL_FREE char *name = NULL;
    PL_FREE char *format = NULL;

    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    if (!img->driver->set_parent)
        return pl_no_slot(img, "another backing file", e);
    if (copy_text(parent->name, &name, e) < 0 ||
        copy_text(name ? parent->format : NULL, &format, e) < 0)
        return -1;
    if (pl_flush(img, e) < 0)
        return -1;
    if (img->driver->set_parent(img->layer.state, parent, e) < 0)
        return pl_within(e, "%s: changing its backing file", img->path);
    set_texts(&img->layer, pl_take(name), pl_take(format));
    return 0;
}
