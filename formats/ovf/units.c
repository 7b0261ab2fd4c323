#include "formats/ovf/units.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/base/text.h"

/* Longer ones exist only to waste time. */
#define UNITS_LEN_MAX 64

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

/* A decimal number at *at, which moves behind it; false: none, or too big. */
static bool take_number(const char **at, uint64_t *number)
{
    const char *start = skip_blanks(*at);

    *number = 0;
    for (*at = start; **at >= '0' && **at <= '9'; ++*at)
        if (!pl_mul(*number, 10, number) || !pl_add(*number, (uint64_t)(**at - '0'), number))
            return false;
    return *at > start;
}

/* "N" or "N ^ M" */
static bool take_factor(const char **at, uint64_t *factor)
{
    uint64_t base, exponent = 1;

    if (!take_number(at, &base))
        return false;
    *at = skip_blanks(*at);
    if (**at == '^') {
        ++*at;
        if (!take_number(at, &exponent) || exponent > 63)
            return false;
    }
    for (*factor = 1; exponent > 0; exponent--)
        if (!pl_mul(*factor, base, factor))
            return false;
    return true;
}

/* What follows "byte": factors. */
static bool take_factors(const char *at, uint64_t *bytes)
{
    *bytes = 1;
    for (at = skip_blanks(at); *at; at = skip_blanks(at)) {
        uint64_t factor;

        if (*at != '*')
            return false;
        at++;
        if (!take_factor(&at, &factor) || !pl_mul(*bytes, factor, bytes))
            return false;
    }
    return *bytes > 0 && *bytes <= PL_OFFSET_MAX;
}

int ovf_unit_bytes(const char *units, uint64_t *bytes, struct pl_err *e)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } words[] = {
        { "bytes", 1 },   { "kilobytes", PL_KIB }, { "kb", PL_KIB }, { "megabytes", PL_MIB },
        { "mb", PL_MIB }, { "gigabytes", PL_GIB }, { "gb", PL_GIB }, { "terabytes", PL_TIB },
    };

    *bytes = 1;
    if (!units)
        return 0;
    for (unsigned i = 0; i < PL_COUNT(words); i++)
        if (strcasecmp(units, words[i].name) == 0) {
            *bytes = words[i].bytes;
            return 0;
        }
    if (strlen(units) <= UNITS_LEN_MAX && strncasecmp(units, "byte", 4) == 0 &&
        take_factors(units + 4, bytes))
        return 0;
    return pl_fail(e, PL_E_CORRUPT, "\"%.64s\" is no unit like \"byte * 2^20\"", units);
}

int ovf_size(const char *number, const char *units, uint64_t *bytes, struct pl_err *e)
{
    uint64_t unit;

    if (ovf_unit_bytes(units, &unit, e) < 0)
        return -1;
    if (!number || pl_parse_number(number, 0, UINT64_MAX, bytes, NULL) < 0)
        return pl_fail(e, PL_E_CORRUPT, "\"%.64s\" is no number", number ? number : "");
    if (!pl_mul(*bytes, unit, bytes) || *bytes > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "%.64s times %" PRIu64 " bytes is too much", number, unit);
    return 0;
}
