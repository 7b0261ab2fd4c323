/* compare_disks.h - walks over the content of disks: equal or not, and their digest. */
#ifndef PL_CORE_ENGINE_COMPARE_DISKS_H
#define PL_CORE_ENGINE_COMPARE_DISKS_H

#include "core/engine/compare.h"
#include "core/engine/disk.h"

/* Compares the common length; sets equal and offset. */
int pl_compare_disks(const struct pl_disk *a, const struct pl_disk *b, unsigned workers,
                     const struct pl_report *report, struct pl_compare_result *result,
                     struct pl_err *e) PL_CHECK;

/* The digest of all bytes, hexadecimal. */
int pl_checksum_disk(const struct pl_disk *disk, const char *algorithm, char hex[static 130],
                     const struct pl_report *report, struct pl_err *e) PL_CHECK;

/* PL_E_INVALID, listing what there is, when the algorithm is not known. */
int pl_checksum_known(const char *algorithm, struct pl_err *e) PL_CHECK;

#endif
