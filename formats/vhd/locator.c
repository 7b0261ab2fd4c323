/* locator.c - the names that a differencing disk has for its parent.
 *
 * There are up to eight, one for each platform, and one more in the header.  What Windows wrote
 * has its separators and drive letters; the core looks for the last part of a name in the child's
 * folder too.  A name that is relative to the child's folder is worth more than an absolute one,
 * which ends with a move to another host. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhd/create.h"
#include "formats/vhd/utf16.h"
#include "formats/vhd/vhd.h"

#define FIELD(type, at, name) PL_FIELD(struct vhd_locator, type, at, name)

const struct pl_field vhd_locator_fields[] = {
    FIELD(PL_BYTES, 0, platform_code),
    FIELD(PL_BE32, 4, platform_data_space),
    FIELD(PL_BE32, 8, platform_data_length),
    FIELD(PL_BE64, 16, platform_data_offset),
    { 0 },
};

/* How the data of a locator are read; the most useful platform first. */
static const struct platform {
    char code[5];
    enum { UTF16, PLAIN, URL } form;
} platforms[] = {
    { "W2ru", UTF16 }, { "Wi2r", PLAIN }, { "MacX", URL }, { "W2ku", UTF16 }, { "Wi2k", PLAIN },
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The path of a URL "file://HOST/PATH" (XenServer: "file://./PATH"), its %XX decoded; in place. */
static void path_of_url(char *text)
{
    static const char scheme[] = "file://", host[] = "localhost/";
    const char *from = text;
    char *to = text;

    if (strncmp(from, scheme, sizeof scheme - 1) == 0)
        from += sizeof scheme - 1;
    if (strncmp(from, host, sizeof host - 1) == 0)
        from += sizeof host - 2;
    while (*from) {
        const int high = *from == '%' ? hex_digit(from[1]) : -1;
        const int low = high >= 0 ? hex_digit(from[2]) : -1;

        if (low >= 0 && high + low > 0) {
            *to++ = (char)(high << 4 | low);
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* Windows separators become those of the host; "./" at the start goes; in place. */
static void path_of_host(char *text)
{
    size_t skip = 0;

    for (char *at = text; *at; at++)
        if (*at == '\\')
            *at = '/';
    while (text[skip] == '.' && text[skip + 1] == '/')
        skip += 2;
    memmove(text, text + skip, strlen(text + skip) + 1);
}

/* The name in the data of a locator; null: none that can be read. */
static char *decode(const struct platform *platform, const uint8_t *data, size_t len)
{
    PL_FREE char *text = NULL;

    if (platform->form == UTF16)
        text = vhd_text_of_utf16(data, len, false);
    else
        text = strndup((const char *)data, len);
    if (!text)
        return NULL;
    if (platform->form == URL)
        path_of_url(text);
    path_of_host(text);
    return *text ? pl_take(text) : NULL;
}

/* *name stays null where the locator's data cannot be read: the next one may do better. */
static int read_locator(const struct vhd *v, const struct platform *platform,
                        const struct vhd_locator *locator, char **name, struct pl_err *e)
{
    const uint32_t len = locator->platform_data_length;
    PL_FREE uint8_t *data = NULL;

    if (len == 0 || len > VHD_LOCATOR_DATA_MAX ||
        !pl_inside(locator->platform_data_offset, len, v->footer_at))
        return 0;
    data = malloc(len);
    if (!data)
        return pl_fail(e, PL_E_NOMEM, "no memory for the parent's name");
    if (pl_storage_read(v->file, locator->platform_data_offset, data, len, e) < 0)
        return pl_within(e, "parent locator");
    *name = decode(platform, data, len);
    return 0;
}

/* Blocks must not lie on the data of a locator. */
static void note(struct vhd *v, const struct vhd_locator *locator)
{
    const uint32_t len = locator->platform_data_length;

    if (len > 0 && len <= VHD_LOCATOR_DATA_MAX &&
        pl_inside(locator->platform_data_offset, len, v->footer_at))
        v->own[v->own_count++] =
            (struct vhd_own){ "a parent locator", locator->platform_data_offset, len };
}

static int read_entries(struct vhd *v, struct vhd_locator *locators, struct pl_err *e)
{
    uint8_t raw[VHD_LOCATORS * VHD_LOCATOR_BYTES];

    if (pl_storage_read(v->file, v->footer.data_offset + VHD_LOCATORS_AT, raw, sizeof raw, e) < 0)
        return pl_within(e, "parent locators");
    for (unsigned i = 0; i < VHD_LOCATORS; i++) {
        pl_fields_decode(vhd_locator_fields, raw + i * VHD_LOCATOR_BYTES, VHD_LOCATOR_BYTES,
                         &locators[i]);
        note(v, &locators[i]);
    }
    return 0;
}

/* The name in the header itself. */
static char *header_name(const struct vhd *v)
{
    PL_FREE char *text = vhd_text_of_utf16(v->header.parent_unicode_name, VHD_NAME_BYTES, true);

    if (!text)
        return NULL;
    path_of_host(text);
    return *text ? pl_take(text) : NULL;
}

int vhd_read_parent_name(struct vhd *v, char **name, struct pl_err *e)
{
    struct vhd_locator locators[VHD_LOCATORS];

    *name = NULL;
    if (read_entries(v, locators, e) < 0)
        return -1;
    for (unsigned k = 0; k < PL_COUNT(platforms); k++)
        for (unsigned i = 0; i < VHD_LOCATORS && !*name; i++)
            if (memcmp(locators[i].platform_code, platforms[k].code, 4) == 0 &&
                read_locator(v, &platforms[k], &locators[i], name, e) < 0)
                return -1;
    if (!*name)
        *name = header_name(v);
    return 0;
}

/* ---- of a new parent ---- */

/* `text` in UTF-16, little endian; the data are the caller's. */
static int encode(const char *text, struct vhd_name *name, struct pl_err *e)
{
    const size_t bytes = vhd_utf16_of_text(text, NULL, 0, false);

    if (bytes > VHD_LOCATOR_DATA_MAX)
        return pl_fail(e, PL_E_LIMIT, "the backing file's name is too long for a VHD");
    name->data = malloc(bytes);
    if (!name->data)
        return pl_fail(e, PL_E_NOMEM, "no memory for a parent locator");
    name->len = (uint32_t)vhd_utf16_of_text(text, name->data, bytes, false);
    return 0;
}

/* The name as Windows writes it: ".\\FOLDER\\FILE" where it is relative.  Null: no memory. */
static char *windows_name(const char *name, bool relative)
{
    char *text;

    if (asprintf(&text, "%s%s", relative ? "./" : "", name) < 0)
        return NULL;
    for (char *at = text; *at; at++)
        if (*at == '/')
            *at = '\\';
    return text;
}

/* Whether what is read back from the data leads to the same file. */
static bool comes_back(const char *text, const struct vhd_name *name)
{
    static const struct platform windows = { "W2ru", UTF16 };
    PL_FREE char *back = decode(&windows, name->data, name->len);

    return back && strcmp(back, text) == 0;
}

int vhd_encode_parent_name(const char *name, struct vhd_header *header,
                           struct vhd_name out[VHD_NAMES], struct pl_err *e)
{
    const bool relative = *name != '/';
    PL_FREE char *plain = NULL, *dotted = NULL;
    int result;

    while (strncmp(name, "./", 2) == 0)
        name += 2;
    plain = windows_name(name, false);
    dotted = windows_name(name, true);
    if (!plain || !dotted)
        return pl_fail(e, PL_E_NOMEM, "no memory for a parent locator");
    out[0] = (struct vhd_name){ .code = "W2ku" };
    out[1] = (struct vhd_name){ .code = "W2ru" };
    memset(header->parent_unicode_name, 0, VHD_NAME_BYTES);
    vhd_utf16_of_text(plain, header->parent_unicode_name, VHD_NAME_BYTES - 2, true);
    result = encode(plain, &out[0], e);
    if (result == 0 && relative)
        result = encode(dotted, &out[1], e);
    if (result == 0 && !comes_back(name, &out[0]))
        result = pl_fail(e, PL_E_UNSUPPORTED, "a VHD cannot hold the name '%s' of its backing file",
                         name);
    if (result == 0)
        return 0;
    vhd_free_names(out);
    return -1;
}

void vhd_free_names(struct vhd_name names[VHD_NAMES])
{
    for (unsigned i = 0; i < VHD_NAMES; i++)
        free(pl_take(names[i].data));
}

static uint32_t space_of(const struct vhd_name *name)
{
    return name->data ? (uint32_t)pl_round_up(name->len, VHD_SECTOR) : 0;
}

uint64_t vhd_names_bytes(const struct vhd_name names[VHD_NAMES])
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < VHD_NAMES; i++)
        bytes += space_of(&names[i]);
    return bytes;
}

/* Writes the data of a name at byte offset `at` and fills the entry of its locator. */
static int write_name(struct pl_storage *file, const struct vhd_name *name, uint64_t at,
                      uint8_t *entry, struct pl_err *e)
{
    const uint32_t space = space_of(name);
    struct vhd_locator locator = {
        .platform_data_space = space,
        .platform_data_length = name->len,
        .platform_data_offset = at,
    };
    PL_FREE uint8_t *padded = calloc(1, space);

    if (!padded)
        return pl_fail(e, PL_E_NOMEM, "no memory for a parent locator");
    memcpy(padded, name->data, name->len);
    memcpy(locator.platform_code, name->code, 4);
    pl_fields_encode(vhd_locator_fields, &locator, entry, VHD_LOCATOR_BYTES);
    if (pl_storage_write(file, at, padded, space, e) < 0)
        return pl_within(e, "parent locator");
    return 0;
}

int vhd_write_names(struct pl_storage *file, const struct vhd_name names[VHD_NAMES], uint64_t at,
                    uint8_t *header, struct pl_err *e)
{
    uint8_t *entry = header + VHD_LOCATORS_AT;

    memset(entry, 0, VHD_LOCATORS * VHD_LOCATOR_BYTES);
    for (unsigned i = 0; i < VHD_NAMES; i++, entry += VHD_LOCATOR_BYTES) {
        if (names[i].data && write_name(file, &names[i], at, entry, e) < 0)
            return -1;
        at += space_of(&names[i]);
    }
    return 0;
}
