/* virtualbox_write.c - see virtualbox_write.h.
 *
 * The elements are those of VirtualBox's settings in version 1.16 (VirtualBox 5.1; later ones read
 * it, older ones what they know), unprefixed as VirtualBox writes them.  Left out: the type of the
 * guest, which VirtualBox then derives from the OperatingSystemSection, and every setting whose
 * default is right. */
#include "formats/ovf/virtualbox_write.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/ovf/envelope.h"
#include "formats/ovf/escape.h"

#define SETTINGS_VERSION "1.16-linux"

/* VirtualBox's own name of a controller's kind, and its ports.  It has no pvscsi: LSI Logic is what
 * it takes for every SCSI controller that it does not know. */
static const char *controller_type(const struct ovf_controller *controller)
{
    if (controller->type == OVF_IDE)
        return "PIIX4";
    if (controller->type == OVF_SCSI)
        return "LsiLogic";
    return strcmp(controller->name, "nvme") == 0 ? "NVMe" : "AHCI";
}

/* An IDE controller there is both of those that OVF counts: the controllers are its ports, the
 * addresses its devices. */
static void attach(FILE *to, const struct ovf_new_disk *disk, unsigned port, unsigned device)
{
    fprintf(to,
            "          <AttachedDevice type=\"HardDisk\" hotpluggable=\"false\" port=\"%u\" "
            "device=\"%u\">\n"
            "            <Image uuid=\"{%s}\"/>\n"
            "          </AttachedDevice>\n",
            port, device, disk->uuid);
}

static void write_controller(FILE *to, const struct ovf_machine *machine, unsigned number,
                             const struct ovf_new_disk *disks, size_t count)
{
    const struct ovf_controller *controller = machine->controller;
    const bool ide = controller->type == OVF_IDE;
    const unsigned ports = ide                            ? controller->controllers
                           : controller->type == OVF_SCSI ? controller->disks + 1
                                                          : controller->disks;

    fprintf(to,
            "        <StorageController name=\"%s %u\" type=\"%s\" PortCount=\"%u\" "
            "useHostIOCache=\"%s\" Bootable=\"true\">\n",
            controller->element, number, controller_type(controller), ports,
            ide ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        unsigned of, address;

        ovf_machine_place(machine, i, &of, &address);
        if (ide)
            attach(to, &disks[i], of, address);
        else if (of == number)
            attach(to, &disks[i], address, 0);
    }
    fputs("        </StorageController>\n", to);
}

static void write_controllers(FILE *to, const struct ovf_machine *machine,
                              const struct ovf_new_disk *disks, size_t count)
{
    unsigned last = 0, address;

    if (count > 0 && machine->controller->type != OVF_IDE)
        ovf_machine_place(machine, count - 1, &last, &address);
    fputs("      <StorageControllers>\n", to);
    for (unsigned i = 0; i <= last; i++)
        write_controller(to, machine, i, disks, count);
    fputs("      </StorageControllers>\n", to);
}

/* The card is what VirtualBox makes of VMware's E1000; networks are the host's own business, but
 * for NAT, which every host has. */
static void write_card(FILE *to, const struct ovf_machine *machine)
{
    if (*machine->network)
        fputs("        <Network>\n"
              "          <Adapter slot=\"0\" enabled=\"true\" cable=\"true\" type=\"82545EM\">\n"
              "            <NAT/>\n"
              "          </Adapter>\n"
              "        </Network>\n",
              to);
}

static void write_hardware(FILE *to, const struct ovf_machine *machine)
{
    fprintf(to,
            "      <Hardware>\n"
            "        <CPU count=\"%" PRIu64 "\">\n"
            "          <PAE enabled=\"true\"/>\n"
            "          <LongMode enabled=\"true\"/>\n"
            "        </CPU>\n"
            "        <Memory RAMSize=\"%" PRIu64 "\"/>\n"
            "        <Firmware type=\"%s\"/>\n"
            "        <Boot>\n"
            "          <Order position=\"1\" device=\"HardDisk\"/>\n"
            "          <Order position=\"2\" device=\"DVD\"/>\n"
            "          <Order position=\"3\" device=\"None\"/>\n"
            "          <Order position=\"4\" device=\"None\"/>\n"
            "        </Boot>\n"
            "        <Display VRAMSize=\"16\"/>\n"
            "        <BIOS>\n"
            "          <IOAPIC enabled=\"true\"/>\n"
            "        </BIOS>\n",
            machine->cpus, machine->memory / PL_MIB, machine->efi ? "EFI" : "BIOS");
    write_card(to, machine);
    if (strncmp(machine->os, "win", 3) != 0) /* Windows alone keeps local time in the clock */
        fputs("        <RTC localOrUTC=\"UTC\"/>\n", to);
    fputs("      </Hardware>\n", to);
}

void ovf_write_virtualbox(FILE *to, const struct ovf_machine *machine,
                          const struct ovf_new_disk *disks, size_t count)
{
    fprintf(to,
            "    <vbox:Machine ovf:required=\"false\" version=\"" SETTINGS_VERSION
            "\" uuid=\"{%s}\" name=\"",
            machine->uuid);
    ovf_write_escaped(to, machine->name);
    fputs("\" snapshotFolder=\"Snapshots\">\n"
          "      <ovf:Info>The machine in VirtualBox's own terms</ovf:Info>\n",
          to);
    write_hardware(to, machine);
    write_controllers(to, machine, disks, count);
    fputs("    </vbox:Machine>\n", to);
}
