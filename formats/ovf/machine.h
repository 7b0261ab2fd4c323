/* machine.h - the virtual machine that a new package describes: options of -o, with defaults that
 * any host of the last years accepts. */
#ifndef PL_FORMATS_OVF_MACHINE_H
#define PL_FORMATS_OVF_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/options.h"
#include "core/base/uuid.h"

/* VMware's limit for the name of a machine. */
#define OVF_MACHINE_NAME_MAX 80

struct ovf_controller {
    const char *name;    /* as in -o controller= */
    const char *element; /* what an item of that kind is called */
    const char *model;   /* its ResourceSubType; null: it has none */
    const char *model_virtualbox;
    unsigned type;        /* its ResourceType, enum ovf_resource */
    unsigned disks;       /* that one of them holds ... */
    unsigned reserved;    /* ... beside this address, which is the controller's own */
    unsigned controllers; /* that a machine has at most */
    unsigned hardware;    /* the first hardware version of VMware that knows it */
};

struct ovf_machine {
    char name[OVF_MACHINE_NAME_MAX + 1]; /* UTF-8, not empty */
    char file[64]; /* what the package's files are called: letters, digits, ".", "-" and "_" */
    uint64_t cpus;
    uint64_t memory; /* bytes, a multiple of 4 MiB */
    bool efi;
    const struct ovf_controller *controller;
    char os[OVF_MACHINE_NAME_MAX + 1];      /* VMware's name, e.g. "otherLinux64Guest" */
    unsigned os_id;                         /* CIM_OperatingSystem.OSType that stands for it */
    char hardware[32];                      /* "vmx-13", "virtualbox-2.2" */
    bool virtualbox;                        /* hardware is one of VirtualBox */
    char network[OVF_MACHINE_NAME_MAX + 1]; /* empty: the machine has no network card */
    const char *card;                       /* its model */
    char uuid[PL_UUID_TEXT];                /* what VirtualBox knows it by; the writer's to fill */
    const char *digest;                     /* as core/base/digest.h calls it */
};

/* What -o takes; ends with a row of nulls. */
extern const struct pl_option_help ovf_machine_options[];

/* Reads the options.  `name` is the machine's when they give none; what it cannot hold is replaced.
 * PL_E_INVALID, PL_E_LIMIT say which values are good. */
int ovf_machine_read(const struct pl_options *options, const char *name,
                     struct ovf_machine *machine, struct pl_err *e) PL_CHECK;

/* Where disk `index` goes: the number of the controller and the address there. */
void ovf_machine_place(const struct ovf_machine *machine, size_t index, unsigned *controller,
                       unsigned *address);

/* How many disks the machine can have. */
size_t ovf_machine_disks_max(const struct ovf_machine *machine);

#endif
