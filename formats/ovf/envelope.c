/* envelope.c - the Envelope of an OVF descriptor and its sections (DSP0243, clauses 7 to 9). */
#include "formats/ovf/envelope.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/text.h"
#include "formats/ovf/list.h"
#include "formats/ovf/sections.h"
#include "formats/ovf/units.h"

int ovf_no_room(size_t count, size_t max, const char *what, struct pl_err *e)
{
    if (count >= max)
        return pl_fail(e, PL_E_LIMIT, "more than %zu %s", max, what);
    return pl_fail(e, PL_E_NOMEM, "no memory for %zu %s", count + 1, what);
}

bool ovf_is_section(const xmlNode *node, const char *name)
{
    xmlChar *type;
    const char *local;
    bool same;

    if (!ovf_xml_is(node, OVF_ENVELOPE, NULL))
        return false;
    if (strcmp((const char *)node->name, name) == 0)
        return true;
    if (strcmp((const char *)node->name, "Section") != 0 &&
        strcmp((const char *)node->name, "Content") != 0)
        return false;
    type = xmlGetNsProp(node, (const xmlChar *)"type",
                        (const xmlChar *)"http://www.w3.org/2001/XMLSchema-instance");
    if (!type)
        return false;
    local = strchr((const char *)type, ':');
    local = local ? local + 1 : (const char *)type;
    same = strncmp(local, name, strlen(name)) == 0 && strcmp(local + strlen(name), "_Type") == 0;
    xmlFree(type);
    return same;
}

static const char *attribute(const struct ovf_parse *parse, const xmlNode *node, const char *name)
{
    return ovf_xml_attribute(node, OVF_ENVELOPE, name, parse->envelope->texts);
}

/* A number that may be absent (0). */
static int optional_number(const struct ovf_parse *parse, const xmlNode *node, const char *name,
                           uint64_t *number, struct pl_err *e)
{
    const char *text = attribute(parse, node, name);

    *number = 0;
    if (text && ovf_size(text, NULL, number, e) < 0)
        return pl_within(e, "%s", name);
    return 0;
}

static int parse_file(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    struct ovf_envelope *envelope = parse->envelope;
    struct ovf_file *file = envelope->file_count < OVF_FILES_MAX
                                ? OVF_APPEND(envelope->files, envelope->file_count)
                                : NULL;

    if (!file)
        return ovf_no_room(envelope->file_count, OVF_FILES_MAX, "files", e);
    file->id = attribute(parse, node, "id");
    file->href = attribute(parse, node, "href");
    file->compression = attribute(parse, node, "compression");
    if (!file->id || !file->href)
        return pl_fail(e, PL_E_CORRUPT, "a File has no id or no href");
    if (optional_number(parse, node, "size", &file->size, e) < 0 ||
        optional_number(parse, node, "chunkSize", &file->chunk_size, e) < 0)
        return pl_within(e, "file %.100s", file->id);
    if (ovf_envelope_file(envelope, file->id) != file)
        return pl_fail(e, PL_E_CORRUPT, "two files have the id %.100s", file->id);
    return 0;
}

/* A capacity may be a "${property}" that is chosen at installation. */
static int parse_capacity(struct ovf_parse *parse, const xmlNode *node, struct ovf_disk *disk,
                          struct pl_err *e)
{
    const char *capacity = attribute(parse, node, "capacity");

    if (!capacity || strncmp(capacity, "${", 2) == 0)
        return 0;
    return ovf_size(capacity, attribute(parse, node, "capacityAllocationUnits"), &disk->capacity,
                    e);
}

static int parse_disk(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    struct ovf_envelope *envelope = parse->envelope;
    struct ovf_disk *disk = envelope->disk_count < OVF_DISKS_MAX
                                ? OVF_APPEND(envelope->disks, envelope->disk_count)
                                : NULL;

    if (!disk)
        return ovf_no_room(envelope->disk_count, OVF_DISKS_MAX, "disks", e);
    disk->id = attribute(parse, node, "diskId");
    disk->file_id = attribute(parse, node, "fileRef");
    disk->format = attribute(parse, node, "format");
    disk->parent_id = attribute(parse, node, "parentRef");
    if (!disk->id)
        return pl_fail(e, PL_E_CORRUPT, "a Disk has no diskId");
    for (const struct ovf_disk *other = envelope->disks; other < disk; other++)
        if (strcmp(other->id, disk->id) == 0)
            return pl_fail(e, PL_E_CORRUPT, "two disks have the id %.100s", disk->id);
    if (disk->file_id && !ovf_envelope_file(envelope, disk->file_id))
        return pl_fail(e, PL_E_CORRUPT, "disk %.100s is in the file %.100s, which does not exist",
                       disk->id, disk->file_id);
    return parse_capacity(parse, node, disk, e) < 0 ? pl_within(e, "disk %.100s", disk->id) : 0;
}

static int parse_network(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    struct ovf_envelope *envelope = parse->envelope;
    const char *name = attribute(parse, node, "name");
    const char **network;

    if (!name)
        return 0;
    network = envelope->network_count < OVF_NETWORKS_MAX
                  ? OVF_APPEND(envelope->networks, envelope->network_count)
                  : NULL;
    if (!network)
        return ovf_no_room(envelope->network_count, OVF_NETWORKS_MAX, "networks", e);
    *network = name;
    return 0;
}

/* The configuration that is marked as the default, else the first one. */
static int parse_configuration(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    const char *is_default = attribute(parse, node, "default");

    (void)e;
    if (!parse->configuration ||
        (is_default && (strcmp(is_default, "true") == 0 || strcmp(is_default, "1") == 0)))
        parse->configuration = attribute(parse, node, "id");
    return 0;
}

typedef int parse_element(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e);

/* Every `name` inside the sections called `section` among the children of the root. */
static int each_in(struct ovf_parse *parse, const xmlNode *root, const char *section,
                   const char *name, parse_element *each, struct pl_err *e)
{
    for (const xmlNode *node = root->children; node; node = node->next) {
        if (!ovf_is_section(node, section))
            continue;
        for (const xmlNode *in = ovf_xml_find(node->children, OVF_ENVELOPE, name); in;
             in = ovf_xml_find(in->next, OVF_ENVELOPE, name))
            if (each(parse, in, e) < 0)
                return pl_within(e, "%s", section);
    }
    return 0;
}

/* ---- virtual machines ---- */

static const char *child_text(const struct ovf_parse *parse, const xmlNode *node, const char *name)
{
    return ovf_xml_text(ovf_xml_find(node->children, OVF_ENVELOPE, name), parse->envelope->texts);
}

static void parse_os(const struct ovf_parse *parse, const xmlNode *node, struct ovf_system *system)
{
    const char *vmware = ovf_xml_attribute(node, OVF_VMWARE, "osType", parse->envelope->texts);

    system->os = vmware ? vmware : child_text(parse, node, "Description");
    system->os_id = attribute(parse, node, "id");
}

static void parse_product(const struct ovf_parse *parse, const xmlNode *node,
                          struct ovf_system *system)
{
    if (system->product)
        return;
    system->product = child_text(parse, node, "Product");
    system->vendor = child_text(parse, node, "Vendor");
    system->version = child_text(parse, node, "FullVersion");
    if (!system->version)
        system->version = child_text(parse, node, "Version");
}

static const xmlNode *child_called(const xmlNode *node, const char *name)
{
    const xmlNode *child = node ? node->children : NULL;

    while (child && strcmp((const char *)child->name, name) != 0)
        child = child->next;
    return child;
}

/* VirtualBox keeps its own settings beside the OVF's; the firmware is only there. */
static void parse_virtualbox(const struct ovf_parse *parse, const xmlNode *node,
                             struct ovf_system *system)
{
    const xmlNode *firmware;
    const char *type;

    if (!node->ns || !node->ns->href ||
        strcmp((const char *)node->ns->href, "http://www.virtualbox.org/ovf/machine") != 0 ||
        strcmp((const char *)node->name, "Machine") != 0)
        return;
    firmware = child_called(child_called(node, "Hardware"), "Firmware");
    type = firmware ? attribute(parse, firmware, "type") : NULL;
    if (type)
        system->firmware = strncmp(type, "EFI", 3) == 0 ? "efi" : "bios";
}

static int parse_part_of_system(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    struct ovf_system *system = &parse->envelope->systems[parse->envelope->system_count - 1];

    if (node->type != XML_ELEMENT_NODE)
        return 0;
    if (ovf_xml_is(node, OVF_ENVELOPE, "Name"))
        system->name = ovf_xml_text(node, parse->envelope->texts);
    else if (ovf_is_section(node, "OperatingSystemSection"))
        parse_os(parse, node, system);
    else if (ovf_is_section(node, "ProductSection"))
        parse_product(parse, node, system);
    else if (ovf_is_section(node, "VirtualHardwareSection"))
        return ovf_parse_hardware(parse, node, e);
    else
        parse_virtualbox(parse, node, system);
    return 0;
}

static int parse_system(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    struct ovf_envelope *envelope = parse->envelope;
    struct ovf_system *system = envelope->system_count < OVF_SYSTEMS_MAX
                                    ? OVF_APPEND(envelope->systems, envelope->system_count)
                                    : NULL;

    if (!system)
        return ovf_no_room(envelope->system_count, OVF_SYSTEMS_MAX, "virtual systems", e);
    system->id = attribute(parse, node, "id");
    system->first_item = envelope->item_count;
    for (const xmlNode *part = node->children; part; part = part->next)
        if (parse_part_of_system(parse, part, e) < 0)
            return pl_within(e, "virtual system %.100s", system->id ? system->id : "without an id");
    return 0;
}

/* Collections hold systems and collections; the depth of the XML bounds that of the calls. */
static int parse_content(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    for (; node; node = node->next) {
        if (ovf_is_section(node, "VirtualSystem")) {
            if (parse_system(parse, node, e) < 0)
                return -1;
        } else if (ovf_is_section(node, "VirtualSystemCollection")) {
            if (parse_content(parse, node->children, e) < 0)
                return -1;
        }
    }
    return 0;
}

static int parse_root(struct ovf_parse *parse, const xmlNode *root, struct pl_err *e)
{
    if (!root || !ovf_xml_version(root) || !ovf_xml_is(root, OVF_ENVELOPE, "Envelope"))
        return pl_fail(e, PL_E_FORMAT,
                       "the descriptor's root is no Envelope in a namespace of OVF 0.9, 1 or 2");
    parse->envelope->version = ovf_xml_version(root);
    if (each_in(parse, root, "References", "File", parse_file, e) < 0 ||
        each_in(parse, root, "DiskSection", "Disk", parse_disk, e) < 0 ||
        each_in(parse, root, "NetworkSection", "Network", parse_network, e) < 0 ||
        each_in(parse, root, "DeploymentOptionSection", "Configuration", parse_configuration, e) <
            0)
        return -1;
    return parse_content(parse, root->children, e);
}

int ovf_envelope_parse(const char *text, size_t len, struct ovf_envelope **out, struct pl_err *e)
{
    struct ovf_parse parse = { .envelope = calloc(1, sizeof *parse.envelope) };
    xmlDoc *doc;
    int result;

    if (!parse.envelope || !(parse.envelope->texts = xmlDictCreate())) {
        ovf_envelope_free(parse.envelope);
        return pl_fail(e, PL_E_NOMEM, "no memory to read the descriptor");
    }
    if (ovf_xml_parse(text, len, &doc, e) < 0) {
        ovf_envelope_free(parse.envelope);
        return -1;
    }
    result = parse_root(&parse, xmlDocGetRootElement(doc), e);
    xmlFreeDoc(doc);
    if (result < 0)
        ovf_envelope_free(parse.envelope);
    else
        *out = parse.envelope;
    return result;
}

void ovf_envelope_free(struct ovf_envelope *envelope)
{
    if (!envelope)
        return;
    if (envelope->texts)
        xmlDictFree(envelope->texts);
    free(envelope->files);
    free(envelope->disks);
    free(envelope->items);
    free(envelope->networks);
    free(envelope->systems);
    free(envelope);
}

const struct ovf_item *ovf_system_items(const struct ovf_envelope *envelope,
                                        const struct ovf_system *system)
{
    return system->item_count > 0 ? &envelope->items[system->first_item] : NULL;
}

const struct ovf_file *ovf_envelope_file(const struct ovf_envelope *envelope, const char *id)
{
    for (size_t i = 0; i < envelope->file_count; i++)
        if (strcmp(envelope->files[i].id, id) == 0)
            return &envelope->files[i];
    return NULL;
}
