/* envelope_write.c - see envelope_write.h.
 *
 * The schema fixes the order of elements: sections, then the machine; inside an Item the members of
 * CIM's class in the order of the alphabet, then foreign elements. */
#include "formats/ovf/envelope_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "formats/ovf/envelope.h"
#include "formats/ovf/escape.h"
#include "formats/ovf/virtualbox_write.h"

#define CIM "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"

/* Instances of items; those of controllers and disks follow. */
enum { INSTANCE_CPU = 1, INSTANCE_MEMORY, INSTANCE_CARD, INSTANCE_CONTROLLER };

static void write_references(FILE *to, const struct ovf_new_disk *disks, size_t count)
{
    fputs("  <References>\n", to);
    for (size_t i = 0; i < count; i++)
        fprintf(to, "    <File ovf:id=\"file%zu\" ovf:href=\"%s\" ovf:size=\"%" PRIu64 "\"/>\n",
                i + 1, disks[i].file, disks[i].size);
    fputs("  </References>\n", to);
}

static void write_disks(FILE *to, const struct ovf_machine *machine,
                        const struct ovf_new_disk *disks, size_t count)
{
    fputs("  <DiskSection>\n"
          "    <Info>Virtual disks</Info>\n",
          to);
    for (size_t i = 0; i < count; i++) {
        fprintf(to,
                "    <Disk ovf:diskId=\"vmdisk%zu\" ovf:fileRef=\"file%zu\" ovf:capacity=\"%" PRIu64
                "\" ovf:capacityAllocationUnits=\"byte\" ovf:format=\"http://www.vmware.com/"
                "interfaces/specifications/vmdk.html#streamOptimized\"",
                i + 1, i + 1, disks[i].capacity);
        if (machine->efi)
            fprintf(to, " vbox:uuid=\"%s\"", disks[i].uuid);
        fputs("/>\n", to);
    }
    fputs("  </DiskSection>\n", to);
}

static void write_network(FILE *to, const char *network)
{
    if (!*network)
        return;
    fputs("  <NetworkSection>\n"
          "    <Info>Networks</Info>\n"
          "    <Network ovf:name=\"",
          to);
    ovf_write_escaped(to, network);
    fputs("\">\n"
          "      <Description>The network of the machine's card</Description>\n"
          "    </Network>\n"
          "  </NetworkSection>\n",
          to);
}

static void write_os(FILE *to, const struct ovf_machine *machine)
{
    fprintf(to, "    <OperatingSystemSection ovf:id=\"%u\" vmw:osType=\"", machine->os_id);
    ovf_write_escaped(to, machine->os);
    fputs("\">\n      <Info>The guest system</Info>\n    </OperatingSystemSection>\n", to);
}

static void write_system(FILE *to, const struct ovf_machine *machine)
{
    fputs("      <System>\n"
          "        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n"
          "        <vssd:InstanceID>0</vssd:InstanceID>\n"
          "        <vssd:VirtualSystemIdentifier>",
          to);
    ovf_write_escaped(to, machine->name);
    fprintf(to,
            "</vssd:VirtualSystemIdentifier>\n"
            "        <vssd:VirtualSystemType>%s</vssd:VirtualSystemType>\n"
            "      </System>\n",
            machine->hardware);
}

static void write_cpus_and_memory(FILE *to, const struct ovf_machine *machine)
{
    const uint64_t mebibytes = machine->memory / PL_MIB;

    fprintf(to,
            "      <Item>\n"
            "        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>\n"
            "        <rasd:Description>Number of virtual CPUs</rasd:Description>\n"
            "        <rasd:ElementName>%" PRIu64 " virtual CPU(s)</rasd:ElementName>\n"
            "        <rasd:InstanceID>%d</rasd:InstanceID>\n"
            "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
            "        <rasd:VirtualQuantity>%" PRIu64 "</rasd:VirtualQuantity>\n"
            "      </Item>\n",
            machine->cpus, INSTANCE_CPU, OVF_CPU, machine->cpus);
    fprintf(to,
            "      <Item>\n"
            "        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>\n"
            "        <rasd:Description>Memory size</rasd:Description>\n"
            "        <rasd:ElementName>%" PRIu64 " MB of memory</rasd:ElementName>\n"
            "        <rasd:InstanceID>%d</rasd:InstanceID>\n"
            "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
            "        <rasd:VirtualQuantity>%" PRIu64 "</rasd:VirtualQuantity>\n"
            "      </Item>\n",
            mebibytes, INSTANCE_MEMORY, OVF_MEMORY, mebibytes);
}

static void write_controller(FILE *to, const struct ovf_machine *machine, unsigned number)
{
    const struct ovf_controller *controller = machine->controller;
    const char *model = machine->virtualbox ? controller->model_virtualbox : controller->model;

    fprintf(to,
            "      <Item>\n"
            "        <rasd:Address>%u</rasd:Address>\n"
            "        <rasd:Description>%s</rasd:Description>\n"
            "        <rasd:ElementName>%s %u</rasd:ElementName>\n"
            "        <rasd:InstanceID>%u</rasd:InstanceID>\n",
            number, controller->element, controller->element, number, INSTANCE_CONTROLLER + number);
    if (model)
        fprintf(to, "        <rasd:ResourceSubType>%s</rasd:ResourceSubType>\n", model);
    fprintf(to,
            "        <rasd:ResourceType>%u</rasd:ResourceType>\n"
            "      </Item>\n",
            controller->type);
}

/* Disks get the instances behind those of all controllers that there can be. */
static void write_disk(FILE *to, const struct ovf_machine *machine, size_t index)
{
    unsigned controller, address;

    ovf_machine_place(machine, index, &controller, &address);
    fprintf(to,
            "      <Item>\n"
            "        <rasd:AddressOnParent>%u</rasd:AddressOnParent>\n"
            "        <rasd:ElementName>Hard Disk %zu</rasd:ElementName>\n"
            "        <rasd:HostResource>ovf:/disk/vmdisk%zu</rasd:HostResource>\n"
            "        <rasd:InstanceID>%zu</rasd:InstanceID>\n"
            "        <rasd:Parent>%u</rasd:Parent>\n"
            "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
            "      </Item>\n",
            address, index + 1, index + 1,
            INSTANCE_CONTROLLER + machine->controller->controllers + index,
            INSTANCE_CONTROLLER + controller, OVF_HARD_DISK);
}

static void write_card(FILE *to, const struct ovf_machine *machine)
{
    if (!*machine->network)
        return;
    fputs("      <Item>\n"
          "        <rasd:AddressOnParent>0</rasd:AddressOnParent>\n"
          "        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>\n"
          "        <rasd:Connection>",
          to);
    ovf_write_escaped(to, machine->network);
    fprintf(to,
            "</rasd:Connection>\n"
            "        <rasd:Description>%s ethernet card</rasd:Description>\n"
            "        <rasd:ElementName>Ethernet 1</rasd:ElementName>\n"
            "        <rasd:InstanceID>%d</rasd:InstanceID>\n"
            "        <rasd:ResourceSubType>%s</rasd:ResourceSubType>\n"
            "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
            "      </Item>\n",
            machine->card, INSTANCE_CARD, machine->card, OVF_NETWORK_CARD);
}

static void write_hardware(FILE *to, const struct ovf_machine *machine, size_t disks)
{
    unsigned last = 0, address;

    fputs("    <VirtualHardwareSection>\n"
          "      <Info>Virtual hardware</Info>\n",
          to);
    write_system(to, machine);
    write_cpus_and_memory(to, machine);
    if (disks > 0)
        ovf_machine_place(machine, disks - 1, &last, &address);
    for (unsigned i = 0; i <= last; i++)
        write_controller(to, machine, i);
    for (size_t i = 0; i < disks; i++)
        write_disk(to, machine, i);
    write_card(to, machine);
    fprintf(to,
            "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"%s\"/>\n"
            "    </VirtualHardwareSection>\n",
            machine->efi ? "efi" : "bios");
}

static void write_machine(FILE *to, const struct ovf_machine *machine,
                          const struct ovf_new_disk *disks, size_t count)
{
    fprintf(to,
            "  <VirtualSystem ovf:id=\"%s\">\n"
            "    <Info>A virtual machine</Info>\n"
            "    <Name>",
            machine->file);
    ovf_write_escaped(to, machine->name);
    fputs("</Name>\n", to);
    write_os(to, machine);
    write_hardware(to, machine, count);
    if (machine->efi) /* what every importer assumes otherwise */
        ovf_write_virtualbox(to, machine, disks, count);
    fputs("  </VirtualSystem>\n", to);
}

char *ovf_envelope_text(const struct ovf_machine *machine, const struct ovf_new_disk *disks,
                        size_t count, size_t *len)
{
    char *text = NULL;
    FILE *to = open_memstream(&text, len);

    if (!to)
        return NULL;
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
          "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
          "          xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
          "          xmlns:rasd=\"" CIM "CIM_ResourceAllocationSettingData\"\n"
          "          xmlns:vssd=\"" CIM "CIM_VirtualSystemSettingData\"\n"
          "          xmlns:vmw=\"http://www.vmware.com/schema/ovf\"",
          to);
    fputs(machine->efi ? "\n          xmlns:vbox=\"http://www.virtualbox.org/ovf/machine\">\n"
                       : ">\n",
          to);
    write_references(to, disks, count);
    write_disks(to, machine, disks, count);
    write_network(to, machine->network);
    write_machine(to, machine, disks, count);
    fputs("</Envelope>\n", to);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}
