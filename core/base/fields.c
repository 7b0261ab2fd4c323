#include "core/base/fields.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/text.h"

static uint64_t load_raw(enum pl_field_type type, const uint8_t *p)
{
    switch (type) {
    case PL_BE16:
        return load_be16(p);
    case PL_BE32:
        return load_be32(p);
    case PL_BE64:
        return load_be64(p);
    case PL_LE16:
        return load_le16(p);
    case PL_LE32:
        return load_le32(p);
    case PL_LE64:
        return load_le64(p);
    default:
        return *p;
    }
}

static void store_raw(enum pl_field_type type, uint8_t *p, uint64_t n)
{
    switch (type) {
    case PL_BE16:
        store_be16(p, (uint16_t)n);
        break;
    case PL_BE32:
        store_be32(p, (uint32_t)n);
        break;
    case PL_BE64:
        store_be64(p, n);
        break;
    case PL_LE16:
        store_le16(p, (uint16_t)n);
        break;
    case PL_LE32:
        store_le32(p, (uint32_t)n);
        break;
    case PL_LE64:
        store_le64(p, n);
        break;
    default:
        *p = (uint8_t)n;
    }
}

static uint64_t load_member(const void *member, size_t size)
{
    uint16_t n16;
    uint32_t n32;
    uint64_t n64;

    switch (size) {
    case 2:
        memcpy(&n16, member, size);
        return n16;
    case 4:
        memcpy(&n32, member, size);
        return n32;
    case 8:
        memcpy(&n64, member, size);
        return n64;
    default:
        return *(const uint8_t *)member;
    }
}

static void store_member(void *member, size_t size, uint64_t n)
{
    const uint16_t n16 = (uint16_t)n;
    const uint32_t n32 = (uint32_t)n;

    switch (size) {
    case 2:
        memcpy(member, &n16, size);
        break;
    case 4:
        memcpy(member, &n32, size);
        break;
    case 8:
        memcpy(member, &n, size);
        break;
    default:
        *(uint8_t *)member = (uint8_t)n;
    }
}

void pl_fields_decode(const struct pl_field *table, const void *raw, size_t raw_len, void *out)
{
    for (const struct pl_field *f = table; f->name; f++) {
        const uint8_t *from = (const uint8_t *)raw + f->at;
        char *member = (char *)out + f->member;

        if (!pl_inside(f->at, f->size, raw_len))
            memset(member, 0, f->size);
        else if (f->type == PL_BYTES)
            memcpy(member, from, f->size);
        else
            store_member(member, f->size, load_raw(f->type, from));
    }
}

void pl_fields_encode(const struct pl_field *table, const void *in, void *raw, size_t raw_len)
{
    for (const struct pl_field *f = table; f->name; f++) {
        const char *member = (const char *)in + f->member;
        uint8_t *to = (uint8_t *)raw + f->at;

        if (!pl_inside(f->at, f->size, raw_len))
            continue;
        if (f->type == PL_BYTES)
            memcpy(to, member, f->size);
        else
            store_raw(f->type, to, load_member(member, f->size));
    }
}

static void dump_bytes(const struct pl_field *f, const uint8_t *member, struct pl_fact *object)
{
    PL_FREE char *hex = malloc(2 * f->size + 1);

    if (hex)
        pl_facts_text(object, f->name, pl_format_hex(member, f->size, hex));
}

void pl_fields_dump(const struct pl_field *table, const void *in, struct pl_fact *object)
{
    for (const struct pl_field *f = table; f->name; f++) {
        const uint8_t *member = (const uint8_t *)in + f->member;

        if (f->type == PL_BYTES)
            dump_bytes(f, member, object);
        else
            pl_facts_number(object, f->name, load_member(member, f->size));
    }
}

size_t pl_fields_end(const struct pl_field *table)
{
    size_t end = 0;

    for (const struct pl_field *f = table; f->name; f++)
        end = PL_MAX(end, f->at + f->size);
    return end;
}

static bool apart(size_t a, size_t a_size, size_t b, size_t b_size)
{
    return a + a_size <= b || b + b_size <= a;
}

bool pl_fields_apart(const struct pl_field *table)
{
    for (const struct pl_field *f = table; f->name; f++)
        for (const struct pl_field *g = f + 1; g->name; g++)
            if (!apart(f->at, f->size, g->at, g->size) ||
                !apart(f->member, f->size, g->member, g->size))
                return false;
    return true;
}
