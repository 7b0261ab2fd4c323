#include "formats/vhd/utf16.h"

#include <stdlib.h>

#include "core/base/bytes.h"

static uint32_t unit_at(const uint8_t *p, bool big_endian)
{
    return big_endian ? load_be16(p) : load_le16(p);
}

static bool is_high(uint32_t unit)
{
    return unit >= 0xd800 && unit < 0xdc00;
}

static bool is_low(uint32_t unit)
{
    return unit >= 0xdc00 && unit < 0xe000;
}

/* Writes one character; the bytes it took. */
static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 63));
        to[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 63));
    to[2] = (char)(0x80 | (c >> 6 & 63));
    to[3] = (char)(0x80 | (c & 63));
    return 4;
}

char *vhd_text_of_utf16(const uint8_t *bytes, size_t len, bool big_endian)
{
    char *text = malloc(len / 2 * 3 + 1); /* a pair of units takes four bytes, a single one three */
    size_t out = 0;

    for (size_t i = 0; text && i + 2 <= len; i += 2) {
        uint32_t c = unit_at(bytes + i, big_endian);
        const uint32_t next = is_high(c) && i + 4 <= len ? unit_at(bytes + i + 2, big_endian) : 0;

        if (c == 0)
            break;
        if (is_low(c) || (is_high(c) && !is_low(next))) {
            free(text);
            return NULL;
        }
        if (is_high(c)) {
            c = 0x10000 + ((c - 0xd800) << 10) + (next - 0xdc00);
            i += 2;
        }
        out += put_utf8(text + out, c);
    }
    if (text)
        text[out] = '\0';
    return text;
}

/* The character at *text, which moves behind it; '?' for a byte that begins none. */
static uint32_t take_utf8(const unsigned char **text)
{
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    const unsigned char *p = *text;
    const unsigned more = p[0] < 0x80 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    uint32_t c = more ? p[0] & (0x3fu >> more) : p[0];

    *text = p + 1;
    if (more && (p[0] < 0xc0 || p[0] > 0xf7))
        return '?';
    for (unsigned i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return '?';
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || is_high(c) || is_low(c))
        return '?';
    *text = p + 1 + more;
    return c;
}

static void put_unit(uint8_t *p, uint32_t unit, bool big_endian)
{
    if (big_endian)
        store_be16(p, (uint16_t)unit);
    else
        store_le16(p, (uint16_t)unit);
}

size_t vhd_utf16_of_text(const char *text, uint8_t *bytes, size_t room, bool big_endian)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t out = 0;

    while (*p) {
        const uint32_t c = take_utf8(&p);
        const size_t width = c >= 0x10000 ? 4 : 2;

        if (room && out + width > room)
            break;
        if (room && width == 4) {
            put_unit(bytes + out, 0xd800 + ((c - 0x10000) >> 10), big_endian);
            put_unit(bytes + out + 2, 0xdc00 + ((c - 0x10000) & 0x3ff), big_endian);
        } else if (room) {
            put_unit(bytes + out, c, big_endian);
        }
        out += width;
    }
    return out;
}
