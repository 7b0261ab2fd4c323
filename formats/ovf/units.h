/* units.h - sizes as OVF writes them: a number and the unit it counts. */
#ifndef PL_FORMATS_OVF_UNITS_H
#define PL_FORMATS_OVF_UNITS_H

#include <stdint.h>

#include "core/base/err.h"

/* Bytes in one of `units` (null: one): "byte", "byte * 2^20", "byte * 1024", products of those
 * (DMTF DSP0004, annex on programmatic units), and the words of OVF 0.9: "Bytes", "KiloBytes",
 * "MegaBytes", "GigaBytes", which count by 1024.  PL_E_CORRUPT; PL_E_LIMIT beyond 2^63. */
int ovf_unit_bytes(const char *units, uint64_t *bytes, struct pl_err *e) PL_CHECK;

/* number * units in bytes.  PL_E_CORRUPT: `number` is none; PL_E_LIMIT beyond PL_OFFSET_MAX. */
int ovf_size(const char *number, const char *units, uint64_t *bytes, struct pl_err *e) PL_CHECK;

#endif
