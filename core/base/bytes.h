/* bytes.h - numbers in file bytes: any alignment, any host.  No struct is ever cast onto a buffer.
 */
#ifndef PL_CORE_BASE_BYTES_H
#define PL_CORE_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define PL_BYTES_ACCESSOR(name, bits, from, to)                                                    \
    static inline uint##bits##_t load_##name(const void *p)                                        \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return from(v);                                                                            \
    }                                                                                              \
    static inline void store_##name(void *p, uint##bits##_t n)                                     \
    {                                                                                              \
        uint##bits##_t v = to(n);                                                                  \
        memcpy(p, &v, sizeof v);                                                                   \
    }

PL_BYTES_ACCESSOR(be16, 16, be16toh, htobe16)
PL_BYTES_ACCESSOR(be32, 32, be32toh, htobe32)
PL_BYTES_ACCESSOR(be64, 64, be64toh, htobe64)
PL_BYTES_ACCESSOR(le16, 16, le16toh, htole16)
PL_BYTES_ACCESSOR(le32, 32, le32toh, htole32)
PL_BYTES_ACCESSOR(le64, 64, le64toh, htole64)

#undef PL_BYTES_ACCESSOR

#endif
