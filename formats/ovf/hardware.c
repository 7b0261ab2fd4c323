/* hardware.c - the VirtualHardwareSection of a descriptor (DSP0243, clause 8): a type and items
 * that carry the members of CIM's resource allocation classes. */
#include <stdlib.h>
#include <string.h>

#include "core/base/text.h"
#include "formats/ovf/list.h"
#include "formats/ovf/sections.h"
#include "formats/ovf/units.h"

static const char *member(const struct ovf_parse *parse, const xmlNode *item, const char *name)
{
    return ovf_xml_text(ovf_xml_find(item->children, OVF_CIM, name), parse->envelope->texts);
}

/* Whether a list of words with blanks between them has this one. */
static bool has_word(const char *words, const char *word)
{
    const size_t len = strlen(word);

    for (const char *at = words; (at = strstr(at, word)); at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

/* Items of other configurations, and those that only say the least or the most of another one, do
 * not describe the machine. */
static bool counts(const struct ovf_parse *parse, const xmlNode *node)
{
    xmlDict *texts = parse->envelope->texts;
    const char *configurations = ovf_xml_attribute(node, OVF_ENVELOPE, "configuration", texts);
    const char *bound = ovf_xml_attribute(node, OVF_ENVELOPE, "bound", texts);

    if (bound && strcmp(bound, "normal") != 0)
        return false;
    return !configurations || !parse->configuration ||
           has_word(configurations, parse->configuration);
}

/* Numbers are only shown, so one that cannot be read is absent. */
static void parse_numbers(const struct ovf_parse *parse, const xmlNode *node, struct ovf_item *item)
{
    const char *type = member(parse, node, "ResourceType");
    const char *quantity = member(parse, node, "VirtualQuantity");
    const char *units = member(parse, node, "AllocationUnits");

    if (type && pl_parse_number(type, 0, UINT32_MAX, &item->type, NULL) < 0)
        item->type = 0;
    if (quantity &&
        ovf_size(quantity, item->type == OVF_MEMORY ? units : NULL, &item->quantity, NULL) < 0)
        item->quantity = 0;
}

/* Of several host resources (the same disk at several places) the first one counts. */
static int parse_item(struct ovf_parse *parse, const xmlNode *node, struct pl_err *e)
{
    struct ovf_envelope *envelope = parse->envelope;
    struct ovf_item *item = envelope->item_count < OVF_ITEMS_MAX
                                ? OVF_APPEND(envelope->items, envelope->item_count)
                                : NULL;

    if (!item)
        return ovf_no_room(envelope->item_count, OVF_ITEMS_MAX, "items of hardware", e);
    item->id = member(parse, node, "InstanceID");
    if (!item->id)
        item->id = member(parse, node, "InstanceId");
    item->name = member(parse, node, "ElementName");
    if (!item->name)
        item->name = member(parse, node, "Caption");
    item->subtype = member(parse, node, "ResourceSubType");
    item->parent = member(parse, node, "Parent");
    item->address = member(parse, node, "AddressOnParent");
    item->host = member(parse, node, "HostResource");
    item->connection = member(parse, node, "Connection");
    parse_numbers(parse, node, item);
    return 0;
}

static void parse_firmware(const struct ovf_parse *parse, const xmlNode *node,
                           struct ovf_system *system)
{
    xmlDict *texts = parse->envelope->texts;
    const char *key = ovf_xml_attribute(node, OVF_VMWARE, "key", texts);

    if (key && strcmp(key, "firmware") == 0)
        system->firmware = ovf_xml_attribute(node, OVF_VMWARE, "value", texts);
}

static bool is_item(const xmlNode *node)
{
    return ovf_xml_is(node, OVF_ENVELOPE, "Item") ||
           ovf_xml_is(node, OVF_ENVELOPE, "StorageItem") || /* OVF 2 */
           ovf_xml_is(node, OVF_ENVELOPE, "EthernetPortItem");
}

int ovf_parse_hardware(struct ovf_parse *parse, const xmlNode *section, struct pl_err *e)
{
    struct ovf_envelope *envelope = parse->envelope;
    struct ovf_system *system = &envelope->systems[envelope->system_count - 1];

    if (system->item_count > 0) /* an alternative: the first one counts */
        return 0;
    for (const xmlNode *node = section->children; node; node = node->next) {
        if (ovf_xml_is(node, OVF_ENVELOPE, "System"))
            system->hardware = member(parse, node, "VirtualSystemType");
        else if (ovf_xml_is(node, OVF_VMWARE, "Config"))
            parse_firmware(parse, node, system);
        else if (is_item(node) && counts(parse, node) && parse_item(parse, node, e) < 0)
            return -1;
    }
    system->item_count = envelope->item_count - system->first_item;
    return 0;
}
