/* facts.c - what `info` shows of a VMDK disk: qemu-img's names first, then platter's own. */
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/vmdk.h"

/* The extent of a monolithic disk has no type in qemu-img's output. */
static const char *format_of(const struct vmdk *v, const struct vmdk_part *part)
{
    const struct vmdk_line *line = vmdk_line_of(v, part);

    return line && part->extent.file != v->file ? vmdk_type_name(line->type) : "";
}

static void add_file(struct pl_fact *facts, const struct vmdk_line *line,
                     const struct pl_storage *file)
{
    if (file)
        pl_facts_text(facts, "filename", file->path ? file->path : file->name);
    else if (line && line->name)
        pl_facts_text(facts, "filename", line->name);
}

static void add_extent(const struct vmdk *v, const struct vmdk_part *part, struct pl_fact *list)
{
    const struct vmdk_extent *x = &part->extent;
    const struct vmdk_line *line = vmdk_line_of(v, part);
    struct pl_fact *facts = pl_facts_object(list, NULL);

    if (x->packed_only || x->codec)
        pl_facts_bool(facts, "compressed", true);
    pl_facts_number(facts, "virtual-size", x->size);
    add_file(facts, line, x->file);
    if (x->granule > 1)
        pl_facts_number(facts, "cluster-size", x->granule);
    pl_facts_text(facts, "format", format_of(v, part));
    if (line && line->access != VMDK_RW)
        pl_facts_text(facts, "access", vmdk_access_name(line->access));
    if (line && line->offset)
        pl_facts_number(facts, "offset", line->offset);
    if (part->missing)
        pl_facts_bool(facts, "missing", true);
}

static void add_value(const struct vmdk *v, struct pl_fact *facts, const char *name,
                      const char *key)
{
    PL_FREE char *value = vmdk_descriptor_value(&v->descriptor, key);

    if (value)
        pl_facts_text(facts, name, value);
}

int vmdk_info(void *state, struct pl_fact *facts, struct pl_err *e)
{
    static const char *const own[][2] = {
        { "encoding", "encoding" },
        { "adapter-type", "ddb.adapterType" },
        { "hardware-version", "ddb.virtualHWVersion" },
        { "tools-version", "ddb.toolsVersion" },
        { "thin-provisioned", "ddb.thinProvisioned" },
        { "long-content-id", "ddb.longContentID" },
        { "uuid", "ddb.uuid" },
        { "image-uuid", "ddb.uuid.image" },
        { "change-track-path", "changeTrackPath" },
        { "native-snapshot", "isNativeSnapshot" },
    };
    const struct vmdk *v = state;
    struct pl_fact *list;

    (void)e;
    if (v->descriptor.has_cid)
        pl_facts_number(facts, "cid", v->descriptor.cid);
    if (v->descriptor.text)
        pl_facts_number(facts, "parent-cid", v->descriptor.parent_cid);
    if (v->create_type)
        pl_facts_text(facts, "create-type", v->create_type);
    list = pl_facts_list(facts, "extents");
    for (size_t i = 0; i < v->count; i++)
        add_extent(v, &v->parts[i], list);
    for (size_t i = 0; v->descriptor.text && i < PL_COUNT(own); i++)
        add_value(v, facts, own[i][0], own[i][1]);
    if (!pl_uuid_is_null(&v->parent_uuid))
        add_value(v, facts, "parent-uuid", "ddb.uuid.parent");
    return 0;
}

uint64_t vmdk_disk_usage(void *state)
{
    const struct vmdk *v = state;
    uint64_t sum = pl_storage_disk_usage(v->file);

    for (size_t i = 0; i < v->count; i++)
        if (v->parts[i].extent.owned)
            sum += pl_storage_disk_usage(v->parts[i].extent.file);
    return sum;
}
