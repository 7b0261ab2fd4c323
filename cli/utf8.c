#include "cli/utf8.h"

#include <stdint.h>

/* Lead bytes by length, with the range that the second byte must lie in: that is what excludes
 * overlong forms, surrogates and code points past 10FFFF. */
static const struct lead {
    uint8_t first, last, length, second_min, second_max;
} leads[] = {
    { 0x00, 0x7f, 1, 0, 0 },       { 0xc2, 0xdf, 2, 0x80, 0xbf }, { 0xe0, 0xe0, 3, 0xa0, 0xbf },
    { 0xe1, 0xec, 3, 0x80, 0xbf }, { 0xed, 0xed, 3, 0x80, 0x9f }, { 0xee, 0xef, 3, 0x80, 0xbf },
    { 0xf0, 0xf0, 4, 0x90, 0xbf }, { 0xf1, 0xf3, 4, 0x80, 0xbf }, { 0xf4, 0xf4, 4, 0x80, 0x8f },
};

static const struct lead *find_lead(uint8_t byte)
{
    for (unsigned i = 0; i < sizeof leads / sizeof *leads; i++)
        if (byte >= leads[i].first && byte <= leads[i].last)
            return &leads[i];
    return NULL;
}

size_t utf8_length(const char *text)
{
    const uint8_t *p = (const uint8_t *)text;
    const struct lead *lead = find_lead(p[0]);

    if (!lead || lead->length == 1)
        return lead ? 1 : 0;
    if (p[1] < lead->second_min || p[1] > lead->second_max)
        return 0;
    for (unsigned i = 2; i < lead->length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return lead->length;
}

bool utf8_is_control(const char *text, size_t len)
{
    uint8_t first = (uint8_t)text[0];

    if (len == 1)
        return first < 0x20 || first == 0x7f;
    return len == 2 && first == 0xc2 && (uint8_t)text[1] < 0xa0;
}
