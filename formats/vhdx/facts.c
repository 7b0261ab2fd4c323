/* facts.c - what `info` shows of a VHDX image; qemu-img has nothing of its own for it. */
#include <stdlib.h>

#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

static const char *subformat(const struct vhdx *v)
{
    if (v->has_parent)
        return "differencing";
    return v->keep_blocks ? "fixed" : "dynamic";
}

static void add_guid(struct pl_fact *facts, const char *name, const uint8_t *raw)
{
    char text[PL_UUID_TEXT];

    pl_facts_text(facts, name, vhdx_guid_text(raw, text));
}

int vhdx_info(void *state, struct pl_fact *facts, struct pl_err *e)
{
    const struct vhdx *v = state;
    char text[PL_UUID_TEXT];

    (void)e;
    pl_facts_text(facts, "subformat", subformat(v));
    pl_facts_number(facts, "block-size", v->block_size);
    pl_facts_number(facts, "logical-sector-size", v->sector_size);
    pl_facts_number(facts, "physical-sector-size", v->physical_sector_size);
    add_guid(facts, "disk-id", v->disk_id);
    add_guid(facts, "file-write-guid", v->header.FileWriteGuid);
    add_guid(facts, "data-write-guid", v->header.DataWriteGuid);
    if (v->has_parent)
        pl_facts_text(facts, "parent-linkage", pl_uuid_format(&v->parent_linkage, text));
    if (!pl_uuid_is_null(&v->parent_linkage2))
        pl_facts_text(facts, "parent-linkage2", pl_uuid_format(&v->parent_linkage2, text));
    pl_facts_number(facts, "log-size", v->log.len);
    pl_facts_text(facts, "log", v->replayed ? "replayed" : "empty");
    return 0;
}
