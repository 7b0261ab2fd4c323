#include "core/base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"

/* A decimal or hexadecimal number as it was written. */
struct spelled {
    uint64_t whole;
    uint64_t fraction, scale; /* the part behind the point is fraction / scale, below 1 */
    const char *end;          /* the first character that is not part of it */
};

static bool digit_value(char c, unsigned base, unsigned *value)
{
    if (c >= '0' && c <= '9')
        *value = (unsigned)(c - '0');
    else if (c >= 'a' && c <= 'f')
        *value = (unsigned)(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F')
        *value = (unsigned)(c - 'A') + 10;
    else
        return false;
    return *value < base;
}

/* Reads the digits at *p and moves it behind them; false when the number exceeds 64 bits. */
static bool read_digits(const char **p, unsigned base, uint64_t *n)
{
    bool fits = true;
    unsigned digit;

    for (*n = 0; digit_value(**p, base, &digit); ++*p)
        fits = fits && pl_mul(*n, base, n) && pl_add(*n, digit, n);
    return fits;
}

/* Digits behind the point; what lies beyond the 18th is below any byte and dropped. */
static void read_fraction(const char **p, struct spelled *n)
{
    unsigned digit;

    for (; digit_value(**p, 10, &digit); ++*p)
        if (n->scale < UINT64_C(1000000000000000000)) {
            n->fraction = n->fraction * 10 + digit;
            n->scale *= 10;
        }
}

static int bad_size(const char *text, struct pl_err *e)
{
    pl_fail(e, PL_E_INVALID, "'%s' is not a size", text);
    return pl_hint(e, "write a number of bytes, or a number with k, M, G, T, P or E: 512M, 1.5G");
}

static int too_big(const char *text, struct pl_err *e)
{
    pl_fail(e, PL_E_LIMIT, "size '%s' is too big", text);
    return pl_hint(e, "the largest size is %lld bytes (just below 8E)", (long long)PL_OFFSET_MAX);
}

static int spell(const char *text, struct spelled *n, struct pl_err *e)
{
    const char *p = text + strspn(text, " \t\n");
    bool hex, fits;

    if (*p == '-')
        return pl_fail(e, PL_E_INVALID, "size '%s' is negative", text);
    p += *p == '+';
    hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
    p += hex ? 2 : 0;
    if (hex ? !isxdigit((unsigned char)*p) : !isdigit((unsigned char)*p))
        return bad_size(text, e);
    *n = (struct spelled){ .scale = 1 };
    fits = read_digits(&p, hex ? 16 : 10, &n->whole);
    if (!hex && *p == '.') {
        p++;
        read_fraction(&p, n);
    }
    n->end = p;
    return fits ? 0 : too_big(text, e);
}

/* What the suffix multiplies by; 0 for one that does not exist. */
static uint64_t suffix_bytes(const char *suffix, uint64_t unit)
{
    static const char letters[] = "bkmgtpe";
    const char *letter;

    if (!*suffix)
        return unit;
    letter = strchr(letters, tolower((unsigned char)*suffix));
    if (!letter)
        return 0;
    if (suffix[1] && (letter == letters || strcmp(suffix + 1, "iB") != 0))
        return 0;
    return UINT64_C(1) << (10 * (letter - letters));
}

int pl_parse_size(const char *text, uint64_t unit, uint64_t *size, struct pl_err *e)
{
    struct spelled n;
    uint64_t multiplier, bytes, part;

    if (spell(text, &n, e))
        return -1;
    multiplier = suffix_bytes(n.end, unit);
    if (!multiplier)
        return bad_size(text, e);
    if (multiplier == 1 && n.fraction)
        return pl_fail(e, PL_E_INVALID, "size '%s' has a fraction of a byte", text);
    /* to the nearest byte, as qemu-img does: 0.9999k is 1024 bytes */
    part = (uint64_t)(((unsigned __int128)n.fraction * multiplier + n.scale / 2) / n.scale);
    if (!pl_mul(n.whole, multiplier, &bytes) || !pl_add(bytes, part, &bytes) ||
        bytes > PL_OFFSET_MAX)
        return too_big(text, e);
    *size = bytes;
    return 0;
}

int pl_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *n, struct pl_err *e)
{
    const char *p = text;
    uint64_t value;
    bool fits = read_digits(&p, 10, &value);

    if (p == text || *p)
        return pl_fail(e, PL_E_INVALID, "'%s' is not a number", text);
    if (!fits || value < min || value > max)
        return pl_fail(e, PL_E_LIMIT, "%s is outside [%llu, %llu]", text, (unsigned long long)min,
                       (unsigned long long)max);
    *n = value;
    return 0;
}

char *pl_format_size(uint64_t size, char buf[static 32])
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)size;
    unsigned i = 0;

    /* qemu-img leaves a unit at 1000 already, hence "0.977 MiB" for 1000 KiB. */
    for (; value >= 1000; i++)
        value /= 1024;
    snprintf(buf, 32, "%.3g %s", value, unit[i]);
    return buf;
}

char *pl_format_hex(const void *bytes, size_t len, char *buf)
{
    static const char digit[] = "0123456789abcdef";
    const uint8_t *byte = bytes;

    for (size_t i = 0; i < len; i++) {
        buf[2 * i] = digit[byte[i] >> 4];
        buf[2 * i + 1] = digit[byte[i] & 15];
    }
    buf[2 * len] = '\0';
    return buf;
}
