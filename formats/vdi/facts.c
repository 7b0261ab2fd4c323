/* facts.c - what `info` shows of a VDI image.  qemu-img shows nothing; the names are ours. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/vdi/vdi.h"

static const char *type_name(uint32_t type)
{
    switch (type) {
    case VDI_TYPE_FIXED:
        return "static";
    case VDI_TYPE_UNDO:
        return "undo";
    case VDI_TYPE_DIFF:
        return "differencing";
    default:
        return "dynamic";
    }
}

/* A field of text that need not end with a zero, without the blanks at its end. */
static void add_text(struct pl_fact *facts, const char *name, const char *field, size_t room)
{
    char text[VDI_COMMENT_BYTES + 1] = "";
    size_t len = strnlen(field, room);

    memcpy(text, field, len);
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    if (len)
        pl_facts_text(facts, name, text);
}

static void add_uuid(struct pl_fact *facts, const char *name, const uint8_t raw[static 16])
{
    char text[PL_UUID_TEXT];
    struct pl_uuid uuid;

    pl_uuid_load_guid(&uuid, raw);
    if (!pl_uuid_is_null(&uuid))
        pl_facts_text(facts, name, pl_uuid_format(&uuid, text));
}

int vdi_info(void *state, struct pl_fact *facts, struct pl_err *e)
{
    struct vdi *v = state;
    const struct vdi_header *h = &v->header;
    char version[24];

    (void)e;
    PL_LOCKED(&v->lock);
    snprintf(version, sizeof version, "%" PRIu32 ".%" PRIu32, VDI_MAJOR(h->version),
             VDI_MINOR(h->version));
    pl_facts_text(facts, "version", version);
    pl_facts_text(facts, "subformat", type_name(h->type));
    pl_facts_number(facts, "block-size", h->block_size);
    if (h->block_extra)
        pl_facts_number(facts, "block-extra", h->block_extra);
    pl_facts_number(facts, "blocks", h->blocks);
    pl_facts_number(facts, "allocated-blocks", h->allocated);
    add_uuid(facts, "uuid", h->image_uuid);
    add_uuid(facts, "modification-uuid", h->modification_uuid);
    add_uuid(facts, "parent-uuid", h->parent_uuid);
    add_uuid(facts, "parent-modification-uuid", h->parent_modification_uuid);
    add_text(facts, "creator", h->file_info, sizeof h->file_info);
    add_text(facts, "comment", h->comment, sizeof h->comment);
    return 0;
}
