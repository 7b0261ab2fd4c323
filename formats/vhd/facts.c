/* facts.c - what `info` shows of a VHD. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "formats/vhd/vhd.h"

/* Four characters of a file, what cannot be printed as '?', without blanks at their end. */
static void text_of(const char code[4], char text[5])
{
    size_t len = 4;

    memcpy(text, code, 4);
    for (size_t i = 0; i < 4; i++)
        if (text[i] && !isprint((unsigned char)text[i]))
            text[i] = '?';
    while (len > 0 && (text[len - 1] == '\0' || text[len - 1] == ' '))
        len--;
    text[len] = '\0';
}

static const char *subformat(const struct vhd *v)
{
    if (v->fixed)
        return "fixed";
    return v->has_parent ? "differencing" : "dynamic";
}

static void add_uuid(struct pl_fact *facts, const char *name, const uint8_t raw[16])
{
    struct pl_uuid uuid;
    char text[PL_UUID_TEXT];

    memcpy(uuid.byte, raw, sizeof uuid.byte);
    pl_facts_text(facts, name, pl_uuid_format(&uuid, text));
}

static void add_creator(const struct vhd *v, struct pl_fact *facts)
{
    const uint32_t version = v->footer.creator_version;
    char code[5], text[40];

    text_of(v->footer.creator_application, code);
    snprintf(text, sizeof text, "%s %u.%u", code, version >> 16, version & 0xffff);
    pl_facts_text(facts, "creator", text);
}

int vhd_info(void *state, struct pl_fact *facts, struct pl_err *e)
{
    struct vhd *v = state;
    const struct vhd_footer *f = &v->footer;
    char geometry[40];

    (void)e;
    PL_LOCKED(&v->lock);
    snprintf(geometry, sizeof geometry, "%u/%u/%u", f->cylinders, f->heads, f->sectors_per_track);
    pl_facts_text(facts, "subformat", subformat(v));
    add_creator(v, facts);
    pl_facts_number(facts, "current-size", f->current_size);
    pl_facts_text(facts, "geometry", geometry);
    add_uuid(facts, "unique-id", f->unique_id);
    pl_facts_bool(facts, "saved-state", f->saved_state != 0);
    if (v->fixed)
        return 0;
    pl_facts_number(facts, "block-size", v->block_size);
    if (v->has_parent)
        add_uuid(facts, "parent-unique-id", v->header.parent_unique_id);
    return 0;
}
