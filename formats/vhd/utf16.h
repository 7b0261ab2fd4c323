/* utf16.h - the names in VHD files are UTF-16, of either byte order. */
#ifndef PL_FORMATS_VHD_UTF16_H
#define PL_FORMATS_VHD_UTF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The UTF-8 text of len bytes, up to the first NUL.  Null: they are not UTF-16, or no memory.
 * The caller frees it. */
char *vhd_text_of_utf16(const uint8_t *bytes, size_t len, bool big_endian);

/* Writes UTF-8 `text` as UTF-16 without a NUL, as many whole characters as fit into `room` bytes;
 * bytes that are not UTF-8 become '?'.  The bytes written; with `room` 0 those it would take. */
size_t vhd_utf16_of_text(const char *text, uint8_t *bytes, size_t room, bool big_endian);

#endif
