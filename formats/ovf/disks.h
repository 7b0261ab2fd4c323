/* disks.h - the disks of a descriptor, each with its file and its place in a machine. */
#ifndef PL_FORMATS_OVF_DISKS_H
#define PL_FORMATS_OVF_DISKS_H

#include "core/package.h"
#include "formats/ovf/envelope.h"
#include "formats/ovf/members.h"

struct ovf_disks {
    struct pl_package_disk *list;
    const struct ovf_file **files; /* of each disk, in the envelope; null: none */
    size_t count;
};

/* What a controller is for: "ide", "scsi", "sata", "nvme"; null: the item is no controller. */
const char *ovf_controller_kind(const struct ovf_item *item);

/* All disks: the descriptor's Disks in order, then files that an item uses as a hard disk directly.
 * Texts are the envelope's.  PL_E_CORRUPT, PL_E_LIMIT, PL_E_NOMEM.  Release by ovf_disks_free, also
 * after failure. */
int ovf_disks_find(const struct ovf_envelope *envelope, struct ovf_disks *disks, struct pl_err *e)
    PL_CHECK;

/* Frees what it holds, not itself. */
void ovf_disks_free(struct ovf_disks *disks);

/* The content of the disk's file: its chunks joined, unpacked when it is compressed (to about its
 * capacity at most).  The storage is the caller's.  PL_E_UNSUPPORTED: an empty disk, one that holds
 * differences to another, an unknown compression; PL_E_NOT_FOUND, PL_E_CORRUPT (sizes differ). */
int ovf_disks_open(const struct ovf_disks *disks, size_t index, const struct ovf_members *members,
                   struct pl_storage **out, struct pl_err *e) PL_CHECK;

#endif
