#include "formats/vmdk/descriptor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/extent.h"

static const char *const access_names[] = { "RW", "RDONLY", "NOACCESS" };
static const char *const type_names[] = { "FLAT",       "SPARSE",  "ZERO",    "VMFS",
                                          "VMFSSPARSE", "VMFSRDM", "VMFSRAW", "SESPARSE" };

const char *vmdk_access_name(enum vmdk_access access)
{
    return access_names[access];
}

const char *vmdk_type_name(enum vmdk_type type)
{
    return type_names[type];
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- lines ---- */

/* The next line of a text, without its end and without blanks around it. */
static bool next_line(const char *text, size_t len, size_t *at, struct vmdk_piece *line)
{
    const char *end;

    if (*at >= len)
        return false;
    end = memchr(text + *at, '\n', len - *at);
    line->at = *at;
    line->len = end ? (size_t)(end - text) - *at : len - *at;
    *at += line->len + 1;
    while (line->len > 0 && is_blank(text[line->at])) {
        line->at++;
        line->len--;
    }
    while (line->len > 0 && is_blank(text[line->at + line->len - 1]))
        line->len--;
    return true;
}

/* Takes the next word off the front of `rest`. */
static struct vmdk_piece take_word(const char *text, struct vmdk_piece *rest)
{
    struct vmdk_piece word;

    while (rest->len > 0 && is_blank(text[rest->at])) {
        rest->at++;
        rest->len--;
    }
    word.at = rest->at;
    while (rest->len > 0 && !is_blank(text[rest->at])) {
        rest->at++;
        rest->len--;
    }
    word.len = rest->at - word.at;
    return word;
}

static bool word_is(const char *text, struct vmdk_piece word, const char *name)
{
    return word.len == strlen(name) && strncasecmp(text + word.at, name, word.len) == 0;
}

/* The index of the word among `names`, or -1. */
static int choose(const char *text, struct vmdk_piece word, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (word_is(text, word, names[i]))
            return (int)i;
    return -1;
}

/* A whole word of decimal digits. */
static bool read_number(const char *text, struct vmdk_piece word, uint64_t *n)
{
    *n = 0;
    for (size_t i = 0; i < word.len; i++)
        if (!is_digit(text[word.at + i]) || !pl_mul(*n, 10, n) ||
            !pl_add(*n, (uint64_t)(text[word.at + i] - '0'), n))
            return false;
    return word.len > 0;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- key = value ---- */

bool vmdk_descriptor_find(const struct vmdk_descriptor *d, const char *key, struct vmdk_piece *out)
{
    const char *text = d->text;
    struct vmdk_piece line;

    for (size_t at = 0; next_line(text, d->len, &at, &line);) {
        struct vmdk_piece rest = line, name = line;
        const char *equals = memchr(text + line.at, '=', line.len), *quote;

        if (!equals || text[line.at] == '#')
            continue;
        name.len = (size_t)(equals - text) - line.at;
        while (name.len > 0 && is_blank(text[name.at + name.len - 1]))
            name.len--;
        if (!word_is(text, name, key))
            continue;
        rest.at = (size_t)(equals - text) + 1;
        rest.len = line.at + line.len - rest.at;
        while (rest.len > 0 && is_blank(text[rest.at])) {
            rest.at++;
            rest.len--;
        }
        if (rest.len > 0 && text[rest.at] == '"') {
            rest.at++;
            rest.len--;
            quote = memchr(text + rest.at, '"', rest.len);
            if (quote)
                rest.len = (size_t)(quote - text) - rest.at;
        }
        *out = rest;
        return true;
    }
    return false;
}

char *vmdk_descriptor_value(const struct vmdk_descriptor *d, const char *key)
{
    struct vmdk_piece piece;

    if (!d->text || !vmdk_descriptor_find(d, key, &piece) || piece.len == 0)
        return NULL;
    return strndup(d->text + piece.at, piece.len);
}

/* A number of 1 to 8 hexadecimal digits at the start of the value of `key`. */
static bool find_cid(const struct vmdk_descriptor *d, const char *key, uint32_t *cid,
                     struct vmdk_piece *digits)
{
    if (!vmdk_descriptor_find(d, key, digits))
        return false;
    *cid = 0;
    for (size_t i = 0; i < digits->len; i++) {
        const int digit = hex_value(d->text[digits->at + i]);

        if (digit < 0 || i == 8)
            return false;
        *cid = *cid << 4 | (uint32_t)digit;
    }
    return digits->len > 0;
}

/* ---- extent lines ---- */

/* The rest of an extent line behind its type: ["name" [offset [...]]].  What stands behind the
 * offset (partition and device of a raw disk) is of no use here. */
static int read_place(const char *text, struct vmdk_piece rest, struct vmdk_line *line,
                      struct pl_err *e)
{
    const char *open = memchr(text + rest.at, '"', rest.len), *close;
    const char *end = text + rest.at + rest.len;
    struct vmdk_piece word;

    if (line->type == VMDK_ZERO && !open)
        return 0;
    close = open ? memchr(open + 1, '"', (size_t)(end - open) - 1) : NULL;
    if (!close || close == open + 1)
        return pl_fail(e, PL_E_CORRUPT, "no file name in quotes behind %s",
                       vmdk_type_name(line->type));
    line->name = strndup(open + 1, (size_t)(close - open) - 1);
    if (!line->name)
        return pl_fail(e, PL_E_NOMEM, "no memory for a file name");
    rest.at = (size_t)(close - text) + 1;
    rest.len = (size_t)(end - close) - 1;
    word = take_word(text, &rest);
    if (word.len == 0)
        return 0;
    if (!read_number(text, word, &line->offset))
        return pl_fail(e, PL_E_CORRUPT, "offset '%.*s' is not a number of sectors",
                       (int)PL_MIN(word.len, 40u), text + word.at);
    if (line->offset > PL_OFFSET_MAX / VMDK_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "offset of %" PRIu64 " sectors is too big", line->offset);
    line->offset *= VMDK_SECTOR;
    return 0;
}

/* `rest` is what follows the access word. */
static int read_line(const char *text, struct vmdk_piece rest, struct vmdk_line *line,
                     struct pl_err *e)
{
    struct vmdk_piece word;
    int type;

    line->digits = take_word(text, &rest);
    if (!read_number(text, line->digits, &line->sectors))
        return pl_fail(e, PL_E_CORRUPT, "size '%.*s' is not a number of sectors",
                       (int)PL_MIN(line->digits.len, 40u), text + line->digits.at);
    word = take_word(text, &rest);
    type = choose(text, word, type_names, PL_COUNT(type_names));
    if (type < 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "unknown type of extent '%.*s'",
                       (int)PL_MIN(word.len, 40u), text + word.at);
    line->type = (enum vmdk_type)type;
    return read_place(text, rest, line, e);
}

static int add_line(struct vmdk_descriptor *d, const struct vmdk_line *line, struct pl_err *e)
{
    uint64_t sum;

    if (!pl_add(d->sectors, line->sectors, &sum) || sum > PL_OFFSET_MAX / VMDK_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "a disk of more than %" PRIu64 " sectors",
                       (uint64_t)PL_OFFSET_MAX / VMDK_SECTOR);
    if (d->line_count == VMDK_EXTENTS_MAX)
        return pl_fail(e, PL_E_LIMIT, "more than %u extents", VMDK_EXTENTS_MAX);
    if (d->line_count == d->line_room) {
        const size_t room = d->line_room ? 2 * d->line_room : 4;
        struct vmdk_line *more = reallocarray(d->lines, room, sizeof *more);

        if (!more)
            return pl_fail(e, PL_E_NOMEM, "no memory for %zu extents", room);
        d->lines = more;
        d->line_room = room;
    }
    d->lines[d->line_count++] = *line;
    d->sectors = sum;
    return 0;
}

static int read_lines(struct vmdk_descriptor *d, struct pl_err *e)
{
    struct vmdk_piece rest;
    size_t number = 0;

    for (size_t at = 0; next_line(d->text, d->len, &at, &rest);) {
        struct vmdk_line line = { .whole = rest };
        const struct vmdk_piece word = take_word(d->text, &rest);
        const int access = choose(d->text, word, access_names, PL_COUNT(access_names));

        number++;
        if (access < 0)
            continue;
        line.access = (enum vmdk_access)access;
        if (read_line(d->text, rest, &line, e) < 0 || add_line(d, &line, e) < 0) {
            free(line.name);
            return pl_within(e, "descriptor: line %zu", number);
        }
    }
    return 0;
}

/* ---- the whole ---- */

static int check_encoding(const struct vmdk_descriptor *d, struct pl_err *e)
{
    PL_FREE char *encoding = vmdk_descriptor_value(d, "encoding");

    if (encoding &&
        (strncasecmp(encoding, "UTF-16", 6) == 0 || strncasecmp(encoding, "UTF-32", 6) == 0))
        return pl_fail(e, PL_E_UNSUPPORTED, "descriptor: the encoding %s is not supported",
                       encoding);
    return 0;
}

static int check_encryption(const struct vmdk_descriptor *d, struct pl_err *e)
{
    struct vmdk_piece piece;

    if (!vmdk_descriptor_find(d, "encryptionKeys", &piece))
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED, "the disk is encrypted (its descriptor has encryptionKeys)");
    return pl_hint(e, "decrypt the virtual machine with VMware first");
}

int vmdk_descriptor_parse(char *text, size_t len, struct vmdk_descriptor *out, struct pl_err *e)
{
    struct vmdk_piece unused;

    *out = (struct vmdk_descriptor){ .text = text,
                                     .len = strnlen(text, len),
                                     .parent_cid = VMDK_CID_NONE };
    if (out->len > VMDK_DESCRIPTOR_MAX) {
        pl_fail(e, PL_E_LIMIT, "descriptor: %zu bytes are more than the limit of %u", out->len,
                VMDK_DESCRIPTOR_MAX);
        vmdk_descriptor_free(out);
        return -1;
    }
    text[out->len] = '\0';
    out->has_cid = find_cid(out, "CID", &out->cid, &out->cid_digits);
    if (!find_cid(out, "parentCID", &out->parent_cid, &unused))
        out->parent_cid = VMDK_CID_NONE;
    if (check_encryption(out, e) < 0 || check_encoding(out, e) < 0 || read_lines(out, e) < 0) {
        vmdk_descriptor_free(out);
        return -1;
    }
    return 0;
}

void vmdk_descriptor_free(struct vmdk_descriptor *d)
{
    for (size_t i = 0; i < d->line_count; i++)
        free(d->lines[i].name);
    free(d->lines);
    free(d->text);
    *d = (struct vmdk_descriptor){ 0 };
}

/* ---- recognising one ---- */

/* "# Disk DescriptorFile": VMware, QEMU and VirtualBox; some have a blank before "File", or none
 * behind the "#". */
static bool is_title(const char *text, struct vmdk_piece line)
{
    static const char title[] = "#diskdescriptorfile";
    size_t matched = 0;

    for (size_t i = 0; i < line.len && matched < sizeof title - 1; i++) {
        const char c = text[line.at + i];

        if (c != ' ' && (c | 0x20) != (title[matched++] | 0x20))
            return false;
    }
    return matched == sizeof title - 1;
}

/* A text without the title is accepted as QEMU does it, by its version; and because "version=1"
 * could be the first words of many a file, something else of a descriptor must be near. */
static bool is_version(const char *text, struct vmdk_piece line)
{
    return line.len == 9 && strncasecmp(text + line.at, "version=", 8) == 0 &&
           text[line.at + 8] >= '1' && text[line.at + 8] <= '3';
}

static bool mentions_vmdk(const char *text, size_t len)
{
    return memmem(text, len, "createType", 10) || memmem(text, len, "parentCID", 9);
}

bool vmdk_descriptor_probe(const uint8_t *head, size_t len)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    const char *text = (const char *)head;
    struct vmdk_piece line;
    size_t at = 0;

    len = strnlen(text, len);
    if (len >= 3 && memcmp(text, byte_order_mark, 3) == 0)
        at = 3;
    while (next_line(text, len, &at, &line)) {
        if (is_title(text, line))
            return true;
        if (is_version(text, line))
            return mentions_vmdk(text, len);
        if (line.len > 0 && text[line.at] != '#')
            return false;
    }
    return false;
}
