#include "formats/vmdk/edit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"

/* The most bytes by which a value grows: a number of 64 bits. */
#define WANT_MAX 20u

/* Bytes that a reader does without, or the end of the text. */
struct slack {
    size_t at, len;
};

/* Whether the changed bytes of the edit are in one sector of the file. */
static bool is_atomic(const struct vmdk *v, const struct vmdk_edit *edit)
{
    return edit->from == edit->to ||
           (v->text_off + edit->from) / VMDK_SECTOR == (v->text_off + edit->to - 1) / VMDK_SECTOR;
}

static void find_difference(const struct vmdk_descriptor *d, struct vmdk_edit *edit)
{
    const char *old = d->text;
    const size_t shorter = PL_MIN(d->len, edit->len);

    edit->from = 0;
    while (edit->from < shorter && old[edit->from] == edit->text[edit->from])
        edit->from++;
    edit->to = PL_MAX(d->len, edit->len);
    if (d->len != edit->len)
        return;
    while (edit->to > edit->from && old[edit->to - 1] == edit->text[edit->to - 1])
        edit->to--;
}

/* The text with `value` in the place of the piece and without `cut`, both in their order. */
static int splice(const struct vmdk_descriptor *d, struct vmdk_piece piece, const char *value,
                  struct slack cut, struct vmdk_edit *edit, struct pl_err *e)
{
    const size_t value_len = strlen(value);
    const size_t piece_end = piece.at + piece.len, cut_end = cut.at + cut.len;
    char *to;

    edit->len = d->len - piece.len + value_len - cut.len;
    edit->text = calloc(1, edit->len + 1);
    if (!edit->text)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    to = edit->text;
    if (cut.at < piece.at) {
        to = mempcpy(to, d->text, cut.at);
        to = mempcpy(to, d->text + cut_end, piece.at - cut_end);
        to = mempcpy(to, value, value_len);
        memcpy(to, d->text + piece_end, d->len - piece_end);
    } else {
        to = mempcpy(to, d->text, piece.at);
        to = mempcpy(to, value, value_len);
        to = mempcpy(to, d->text + piece_end, cut.at - piece_end);
        memcpy(to, d->text + cut_end, d->len - cut_end);
    }
    find_difference(d, edit);
    return 0;
}

/* What the line from `at` to its LF at `end` can do without: all but the "#" of a comment, or an
 * empty line's end.  The first line is what the file is recognised by. */
static struct slack slack_of(const char *text, size_t at, size_t end)
{
    if (at == 0)
        return (struct slack){ 0 };
    if (end == at)
        return (struct slack){ .at = at, .len = 1 };
    if (text[at] == '#' && text[end - 1] != '\r')
        return (struct slack){ .at = at + 1, .len = end - at - 1 };
    return (struct slack){ 0 };
}

/* Whether a text that was known by its title still is: any of its first comments could be that. */
static bool is_recognised(const struct vmdk *v, const struct vmdk_edit *edit)
{
    return !vmdk_descriptor_probe((const uint8_t *)v->descriptor.text, v->descriptor.len) ||
           vmdk_descriptor_probe((const uint8_t *)edit->text, edit->len);
}

/* Tries one place that could give `want` bytes; keeps the edit that changes the fewest. */
static int try_slack(const struct vmdk *v, struct vmdk_piece piece, const char *value,
                     struct slack cut, struct vmdk_edit *best, struct pl_err *e)
{
    struct vmdk_edit edit = { 0 };

    if (splice(&v->descriptor, piece, value, cut, &edit, e) < 0)
        return -1;
    if (!is_atomic(v, &edit) || !is_recognised(v, &edit) ||
        (best->text && best->to - best->from <= edit.to - edit.from)) {
        free(edit.text);
        return 0;
    }
    free(best->text);
    *best = edit;
    return 0;
}

/* Whether a comment that ends or begins there could be in the sector of the piece at all. */
static bool is_near(const struct vmdk *v, size_t at, struct vmdk_piece piece)
{
    return (v->text_off + at) / VMDK_SECTOR == (v->text_off + piece.at) / VMDK_SECTOR;
}

static int try_all(const struct vmdk *v, struct vmdk_piece piece, const char *value, size_t want,
                   struct vmdk_edit *best, struct pl_err *e)
{
    const struct vmdk_descriptor *d = &v->descriptor;
    const char *lf;

    for (size_t at = 0; at < d->len; at = (size_t)(lf - d->text) + 1) {
        struct slack cut;

        lf = memchr(d->text + at, '\n', d->len - at);
        if (!lf)
            break;
        cut = slack_of(d->text, at, (size_t)(lf - d->text));
        if (cut.len < want || !is_near(v, cut.at, piece))
            continue;
        cut.at += cut.len - want;
        cut.len = want;
        if (try_slack(v, piece, value, cut, best, e) < 0)
            return -1;
    }
    return 0;
}

/* Whether the text can become `want` bytes longer: only padding is behind it, and then its end. */
static int may_grow(const struct vmdk *v, size_t want, bool *may, struct pl_err *e)
{
    const uint64_t len = v->descriptor.len;
    uint8_t behind[WANT_MAX + 1];
    size_t seen = want + 1;

    *may = want <= WANT_MAX && (!v->text_room || pl_inside(len, want, v->text_room));
    if (!*may)
        return 0;
    if (v->text_room)
        seen = (size_t)PL_MIN(seen, v->text_room - len);
    if (pl_storage_read_padded(v->file, v->text_off + len, behind, seen, e) < 0)
        return -1;
    *may = pl_is_zero(behind, seen);
    return 0;
}

int vmdk_edit_plan(const struct vmdk *v, struct vmdk_piece piece, const char *value,
                   struct vmdk_edit *out, struct pl_err *e)
{
    const struct vmdk_descriptor *d = &v->descriptor;
    const size_t want = strlen(value) - piece.len;
    const struct slack end = { .at = d->len };
    bool at_end = true;

    *out = (struct vmdk_edit){ 0 };
    if ((want > 0 && try_all(v, piece, value, want, out, e) < 0) ||
        (want > 0 && may_grow(v, want, &at_end, e) < 0) ||
        (at_end && !out->text && try_slack(v, piece, value, end, out, e) < 0)) {
        vmdk_edit_free(out);
        return -1;
    }
    if (out->text)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED,
            "descriptor: '%s' at byte %zu cannot be changed in one sector, which would not survive "
            "a crash",
            value, piece.at);
    return pl_hint(e, "convert the image to a new one instead");
}

int vmdk_edit_apply(struct vmdk *v, struct vmdk_edit *edit, struct pl_err *e)
{
    struct vmdk_descriptor fresh;
    int result;

    result = pl_storage_write(v->file, v->text_off + edit->from, edit->text + edit->from,
                              edit->to - edit->from, e);
    if (result == 0)
        result = pl_storage_flush(v->file, e);
    if (result == 0)
        result = vmdk_descriptor_parse(pl_take(edit->text), edit->len, &fresh, e);
    vmdk_edit_free(edit);
    if (result < 0)
        return pl_within(e, "descriptor");
    vmdk_descriptor_free(&v->descriptor);
    v->descriptor = fresh;
    return 0;
}

void vmdk_edit_free(struct vmdk_edit *edit)
{
    free(edit->text);
    *edit = (struct vmdk_edit){ 0 };
}
