/* descriptor_put.c - a descriptor with another value for one key: its line is changed, added or
 * taken out, and all others stay as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/vmdk/descriptor.h"

/* The descriptor becomes one whose text has `value` in the place of the piece. */
static int splice(struct vmdk_descriptor *d, struct vmdk_piece piece, const char *value,
                  struct pl_err *e)
{
    const size_t end = piece.at + piece.len, value_len = strlen(value);
    const size_t len = d->len - piece.len + value_len;
    char *text = calloc(1, len + 1), *to = text;
    struct vmdk_descriptor changed;

    if (!text)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    to = mempcpy(to, d->text, piece.at);
    to = mempcpy(to, value, value_len);
    memcpy(to, d->text + end, d->len - end);
    if (vmdk_descriptor_parse(text, len, &changed, e) < 0)
        return -1;
    vmdk_descriptor_free(d);
    *d = changed;
    return 0;
}

/* The line that has the byte `at`, with its end. */
static struct vmdk_piece line_around(const struct vmdk_descriptor *d, size_t at)
{
    const char *before = memrchr(d->text, '\n', at);
    const char *lf = memchr(d->text + at, '\n', d->len - at);
    const size_t from = before ? (size_t)(before - d->text) + 1 : 0;

    return (struct vmdk_piece){ from, (lf ? (size_t)(lf - d->text) + 1 : d->len) - from };
}

/* The piece and the quotes around it. */
static struct vmdk_piece with_quotes(const struct vmdk_descriptor *d, struct vmdk_piece piece)
{
    if (piece.at > 0 && d->text[piece.at - 1] == '"') {
        piece.at--;
        piece.len++;
        if (d->text[piece.at + piece.len] == '"')
            piece.len++;
    }
    return piece;
}

/* Where a new line goes: behind that of the first of the keys that is there, else to the end. */
static size_t place_for(const struct vmdk_descriptor *d, const char *const *behind)
{
    struct vmdk_piece piece;

    for (; *behind; behind++)
        if (vmdk_descriptor_find(d, *behind, &piece)) {
            piece = line_around(d, piece.at);
            return piece.at + piece.len;
        }
    return d->len;
}

static int add_line(struct vmdk_descriptor *d, const struct vmdk_key *key, const char *value,
                    struct pl_err *e)
{
    const size_t at = place_for(d, key->behind);
    const char *lf = memchr(d->text, '\n', d->len);
    const char *line_end = lf && lf > d->text && lf[-1] == '\r' ? "\r\n" : "\n";
    const bool open = at > 0 && d->text[at - 1] != '\n';
    char *line;
    int result;

    if (asprintf(&line, "%s%s%s%s%s", open ? line_end : "", key->name, key->equals, value,
                 line_end) < 0)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    result = splice(d, (struct vmdk_piece){ .at = at }, line, e);
    free(line);
    return result;
}

int vmdk_descriptor_put(struct vmdk_descriptor *d, const struct vmdk_key *key, const char *value,
                        struct pl_err *e)
{
    struct vmdk_piece piece;

    if (value)
        return vmdk_descriptor_find(d, key->name, &piece)
                   ? splice(d, with_quotes(d, piece), value, e)
                   : add_line(d, key, value, e);
    while (vmdk_descriptor_find(d, key->name, &piece))
        if (splice(d, line_around(d, piece.at), "", e) < 0)
            return -1;
    return 0;
}
