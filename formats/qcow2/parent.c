/* parent.c - the image names another backing file, or none.
 *
 * Nothing else of the file changes: what it says nothing of is the other one's from then on. */
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/qcow2/change.h"

static int check_request(const struct qcow2 *q, const char *name, struct pl_err *e)
{
    if (qcow2_check_writable(q, e) < 0)
        return -1;
    if (name && qcow2_data_file_raw(q))
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "an image with a raw external data file cannot have a backing file: "
                       "that file must be the whole disk");
    return 0;
}

/* A copy; an empty text is none. */
static int copy_text(const char *text, char **copy, struct pl_err *e)
{
    *copy = text && *text ? strdup(text) : NULL;
    return text && *text && !*copy ? pl_fail(e, PL_E_NOMEM, "no memory for a name") : 0;
}

/* The name by which QEMU knows a format: it is QEMU that reads it in the header. */
static const char *qemu_name(const char *format)
{
    return format && strcmp(format, "vhd") == 0 ? "vpc" : format;
}

int qcow2_copy_parent(const struct pl_parent_ref *parent, char **name, char **format,
                      struct pl_err *e)
{
    if (copy_text(parent->name, name, e) < 0)
        return -1;
    return copy_text(*name ? qemu_name(parent->format) : NULL, format, e);
}

static void swap(char **a, char **b)
{
    char *kept = *a;

    *a = *b;
    *b = kept;
}

int qcow2_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e)
{
    struct qcow2 *q = state;
    PL_FREE char *name = NULL;
    PL_FREE char *format = NULL;

    PL_LOCKED(&q->lock);
    if (qcow2_copy_parent(parent, &name, &format, e) < 0 || check_request(q, name, e) < 0)
        return -1;
    /* what the new parent must not show is on disk first */
    if (qcow2_write_back(q, true, e) < 0)
        return -1;
    q->header.autoclear_features &= QCOW2_AUTOCLEAR_KNOWN;
    swap(&q->parent_name, &name);
    swap(&q->parent_format, &format);
    if (qcow2_replace_header(q, e) == 0)
        return 0;
    swap(&q->parent_name, &name);
    swap(&q->parent_format, &format);
    return -1;
}
