/* virtualbox_write.h - the settings of VirtualBox in a new descriptor.
 *
 * VirtualBox takes the firmware from its own section alone, vbox:Machine; where there is one it
 * takes nearly all of the machine from it, and each disk must be attached there under the
 * identifier that vbox:uuid gives it in the DiskSection.  Others pass over the section, which is
 * not required. */
#ifndef PL_FORMATS_OVF_VIRTUALBOX_WRITE_H
#define PL_FORMATS_OVF_VIRTUALBOX_WRITE_H

#include <stdio.h>

#include "formats/ovf/envelope_write.h"

/* Writes the section, the last one of the VirtualSystem. */
void ovf_write_virtualbox(FILE *to, const struct ovf_machine *machine,
                          const struct ovf_new_disk *disks, size_t count);

#endif
