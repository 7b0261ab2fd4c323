/* parent.c - the parent that an image names: its UUID, and that of its last modification.
 *
 * A change of parent is one write of the header, which lies in one sector: a crash leaves the old
 * parent or the new one.  What the image says itself is on disk before.  Without a parent the image
 * is a dynamic one (a static one stays that), over one a differencing one: a block that is free
 * falls through, whatever the type. */
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

/* The UUID behind "name:" among the words of an identity; false: there is none. */
static bool find_uuid(const char *words, const char *name, uint8_t raw[static 16])
{
    const size_t len = strlen(name);
    char text[PL_UUID_TEXT];
    struct pl_uuid uuid;

    for (const char *at = words; at && *at; at += strspn(at, " ")) {
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            snprintf(text, sizeof text, "%s", at + len + 1);
            if (pl_uuid_parse(text, &uuid, NULL) < 0)
                return false;
            pl_uuid_store_guid(raw, &uuid);
            return true;
        }
        at += strcspn(at, " ");
    }
    return false;
}

static int refuse_format(const struct pl_parent_ref *parent, struct pl_err *e)
{
    pl_fail(e, PL_E_UNSUPPORTED, "'%s' is of the format %s, but only a VDI image can be its parent",
            parent->name, parent->format);
    return pl_hint(e, "convert the parent to vdi, or the child to qcow2, which takes any parent");
}

static void name_none(struct vdi_header *h)
{
    memset(h->parent_uuid, 0, sizeof h->parent_uuid);
    memset(h->parent_modification_uuid, 0, sizeof h->parent_modification_uuid);
    if (h->type != VDI_TYPE_FIXED)
        h->type = VDI_TYPE_NORMAL;
}

int vdi_name_parent(struct vdi_header *h, const struct pl_parent_ref *parent,
                    const struct pl_report *report, struct pl_err *e)
{
    if (!parent->name) {
        name_none(h);
        return 0;
    }
    if (parent->format && strcmp(parent->format, "vdi") != 0)
        return refuse_format(parent, e);
    if (!find_uuid(parent->identity, "uuid", h->parent_uuid)) {
        pl_fail(e, PL_E_UNSUPPORTED, "the UUID of its parent '%s' is not known", parent->name);
        return pl_hint(e, "the image is tied to that UUID: the parent must be a VDI image that can "
                          "be opened");
    }
    if (!find_uuid(parent->identity, "modification", h->parent_modification_uuid))
        memset(h->parent_modification_uuid, 0, sizeof h->parent_modification_uuid);
    h->type = VDI_TYPE_DIFF;
    if (strchr(parent->name + (strncmp(parent->name, "./", 2) == 0 ? 2 : 0), '/'))
        pl_warn(report,
                "the image keeps the UUID of its parent and not its name '%s': it is looked for "
                "in the image's folder",
                parent->name);
    return 0;
}

int vdi_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e)
{
    struct vdi *v = state;
    struct vdi_header changed;

    PL_LOCKED(&v->lock);
    if (vdi_check_writable(v, e) < 0)
        return -1;
    changed = v->header;
    if (vdi_name_parent(&changed, parent, v->report, e) < 0 || vdi_write_back(v, true, e) < 0)
        return -1;
    changed.allocated = v->header.allocated; /* writing back may have raised it */
    v->header = changed;
    if (vdi_switch_header(v, e) < 0)
        return pl_within(e, "naming the parent");
    v->has_parent = parent->name;
    return 0;
}
