/* tar_header.h - the header of one plain member of a tar archive (POSIX.1-1988, "ustar"). */
#ifndef PL_FORMATS_OVF_TAR_HEADER_H
#define PL_FORMATS_OVF_TAR_HEADER_H

#include <stdint.h>

#include "core/base/err.h"

#define OVF_TAR_BLOCK 512u
#define OVF_TAR_NAME_MAX 100

/* Mode 0644, owner 0.  A size from 8 GiB on, which eleven octal digits do not hold, is written in
 * base 256 as GNU tar does: importers read that, and a pax header would stand before the member.
 * PL_E_LIMIT: the name has more than 100 bytes. */
int ovf_tar_header(const char *name, uint64_t size, uint64_t mtime,
                   uint8_t header[static OVF_TAR_BLOCK], struct pl_err *e) PL_CHECK;

#endif
