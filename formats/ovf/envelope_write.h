/* envelope_write.h - the descriptor of a new package: OVF 1.1 (DSP0243, schema DSP8023), with the
 * additions of VMware that say the firmware and the guest system, and for EFI VirtualBox's own. */
#ifndef PL_FORMATS_OVF_ENVELOPE_WRITE_H
#define PL_FORMATS_OVF_ENVELOPE_WRITE_H

#include "formats/ovf/machine.h"

struct ovf_new_disk {
    char file[100];          /* the member that holds it */
    uint64_t size;           /* bytes of that member */
    uint64_t capacity;       /* bytes of the disk */
    char uuid[PL_UUID_TEXT]; /* what VirtualBox knows it by inside the package */
};

/* The descriptor as text, which the caller frees; *len without the zero at its end.  Null: no
 * memory. */
char *ovf_envelope_text(const struct ovf_machine *machine, const struct ovf_new_disk *disks,
                        size_t count, size_t *len);

#endif
