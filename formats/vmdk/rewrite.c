/* rewrite.c - another text for a descriptor.
 *
 * A descriptor file is replaced as a whole.  One that is embedded in a sparse file is overwritten
 * in place where the change fits in a sector.  Else the new text goes to unused room behind the old
 * one; then the header, in one sector, names that place: that is the change.  The text is then
 * copied to where the old one was and the header names that place again, because there are readers
 * (QEMU) that look nowhere else.  There is a sync between any two of these steps.
 *
 * A crash in between leaves a header that names a place behind the usual one.  Readers that follow
 * the header read the new text; the next opening for writing, or a repair, finishes the move. */
#include "formats/vmdk/rewrite.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"

/* Where QEMU looks, and all others put it. */
#define HOME (VMDK_DESCRIPTOR_OFFSET * VMDK_SECTOR)

/* Bytes that a text takes, in whole sectors: a NUL ends it. */
static uint64_t sectors_of(const struct vmdk_descriptor *d)
{
    return pl_round_up(d->len + 1, VMDK_SECTOR);
}

/* Writes the text to byte `at` of the file, with zeros behind it up to `bytes`, and syncs. */
static int put_text(const struct vmdk *v, const struct vmdk_descriptor *d, uint64_t at,
                    uint64_t bytes, struct pl_err *e)
{
    PL_FREE char *padded = calloc(1, bytes);

    if (!padded)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    memcpy(padded, d->text, d->len);
    return pl_storage_write(v->file, at, padded, bytes, e) < 0 ? -1 : pl_storage_flush(v->file, e);
}

/* The header names [at, end) of the file as the descriptor's place. */
static int name_place(struct vmdk *v, uint64_t at, uint64_t end, struct pl_err *e)
{
    const struct vmdk_extent *x = &v->parts->extent;

    if (x->ops->place_descriptor(x->state, at, end - at, e) < 0)
        return -1;
    v->text_off = at;
    v->text_room = end - at;
    return 0;
}

static void take_over(struct vmdk *v, struct vmdk_descriptor *changed, bool *done)
{
    vmdk_descriptor_free(&v->descriptor);
    v->descriptor = *changed;
    *changed = (struct vmdk_descriptor){ 0 };
    *done = true;
}

/* ---- back to the usual place ---- */

static bool is_behind_home(const struct vmdk *v)
{
    return v->count == 1 && v->text_room && v->text_off > HOME &&
           v->parts->extent.file == v->file && v->parts->extent.ops &&
           v->parts->extent.ops->place_descriptor;
}

/* There is another text where the descriptor usually is, and room for this one. */
int vmdk_is_away(const struct vmdk *v, bool *away, struct pl_err *e)
{
    uint8_t head[VMDK_SECTOR];

    *away = is_behind_home(v) && sectors_of(&v->descriptor) <= v->text_off - HOME;
    if (!*away)
        return 0;
    if (pl_storage_read(v->file, HOME, head, sizeof head, e) < 0)
        return -1;
    *away = vmdk_descriptor_probe(head, sizeof head);
    return 0;
}

/* What the text leaves behind is no descriptor any more: that is for tidiness alone. */
static int go_home(struct vmdk *v, struct pl_err *e)
{
    const uint64_t away = v->text_off, end = away + v->text_room;

    if (put_text(v, &v->descriptor, HOME, away - HOME, e) < 0 || name_place(v, HOME, end, e) < 0)
        return pl_within(e, "the new descriptor is in force; moving it to its usual place");
    return pl_storage_zero(v->file, away, PL_MIN(sectors_of(&v->descriptor), end - away), e);
}

int vmdk_bring_home(struct vmdk *v, struct pl_err *e)
{
    bool away;

    if (vmdk_is_away(v, &away, e) < 0)
        return -1;
    return away ? go_home(v, e) : 0;
}

/* ---- the change ---- */

/* The sectors of the room that differ, as bytes from its start; *to 0: none do. */
static void find_difference(const struct vmdk *v, const struct vmdk_descriptor *changed,
                            uint64_t *from, uint64_t *to)
{
    const struct vmdk_descriptor *old = &v->descriptor;
    const uint64_t all = PL_MAX(old->len, changed->len);

    *from = *to = 0;
    for (uint64_t i = 0; i < all; i++) {
        const char a = i < old->len ? old->text[i] : '\0';
        const char b = i < changed->len ? changed->text[i] : '\0';

        if (a == b)
            continue;
        if (!*to)
            *from = pl_round_down(i, VMDK_SECTOR);
        *to = pl_round_down(i, VMDK_SECTOR) + VMDK_SECTOR;
    }
}

/* Overwrites one sector of the text. */
static int put_sector(const struct vmdk *v, const struct vmdk_descriptor *d, uint64_t at,
                      struct pl_err *e)
{
    const uint64_t left = d->len > at ? d->len - at : 0;
    char sector[VMDK_SECTOR] = "";

    memcpy(sector, d->text + PL_MIN(at, d->len), PL_MIN(left, sizeof sector));
    return pl_storage_write(v->file, v->text_off + at, sector, sizeof sector, e) < 0
               ? -1
               : pl_storage_flush(v->file, e);
}

static int no_room(const struct vmdk *v, const struct vmdk_descriptor *changed, struct pl_err *e)
{
    pl_fail(e, PL_E_UNSUPPORTED,
            "descriptor: the file keeps %" PRIu64 " bytes for it, which do not hold the old text "
            "of %zu bytes and beside it the new one of %zu, so that a crash could destroy it",
            v->text_room, v->descriptor.len, changed->len);
    return pl_hint(e, "convert the image to a new one instead");
}

/* The text goes behind both, then home. */
static int move_text(struct vmdk *v, struct vmdk_descriptor *changed, bool *done, struct pl_err *e)
{
    const uint64_t both = PL_MAX(sectors_of(&v->descriptor), sectors_of(changed));
    const uint64_t end = v->text_off + v->text_room, away = v->text_off + both;

    if (!v->parts->extent.ops->place_descriptor || v->text_off != HOME ||
        !pl_inside(both, sectors_of(changed), v->text_room))
        return no_room(v, changed, e);
    if (put_text(v, changed, away, sectors_of(changed), e) < 0 || name_place(v, away, end, e) < 0)
        return -1;
    take_over(v, changed, done);
    return go_home(v, e);
}

static int rewrite_embedded(struct vmdk *v, struct vmdk_descriptor *changed, bool *done,
                            struct pl_err *e)
{
    uint64_t from, to;

    if (vmdk_bring_home(v, e) < 0)
        return -1;
    find_difference(v, changed, &from, &to);
    if (to - from > VMDK_SECTOR || to > v->text_room)
        return move_text(v, changed, done, e);
    if (to && put_sector(v, changed, from, e) < 0)
        return -1;
    take_over(v, changed, done);
    return 0;
}

int vmdk_rewrite(struct vmdk *v, struct vmdk_descriptor *changed, bool *done, struct pl_err *e)
{
    int result;

    *done = false;
    if (v->text_room)
        return rewrite_embedded(v, changed, done, e) < 0 ? pl_within(e, "descriptor") : 0;
    result = pl_storage_replace(v->file, changed->text, changed->len, done, e);
    if (*done)
        take_over(v, changed, done);
    return result;
}
