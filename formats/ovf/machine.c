#include "formats/ovf/machine.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/text.h"
#include "formats/ovf/envelope.h"
#include "formats/ovf/os_types.h"

/* VMware refuses other sizes. */
#define MEMORY_UNIT (4 * PL_MIB)
#define MEMORY_MIN MEMORY_UNIT
#define MEMORY_MAX (24 * PL_TIB)
#define MEMORY_DEFAULT PL_GIB
#define CPUS_MAX 768

/* ESXi 6.5 and later run it; a host refuses versions above its own. */
#define HARDWARE_DEFAULT 13
#define HARDWARE_MIN 4
#define HARDWARE_MAX 99
/* The first hardware version that can start by EFI. */
#define HARDWARE_EFI 8

const struct pl_option_help ovf_machine_options[] = {
    { "name", "str", "name of the virtual machine (default: that of the file)" },
    { "cpus", "num", "virtual processors (default: 1)" },
    { "memory", "size", "memory, in MiB without a suffix (default: 1024)" },
    { "firmware", "str", "bios or efi (default: bios)" },
    { "controller", "str", "lsilogic, pvscsi, ahci, nvme or ide (default: lsilogic)" },
    { "ostype", "str", "VMware's id of the guest system (default: otherLinux64Guest)" },
    { "hwversion", "str", "vmx-N, N or virtualbox-2.2 (default: vmx-13)" },
    { "network", "str", "network that its card is in, or none (default: VM Network)" },
    { "nic", "str", "e1000, e1000e or vmxnet3 (default: e1000; with pvscsi vmxnet3)" },
    { "digest", "str", "of the manifest: sha256, sha1 or sha512 (default: sha256)" },
    { NULL, NULL, NULL },
};

static const struct ovf_controller controllers[] = {
    { "lsilogic", "SCSI Controller", "lsilogic", "lsilogic", OVF_SCSI, 15, 7, 4, HARDWARE_MIN },
    { "pvscsi", "SCSI Controller", "VirtualSCSI", "VirtualSCSI", OVF_SCSI, 15, 7, 4, 7 },
    { "ahci", "SATA Controller", "vmware.sata.ahci", "AHCI", OVF_STORAGE, 30, UINT32_MAX, 4, 10 },
    { "nvme", "NVMe Controller", "vmware.nvme.controller", "vmware.nvme.controller", OVF_STORAGE,
      15, UINT32_MAX, 4, 13 },
    { "ide", "IDE Controller", NULL, "PIIX4", OVF_IDE, 2, UINT32_MAX, 2, HARDWARE_MIN },
};

static const char *const controller_names[] = { "lsilogic", "pvscsi", "ahci", "nvme", "ide", NULL };

/* ---- names ---- */

/* The length of the UTF-8 sequence at `at` if it is one that XML may have, else 0. */
static size_t character(const char *at)
{
    const uint8_t *byte = (const uint8_t *)at;
    const size_t len = byte[0] < 0x80 ? 1 : byte[0] < 0xe0 ? 2 : byte[0] < 0xf0 ? 3 : 4;
    uint32_t code = byte[0];

    if (len == 1)
        return code >= 0x20 && code != 0x7f ? 1 : 0;
    if (code < 0xc2 || code > 0xf4)
        return 0;
    code &= 0x7fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (byte[i] & 0x3f);
    }
    if ((len == 3 && code < 0x800) || (len == 4 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0x80 && code < 0xa0) || (code >= 0xd800 && code < 0xe000) || code >> 1 == 0x7fff)
        return 0;
    return len;
}

/* Copies the value of an option, or `absent` where there is none. */
static int read_text(const struct pl_options *options, const char *key, const char *absent,
                     char copy[static OVF_MACHINE_NAME_MAX + 1], struct pl_err *e)
{
    const char *given = pl_options_text(options, key);
    const char *text = given ? given : absent;
    const size_t len = strlen(text);

    if (len == 0 || len > OVF_MACHINE_NAME_MAX)
        return pl_fail(e, PL_E_INVALID, "%s: it has %zu bytes, 1 to %d are possible", key, len,
                       OVF_MACHINE_NAME_MAX);
    for (const char *at = text; *at; at += character(at))
        if (character(at) == 0)
            return pl_fail(e, PL_E_INVALID, "%s: \"%.80s\" is no plain text in UTF-8", key, text);
    memcpy(copy, text, len + 1);
    return 0;
}

/* As much of a file's name as a machine's can hold. */
static void name_from(const char *text, char name[static OVF_MACHINE_NAME_MAX + 1])
{
    size_t used = 0;

    for (const char *at = text; *at && used + 4 <= OVF_MACHINE_NAME_MAX;) {
        const size_t len = character(at);

        if (len == 0) {
            name[used++] = '-';
            at++;
            continue;
        }
        memcpy(name + used, at, len);
        used += len;
        at += len;
    }
    name[used] = '\0';
    if (used == 0)
        memcpy(name, "vm", sizeof "vm");
}

/* Files are called by what every tool, and a URL, takes as it is. */
static void file_from(const char *name, char *file, size_t room)
{
    size_t used = 0;

    for (const char *at = name; *at && used + 1 < room; at++) {
        const bool plain =
            isascii((unsigned char)*at) && (isalnum((unsigned char)*at) || strchr("._-", *at));

        if (plain && (used > 0 || (*at != '.' && *at != '-')))
            file[used++] = *at;
        else if (!plain && used > 0 && file[used - 1] != '-')
            file[used++] = '-';
    }
    while (used > 0 && (file[used - 1] == '-' || file[used - 1] == '.'))
        used--;
    file[used] = '\0';
    if (used == 0)
        memcpy(file, "vm", sizeof "vm");
}

static int read_name(const struct pl_options *options, const char *name,
                     struct ovf_machine *machine, struct pl_err *e)
{
    char absent[OVF_MACHINE_NAME_MAX + 1];

    name_from(name ? name : "", absent);
    if (read_text(options, "name", absent, machine->name, e) < 0)
        return -1;
    file_from(machine->name, machine->file, sizeof machine->file);
    return 0;
}

/* ---- hardware ---- */

static int read_memory(const struct pl_options *options, struct ovf_machine *machine,
                       struct pl_err *e)
{
    const char *text = pl_options_text(options, "memory");

    machine->memory = MEMORY_DEFAULT;
    if (text && pl_parse_size(text, PL_MIB, &machine->memory, e) < 0)
        return pl_within(e, "memory");
    if (machine->memory < MEMORY_MIN || machine->memory > MEMORY_MAX ||
        machine->memory % MEMORY_UNIT != 0)
        return pl_fail(e, PL_E_LIMIT,
                       "memory: %" PRIu64 " bytes are no multiple of 4 MiB from 4 MiB to 24 TiB",
                       machine->memory);
    return 0;
}

static int check_hardware(const char *what, unsigned found, unsigned wanted, struct pl_err *e)
{
    if (found >= wanted)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s needs hwversion=vmx-%u or later, not vmx-%u", what, wanted, found);
    return pl_hint(e, "a host runs machines up to its own version");
}

static int read_hardware(const struct pl_options *options, struct ovf_machine *machine,
                         struct pl_err *e)
{
    const char *text = pl_options_text(options, "hwversion");
    uint64_t number = HARDWARE_DEFAULT;

    machine->virtualbox = text && strcmp(text, "virtualbox-2.2") == 0;
    if (machine->virtualbox) {
        memcpy(machine->hardware, "virtualbox-2.2", sizeof "virtualbox-2.2");
        return 0;
    }
    if (text && pl_parse_number(strncmp(text, "vmx-", 4) == 0 ? text + 4 : text, HARDWARE_MIN,
                                HARDWARE_MAX, &number, NULL) < 0)
        return pl_fail(e, PL_E_INVALID,
                       "hwversion: \"%.40s\" is neither vmx-%d to vmx-%d nor "
                       "virtualbox-2.2",
                       text, HARDWARE_MIN, HARDWARE_MAX);
    snprintf(machine->hardware, sizeof machine->hardware, "vmx-%" PRIu64, number);
    if (machine->efi && check_hardware("firmware=efi", (unsigned)number, HARDWARE_EFI, e) < 0)
        return -1;
    return check_hardware(machine->controller->name, (unsigned)number,
                          machine->controller->hardware, e);
}

static int read_os(const struct pl_options *options, struct ovf_machine *machine, struct pl_err *e)
{
    if (read_text(options, "ostype", "otherLinux64Guest", machine->os, e) < 0)
        return -1;
    machine->os_id = ovf_os_type(machine->os);
    return 0;
}

static int read_network(const struct pl_options *options, struct ovf_machine *machine,
                        struct pl_err *e)
{
    static const char *const names[] = { "e1000", "e1000e", "vmxnet3", NULL };
    static const char *const models[] = { "E1000", "E1000e", "VmxNet3" };
    /* Who chose VMware's own disk controller has its drivers. */
    unsigned card = strcmp(machine->controller->name, "pvscsi") == 0 ? 2 : 0;

    if (pl_options_choice(options, "nic", names, &card, e) < 0)
        return -1;
    machine->card = models[card];
    if (read_text(options, "network", "VM Network", machine->network, e) < 0)
        return -1;
    if (strcmp(machine->network, "none") == 0)
        machine->network[0] = '\0';
    return 0;
}

int ovf_machine_read(const struct pl_options *options, const char *name,
                     struct ovf_machine *machine, struct pl_err *e)
{
    static const char *const firmwares[] = { "bios", "efi", NULL };
    static const char *const digests[] = { "sha256", "sha1", "sha512", NULL };
    unsigned firmware = 0, controller = 0, digest = 0;

    *machine = (struct ovf_machine){ .cpus = 1 };
    if (read_name(options, name, machine, e) < 0 ||
        pl_options_number(options, "cpus", 1, CPUS_MAX, &machine->cpus, e) < 0 ||
        read_memory(options, machine, e) < 0 ||
        pl_options_choice(options, "firmware", firmwares, &firmware, e) < 0 ||
        pl_options_choice(options, "controller", controller_names, &controller, e) < 0 ||
        pl_options_choice(options, "digest", digests, &digest, e) < 0)
        return -1;
    machine->efi = firmware == 1;
    machine->controller = &controllers[controller];
    machine->digest = digests[digest];
    if (read_hardware(options, machine, e) < 0 || read_os(options, machine, e) < 0)
        return -1;
    return read_network(options, machine, e);
}

void ovf_machine_place(const struct ovf_machine *machine, size_t index, unsigned *controller,
                       unsigned *address)
{
    *controller = (unsigned)(index / machine->controller->disks);
    *address = (unsigned)(index % machine->controller->disks);
    if (*address >= machine->controller->reserved)
        ++*address;
}

size_t ovf_machine_disks_max(const struct ovf_machine *machine)
{
    return (size_t)machine->controller->disks * machine->controller->controllers;
}
