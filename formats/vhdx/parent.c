/* parent.c - the parent locator: pairs of texts in UTF-16 that name the parent of a differencing
 * disk.
 *
 * Paths are those of Windows; a file beside the child is what they lead to elsewhere.  Of the
 * paths the relative one is taken, then that of the volume, then the absolute one.  Our own have
 * the parent's name as the user gave it, with backslashes: as the absolute path, which is all that
 * libvhdi looks at, and as the relative one too where it is relative.
 *
 * There may be a second linkage: the parent has either of the two. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

#define PAIRS_MAX 3
#define UNITS_MAX 8192 /* UTF-16 units of one text; paths of Windows have 32767 at the very most */

/* Encodes one code point in UTF-8; returns the bytes. */
static size_t put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 63));
        out[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 63));
    out[2] = (char)(0x80 | (code >> 6 & 63));
    out[3] = (char)(0x80 | (code & 63));
    return 4;
}

/* The text of `units` UTF-16 units; what is no character becomes U+FFFD, a zero ends it.  Null: no
 * memory. */
static char *text_of(const uint8_t *raw, uint32_t units)
{
    char *text = malloc(3 * (size_t)units + 1);
    size_t len = 0;

    for (uint32_t i = 0; text && i < units; i++) {
        uint32_t code = load_le16(raw + 2 * i);

        if (code == 0)
            break;
        if (code >> 10 == 0x36 && i + 1 < units && load_le16(raw + 2 * i + 2) >> 10 == 0x37)
            code = 0x10000 + ((code & 0x3ff) << 10 | (load_le16(raw + 2 * ++i) & 0x3ff));
        else if (code >> 11 == 0x1b)
            code = 0xfffd;
        len += put_utf8(text + len, code);
    }
    if (text)
        text[len] = '\0';
    return text;
}

/* Decodes one code point of UTF-8; what is none counts as the byte it is. */
static uint32_t take_utf8(const char **text)
{
    const uint8_t *p = (const uint8_t *)*text;
    const unsigned more = p[0] >= 0xf0 ? 3 : p[0] >= 0xe0 ? 2 : p[0] >= 0xc0 ? 1 : 0;
    uint32_t code = more ? p[0] & (0x3f >> more) : p[0];

    for (unsigned i = 1; i <= more; i++) {
        if (p[i] >> 6 != 2) {
            *text += 1;
            return p[0];
        }
        code = code << 6 | (p[i] & 63);
    }
    *text += 1 + more;
    return code;
}

/* Writes a text as UTF-16; returns the bytes. */
static uint32_t put_utf16(uint8_t *raw, const char *text)
{
    uint32_t len = 0;

    while (*text) {
        const uint32_t code = take_utf8(&text);

        if (code >= 0x10000) {
            store_le16(raw + len, (uint16_t)(0xd800 | (code - 0x10000) >> 10));
            store_le16(raw + len + 2, (uint16_t)(0xdc00 | ((code - 0x10000) & 0x3ff)));
            len += 4;
        } else {
            store_le16(raw + len, (uint16_t)code);
            len += 2;
        }
    }
    return len;
}

/* ---- reading ---- */

/* A text of the item; null, with *e filled, where it is not inside. */
static char *text_at(const uint8_t *item, uint32_t len, uint32_t off, uint32_t bytes,
                     struct pl_err *e)
{
    char *text;

    if (!pl_inside(off, bytes, len) || bytes > 2 * UNITS_MAX) {
        pl_fail(e, PL_E_CORRUPT,
                "a text [0x%" PRIx32 ", +0x%" PRIx32 ") is not inside the %" PRIu32 " bytes", off,
                bytes, len);
        return NULL;
    }
    text = text_of(item + off, bytes / 2);
    if (!text)
        pl_fail(e, PL_E_NOMEM, "no memory for a text");
    return text;
}

/* A path of Windows as this host writes it: relative ones, and those from an unnamed root. */
static void use_slashes(char *path)
{
    if (path[0] == '\\' && path[1] == '\\')
        return; /* a volume */
    if (path[0] && path[1] == ':')
        return; /* a drive */
    for (char *p = path; *p; p++)
        if (*p == '\\')
            *p = '/';
    while (path[0] == '.' && path[1] == '/' && path[2])
        memmove(path, path + 2, strlen(path + 2) + 1);
}

enum { LINKAGE, LINKAGE2, RELATIVE, VOLUME, ABSOLUTE, KEYS };
static const char *const keys[KEYS] = { "parent_linkage", "parent_linkage2", "relative_path",
                                        "volume_path", "absolute_win32_path" };

static int read_pair(const uint8_t *item, uint32_t len, const uint8_t *raw, char **values,
                     struct pl_err *e)
{
    PL_FREE char *key = text_at(item, len, load_le32(raw), load_le16(raw + 8), e);
    PL_FREE char *value =
        key ? text_at(item, len, load_le32(raw + 4), load_le16(raw + 10), e) : NULL;

    if (!value)
        return -1;
    for (unsigned i = 0; i < KEYS; i++)
        if (strcmp(key, keys[i]) == 0 && !values[i])
            values[i] = pl_take(value);
    return 0;
}

static int take_linkage(char **values, unsigned key, struct pl_uuid *linkage, struct pl_err *e)
{
    if (pl_uuid_parse(values[key], linkage, e) == 0)
        return 0;
    if (e)
        e->kind = PL_E_CORRUPT;
    return pl_within(e, "%s", keys[key]);
}

static int take_values(struct vhdx *v, char **values, struct pl_err *e)
{
    if (!values[LINKAGE])
        return pl_fail(e, PL_E_CORRUPT, "there is no %s", keys[LINKAGE]);
    if (take_linkage(values, LINKAGE, &v->parent_linkage, e) < 0)
        return -1;
    if (values[LINKAGE2] && values[LINKAGE2][0] &&
        take_linkage(values, LINKAGE2, &v->parent_linkage2, e) < 0)
        return -1;
    for (unsigned i = RELATIVE; i <= ABSOLUTE && !v->parent_name; i++)
        if (values[i] && values[i][0])
            v->parent_name = pl_take(values[i]);
    if (v->parent_name)
        use_slashes(v->parent_name);
    return 0;
}

int vhdx_read_locator(struct vhdx *v, const uint8_t *item, uint32_t len, struct pl_err *e)
{
    const uint32_t count = load_le16(item + 18);
    char *values[KEYS] = { NULL };
    char guid[PL_UUID_TEXT];
    int result = 0;

    if (memcmp(item, vhdx_guid_vhdx_locator, 16) != 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "a locator of type %s is not known",
                       vhdx_guid_text(item, guid));
    if (count > (len - VHDX_LOCATOR_HEADER_BYTES) / VHDX_LOCATOR_ENTRY_BYTES)
        return pl_fail(e, PL_E_CORRUPT, "%" PRIu32 " entries do not fit into its %" PRIu32 " bytes",
                       count, len);
    for (uint32_t i = 0; result == 0 && i < count; i++)
        result = read_pair(
            item, len, item + VHDX_LOCATOR_HEADER_BYTES + i * VHDX_LOCATOR_ENTRY_BYTES, values, e);
    if (result == 0)
        result = take_values(v, values, e);
    for (unsigned i = 0; i < KEYS; i++)
        free(values[i]);
    return result;
}

/* ---- writing ---- */

int vhdx_read_linkage(const struct pl_parent_ref *parent, struct pl_uuid *linkage, struct pl_err *e)
{
    const char *found = parent->identity ? strstr(parent->identity, "uuid:") : NULL;
    char text[PL_UUID_TEXT] = "";

    if (parent->format && strcmp(parent->format, "vhdx") != 0) {
        pl_fail(e, PL_E_UNSUPPORTED, "the parent of a VHDX image cannot be of the format %s",
                parent->format);
        return pl_hint(e, "convert the parent to vhdx first");
    }
    if (!found) {
        pl_fail(e, PL_E_INVALID, "the identity of the parent '%s' is not known", parent->name);
        return pl_hint(e, "a VHDX image names its parent by the identifier that it has: the parent "
                          "must be there");
    }
    snprintf(text, sizeof text, "%.36s", found + 5);
    return pl_uuid_parse(text, linkage, e);
}

/* The parent's name with backslashes; a relative one begins with ".\" as Hyper-V's do. */
static char *windows_path(const char *name)
{
    const bool plain = name[0] != '/' && name[0] != '.';
    char *path;

    if (asprintf(&path, "%s%s", plain ? ".\\" : "", name) < 0)
        return NULL;
    for (char *p = path; *p; p++)
        if (*p == '/')
            *p = '\\';
    return path;
}

int vhdx_make_locator(const char *parent_name, const struct pl_uuid *linkage, uint8_t **item,
                      uint32_t *len, struct pl_err *e)
{
    PL_FREE char *path = windows_path(parent_name);
    char uuid[PL_UUID_TEXT], braced[PL_UUID_TEXT + 2];
    const bool absolute = parent_name[0] == '/';
    const char *const pairs[PAIRS_MAX][2] = {
        { keys[LINKAGE], braced },
        { keys[ABSOLUTE], path },
        { keys[RELATIVE], path },
    };
    const uint32_t count = absolute ? 2 : 3;
    PL_FREE uint8_t *raw = calloc(1, VHDX_LOCATOR_BYTES_MAX);
    uint32_t at = VHDX_LOCATOR_HEADER_BYTES + count * VHDX_LOCATOR_ENTRY_BYTES;

    if (!path || !raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for the parent's name");
    if (strlen(path) > UNITS_MAX)
        return pl_fail(e, PL_E_LIMIT, "the parent's name has %zu bytes (limit: %d)", strlen(path),
                       UNITS_MAX);
    snprintf(braced, sizeof braced, "{%s}", pl_uuid_format(linkage, uuid));
    memcpy(raw, vhdx_guid_vhdx_locator, 16);
    store_le16(raw + 18, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = raw + VHDX_LOCATOR_HEADER_BYTES + i * VHDX_LOCATOR_ENTRY_BYTES;

        for (unsigned k = 0; k < 2; k++) {
            const uint32_t bytes = put_utf16(raw + at, pairs[i][k]);

            store_le32(entry + 4 * k, at);
            store_le16(entry + 8 + 2 * k, (uint16_t)bytes);
            at += bytes;
        }
    }
    *item = pl_take(raw);
    *len = at;
    return 0;
}
