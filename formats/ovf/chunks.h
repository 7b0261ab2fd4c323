/* chunks.h - a referenced file as one storage, also where it is cut into NAME.000000000,
 * NAME.000000001 ... (DSP0243, clause 7.1). */
#ifndef PL_FORMATS_OVF_CHUNKS_H
#define PL_FORMATS_OVF_CHUNKS_H

#include "formats/ovf/envelope.h"
#include "formats/ovf/members.h"

#define OVF_CHUNKS_MAX OVF_MEMBERS_MAX

/* Room for the name of any chunk. */
#define OVF_CHUNK_NAME (OVF_NAME_MAX + 16)

/* The bytes of the file as stored: not unpacked.  PL_E_NOT_FOUND, PL_E_CORRUPT: it, or a chunk, has
 * not the size that the descriptor says; PL_E_LIMIT. */
int ovf_chunks_open(const struct ovf_members *members, const struct ovf_file *file,
                    struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* Whether `name` is the file or one of its chunks. */
bool ovf_chunks_has(const struct ovf_file *file, const char *name);

#endif
