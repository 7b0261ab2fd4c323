/* ova_write.h - a new OVA, written in one pass: the slots of pl_package_driver.
 *
 * Order in the archive, as importers insist: descriptor, manifest, disks (DSP0243, clause 5).  The
 * first two are known only when the disks are written, so room of the right size is left for them
 * and filled at the end: the descriptor is written for the longest numbers and padded with newlines
 * behind its root; the manifest's lines have a length that is known.  Hence the output must be one
 * that can be written at any place.  Until finish returns there is no archive that a reader would
 * take for one: it starts with zeros. */
#ifndef PL_FORMATS_OVF_OVA_WRITE_H
#define PL_FORMATS_OVF_OVA_WRITE_H

#include "core/package.h"

/* Slot begin.  PL_E_UNSUPPORTED for a pipe; PL_E_LIMIT for more disks than the machine can have;
 * errors of the options.  Writes nothing yet. */
int ova_begin(const struct pl_package_create_args *args, void **writer, struct pl_err *e) PL_CHECK;
/* Slot disk_options. */
const char *ova_disk_options(void *writer);
/* Slot disk_storage. */
int ova_disk_storage(void *writer, size_t disk, struct pl_storage **out, struct pl_err *e) PL_CHECK;
/* Slot finish. */
int ova_finish(void *writer, struct pl_err *e) PL_CHECK;
/* Slot abandon. */
void ova_abandon(void *writer);

#endif
