/* facts.c - what `info` shows of a package. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/ovf/manifest.h"
#include "formats/ovf/package.h"

/* Texts that were not said are left out. */
static void text_fact(struct pl_fact *parent, const char *name, const char *text)
{
    if (text)
        pl_facts_text(parent, name, text);
}

static void number_fact(struct pl_fact *parent, const char *name, uint64_t number)
{
    if (number > 0)
        pl_facts_number(parent, name, number);
}

static void controller_fact(struct pl_fact *controllers, const struct ovf_item *item)
{
    struct pl_fact *fact = pl_facts_object(controllers, NULL);

    text_fact(fact, "kind", ovf_controller_kind(item));
    text_fact(fact, "model", item->subtype);
    text_fact(fact, "name", item->name);
}

static void network_card_fact(struct pl_fact *cards, const struct ovf_item *item)
{
    struct pl_fact *fact = pl_facts_object(cards, NULL);

    text_fact(fact, "model", item->subtype);
    text_fact(fact, "network", item->connection);
}

static uint64_t sum_of(const struct ovf_item *items, size_t count, uint64_t type)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        if (items[i].type == type && __builtin_add_overflow(sum, items[i].quantity, &sum))
            return 0;
    return sum;
}

static void hardware_facts(struct pl_fact *machine, const struct ovf_item *items, size_t count)
{
    struct pl_fact *list;

    number_fact(machine, "cpus", sum_of(items, count, OVF_CPU));
    number_fact(machine, "memory", sum_of(items, count, OVF_MEMORY));
    list = pl_facts_list(machine, "controllers");
    for (size_t i = 0; i < count; i++)
        if (ovf_controller_kind(&items[i]))
            controller_fact(list, &items[i]);
    list = pl_facts_list(machine, "network-cards");
    for (size_t i = 0; i < count; i++)
        if (items[i].type == OVF_NETWORK_CARD)
            network_card_fact(list, &items[i]);
}

static void machine_fact(struct pl_fact *machines, const struct ovf_envelope *envelope,
                         const struct ovf_system *system)
{
    struct pl_fact *machine = pl_facts_object(machines, NULL);

    text_fact(machine, "name", system->name ? system->name : system->id);
    text_fact(machine, "product", system->product);
    text_fact(machine, "vendor", system->vendor);
    text_fact(machine, "version", system->version);
    text_fact(machine, "os", system->os);
    text_fact(machine, "os-id", system->os_id);
    text_fact(machine, "hardware", system->hardware);
    text_fact(machine, "firmware", system->firmware);
    hardware_facts(machine, ovf_system_items(envelope, system), system->item_count);
}

static void disk_fact(struct pl_fact *disks, const struct pl_package_disk *disk)
{
    struct pl_fact *fact = pl_facts_object(disks, NULL);

    text_fact(fact, "id", disk->id);
    text_fact(fact, "file", disk->name);
    number_fact(fact, "capacity", disk->capacity);
    number_fact(fact, "file-size", disk->file_size);
    text_fact(fact, "format", disk->format);
    text_fact(fact, "compression", disk->compression);
    number_fact(fact, "chunk-size", disk->chunk_size);
    text_fact(fact, "parent", disk->parent_id);
    text_fact(fact, "machine", disk->system);
    text_fact(fact, "controller", disk->controller);
    if (disk->controller)
        pl_facts_number(fact, "controller-number", disk->controller_number);
    text_fact(fact, "controller-model", disk->controller_model);
    text_fact(fact, "address", disk->address);
}

/* The digest that the manifest uses, or what is wrong with it. */
static void manifest_fact(struct pl_fact *facts, const struct ovf_package *package)
{
    PL_FREE char *text = NULL;
    struct ovf_manifest manifest = { 0 };
    const char *state = "none";
    size_t len;
    int result =
        ovf_companion_text(&package->members, ".mf", OVF_MANIFEST_BYTES_MAX, &text, &len, NULL);

    if (result == 0)
        result = ovf_manifest_parse(text, len, &manifest, NULL);
    if (result < 0)
        state = "unreadable";
    else if (result == 0)
        state = manifest.count > 0 ? manifest.list[0].algorithm : "empty";
    pl_facts_text(facts, "manifest", state);
    ovf_manifest_free(&manifest);
}

int ovf_facts(void *state, struct pl_fact *facts, struct pl_err *e)
{
    const struct ovf_package *package = state;
    const struct ovf_envelope *envelope = package->envelope;
    struct pl_fact *list;

    (void)e;
    text_fact(facts, "descriptor", package->members.descriptor);
    text_fact(facts, "ovf-version", envelope->version);
    list = pl_facts_list(facts, "machines");
    for (size_t i = 0; i < envelope->system_count; i++)
        machine_fact(list, envelope, &envelope->systems[i]);
    list = pl_facts_list(facts, "networks");
    for (size_t i = 0; i < envelope->network_count; i++)
        pl_facts_text(list, NULL, envelope->networks[i]);
    list = pl_facts_list(facts, "disks");
    for (size_t i = 0; i < package->disks.count; i++)
        disk_fact(list, &package->disks.list[i]);
    manifest_fact(facts, package);
    text_fact(facts, "signer", package->signer);
    return 0;
}
