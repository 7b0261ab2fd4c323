/* tar_index.h - where the members of a tar archive are (libarchive). */
#ifndef PL_FORMATS_OVF_TAR_INDEX_H
#define PL_FORMATS_OVF_TAR_INDEX_H

#include "formats/ovf/members.h"

/* Lists the members in the archive's order.  The list is the caller's, also after failure: see
 * ovf_tar_list_free.  Refuses what members.h says but members of the same name. */
int ovf_tar_list(struct pl_storage *archive, struct ovf_member **list, size_t *count,
                 struct pl_err *e) PL_CHECK;

/* Frees the list and its names. */
void ovf_tar_list_free(struct ovf_member *list, size_t count);

/* Whether these first bytes of a file are a tar archive with a descriptor among the members that
 * can be seen, or, where the first members hide the rest, one that holds nothing but kinds of files
 * that an OVA has. */
bool ovf_tar_probe(const uint8_t *head, size_t len);

#endif
