/* gunzip.h - the content of a gzip file as something that can be read at any offset. */
#ifndef PL_CORE_STORAGE_GUNZIP_H
#define PL_CORE_STORAGE_GUNZIP_H

#include "core/base/report.h"
#include "core/storage/storage.h"

/* Unpacks all of `packed`, a gzip file of one or more members, into a temporary file (see spool.h),
 * zeros left out; the new storage is read-only and independent of `packed`.  More than
 * `limit` bytes: PL_E_LIMIT, and nothing is kept.  PL_E_CORRUPT: no gzip file, damaged, cut off, or
 * followed by something else than zeros.  PL_E_CANCELLED. */
int pl_gunzip(struct pl_storage *packed, uint64_t limit, const struct pl_report *report,
              struct pl_storage **out, struct pl_err *e) PL_CHECK;

#endif
