/* text.h - sizes and numbers as people write and read them. */
#ifndef PL_CORE_BASE_TEXT_H
#define PL_CORE_BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* Parses a size as qemu-img does: a number, decimals allowed ("1.5G"), suffix b, k/K, M, G, T, P or
 * E (powers of 1024, an optional "iB" after it), or 0x hexadecimal; no suffix counts `unit` bytes.
 * PL_E_INVALID, PL_E_LIMIT over PL_OFFSET_MAX. */
PL_API int pl_parse_size(const char *text, uint64_t unit, uint64_t *size, struct pl_err *e)
    PL_CHECK;

/* Parses a plain decimal number within [min, max].  PL_E_INVALID, PL_E_LIMIT. */
PL_API int pl_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *n,
                           struct pl_err *e) PL_CHECK;

/* "1.5 GiB", "512 B", "196 KiB": three significant digits as qemu-img prints them.  Returns buf. */
PL_API char *pl_format_size(uint64_t size, char buf[static 32]);

/* Writes len bytes in lower-case hexadecimal; buf has room for 2 * len + 1.  Returns buf. */
char *pl_format_hex(const void *bytes, size_t len, char *buf);

#endif
