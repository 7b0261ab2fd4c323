/* crc32c.h - the Castagnoli cyclic redundancy check (RFC 3720, appendix B.4): VHDX. */
#ifndef PL_CORE_BASE_CRC32C_H
#define PL_CORE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The sum of `len` bytes; `before` is the sum of the bytes in front of them, 0 for none. */
uint32_t pl_crc32c(uint32_t before, const void *bytes, size_t len);

#endif
