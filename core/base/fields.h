/* fields.h - layout tables: one table a structure, with the specification's own field names.
 *
 *     struct dynamic_header { uint32_t max_table_entries; uint8_t parent_unique_id[16]; ... };
 *     static const struct pl_field dynamic_header_fields[] = {
 *         PL_FIELD(struct dynamic_header, PL_BE32, 28, max_table_entries),
 *         PL_FIELD(struct dynamic_header, PL_BYTES, 40, parent_unique_id),
 *         { 0 },
 *     };
 *
 * The same table decodes, encodes, dumps and checks itself.  Bytes stay bytes until decoded; the
 * struct holds numbers in host order and never lies on file bytes. */
#ifndef PL_CORE_BASE_FIELDS_H
#define PL_CORE_BASE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/facts.h"

/* How the bytes of a field are read.  The low four bits are the width in bytes, 0: the member's. */
enum pl_field_type {
    PL_U8 = 0x01,
    PL_BE16 = 0x12,
    PL_BE32 = 0x14,
    PL_BE64 = 0x18,
    PL_LE16 = 0x22,
    PL_LE32 = 0x24,
    PL_LE64 = 0x28,
    PL_BYTES = 0x30, /* an array of uint8_t or char, copied as it is */
};

struct pl_field {
    const char *name; /* null ends a table */
    enum pl_field_type type;
    size_t at;     /* byte offset in the raw structure */
    size_t size;   /* bytes there and in the member */
    size_t member; /* byte offset in the host struct */
};

#define PL_FIELD_OF(structure, name) (((structure *)0)->name)
#define PL_FIELD_IS_BYTES(member)                                                                  \
    (__builtin_types_compatible_p(__typeof__(member), uint8_t[sizeof(member)]) ||                  \
     __builtin_types_compatible_p(__typeof__(member), char[sizeof(member)]))
#define PL_FIELD_FITS(type, member)                                                                \
    ((type) == PL_BYTES ? PL_FIELD_IS_BYTES(member)                                                \
                        : (15 & (type)) == sizeof(member) && !PL_FIELD_IS_BYTES(member))

/* A row of a table; does not compile when the member's width is not that of the type. */
#define PL_FIELD(structure, field_type, offset, field_name)                                        \
    {                                                                                              \
        .name = #field_name, .type = (field_type), .at = (offset),                                 \
        .size = sizeof(PL_FIELD_OF(structure, field_name)) +                                       \
                0 * sizeof(struct {                                                                \
                    int unused;                                                                    \
                    _Static_assert(PL_FIELD_FITS(field_type, PL_FIELD_OF(structure, field_name)),  \
                                   #field_name " is not as wide as its type");                     \
                }),                                                                                \
        .member = offsetof(structure, field_name),                                                 \
    }

/* Sets every member that the table names from raw_len bytes at `raw`; a field that does not lie
 * wholly within them becomes 0 (headers grow by version).  Other members are left alone. */
void pl_fields_decode(const struct pl_field *table, const void *raw, size_t raw_len, void *out);

/* Writes every member that the table names to its place in `raw`; a field that does not lie wholly
 * within raw_len bytes is left out, and bytes that no field covers are left alone. */
void pl_fields_encode(const struct pl_field *table, const void *in, void *raw, size_t raw_len);

/* Appends every field to an OBJECT under its name: a number, or bytes in hexadecimal. */
void pl_fields_dump(const struct pl_field *table, const void *in, struct pl_fact *object);

/* How many raw bytes the table reaches: the end of its last field. */
size_t pl_fields_end(const struct pl_field *table);

/* Whether no two fields share a raw byte or a byte of the struct; for the tests of a table. */
bool pl_fields_apart(const struct pl_field *table);

#endif
