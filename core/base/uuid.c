#include "core/base/uuid.h"

#include <string.h>
#include <uuid/uuid.h>

#include "core/base/bytes.h"

void pl_uuid_random(struct pl_uuid *uuid)
{
    uuid_generate_random(uuid->byte);
}

void pl_uuid_from_name(struct pl_uuid *uuid, const void *name, size_t len)
{
    /* version 5 of "platter" in the name space of the nil UUID; never to be changed */
    static const uint8_t space[16] = { 0x50, 0x5e, 0x5e, 0x6e, 0x7b, 0x7d, 0x55, 0x00,
                                       0xbe, 0xb9, 0xd7, 0x1a, 0x5a, 0x91, 0xb7, 0x70 };

    uuid_generate_sha1(uuid->byte, space, name, len);
}

int pl_uuid_parse(const char *text, struct pl_uuid *uuid, struct pl_err *e)
{
    size_t len = strlen(text);
    bool braces = len == PL_UUID_TEXT + 1 && text[0] == '{' && text[len - 1] == '}';
    char plain[PL_UUID_TEXT] = "";
    uuid_t parsed;

    if (len - 2 * braces == PL_UUID_TEXT - 1)
        memcpy(plain, text + braces, PL_UUID_TEXT - 1);
    if (uuid_parse(plain, parsed)) {
        pl_fail(e, PL_E_INVALID, "'%.64s' is not a UUID", text);
        return pl_hint(e, "write it as 00112233-4455-6677-8899-aabbccddeeff");
    }
    memcpy(uuid->byte, parsed, sizeof uuid->byte);
    return 0;
}

char *pl_uuid_format(const struct pl_uuid *uuid, char buf[static PL_UUID_TEXT])
{
    uuid_unparse_lower(uuid->byte, buf);
    return buf;
}

bool pl_uuid_is_null(const struct pl_uuid *uuid)
{
    return uuid_is_null(uuid->byte);
}

bool pl_uuid_equal(const struct pl_uuid *a, const struct pl_uuid *b)
{
    return !memcmp(a->byte, b->byte, sizeof a->byte);
}

/* Swapping is its own inverse, so one function goes both ways. */
static void swap_groups(void *to, const void *from)
{
    const uint8_t *raw = from;
    uint8_t swapped[16];

    store_be32(swapped, load_le32(raw));
    store_be16(swapped + 4, load_le16(raw + 4));
    store_be16(swapped + 6, load_le16(raw + 6));
    memcpy(swapped + 8, raw + 8, 8);
    memcpy(to, swapped, sizeof swapped);
}

void pl_uuid_load_guid(struct pl_uuid *uuid, const void *raw)
{
    swap_groups(uuid->byte, raw);
}

void pl_uuid_store_guid(void *raw, const struct pl_uuid *uuid)
{
    swap_groups(raw, uuid->byte);
}
