/* edit.h - changes one value of a descriptor on disk, in one sector, so that a crash leaves the old
 * text or the new one. */
#ifndef PL_FORMATS_VMDK_EDIT_H
#define PL_FORMATS_VMDK_EDIT_H

#include "formats/vmdk/vmdk.h"

/* A text that is about to replace that of a descriptor. */
struct vmdk_edit {
    char *text; /* the new one; owned */
    size_t len;
    size_t from, to; /* the bytes that differ */
};

/* Plans to write `value`, which is not shorter than the piece, in its place.  Where it is longer
 * comments and empty lines nearby give the room if they can, so that no other line moves.
 * PL_E_UNSUPPORTED where the change does not fit in one sector, or in the descriptor's room. */
int vmdk_edit_plan(const struct vmdk *v, struct vmdk_piece piece, const char *value,
                   struct vmdk_edit *out, struct pl_err *e) PL_CHECK;

/* Writes it, waits until it is on stable storage, and makes it the descriptor of v.  Needs the disk
 * for itself.  Frees the edit, also when it fails. */
int vmdk_edit_apply(struct vmdk *v, struct vmdk_edit *edit, struct pl_err *e) PL_CHECK;

/* Frees what plan made; fine on zeros. */
void vmdk_edit_free(struct vmdk_edit *edit);

#endif
