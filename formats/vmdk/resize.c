/* resize.c - makes a disk larger: its last extent grows, then the descriptor says so.
 *
 * A crash in between leaves an extent with room behind its end, and a new CID.  What a split disk
 * needs beyond its last file is split.c's. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/edit.h"
#include "formats/vmdk/split.h"

static int check_request(const struct vmdk *v, uint64_t size, struct pl_err *e)
{
    const struct vmdk_part *last = &v->parts[v->count - 1];

    if (size < v->size) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "a vmdk disk cannot shrink: %" PRIu64 " bytes are less than "
                "the %" PRIu64 " it has",
                size, v->size);
        return pl_hint(e, "convert it to a new one of that size");
    }
    if (size % VMDK_SECTOR || size > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_INVALID, "%" PRIu64 " is no size of whole sectors of %u bytes", size,
                       VMDK_SECTOR);
    if (last->line == VMDK_NO_LINE)
        return pl_fail(e, PL_E_UNSUPPORTED, "an extent without its descriptor cannot grow");
    if (!vmdk_may_write(v, last) || !last->extent.ops->resize || last->repeated)
        return pl_fail(e, PL_E_UNSUPPORTED, "its last extent cannot grow");
    return 0;
}

static bool find_number(const struct vmdk *v, const char *key, struct vmdk_piece *piece,
                        uint64_t *n)
{
    PL_FREE char *text = vmdk_descriptor_value(&v->descriptor, key);

    return text && vmdk_descriptor_find(&v->descriptor, key, piece) &&
           pl_parse_number(text, 1, UINT32_MAX, n, NULL) == 0;
}

/* The geometry is a hint: where it cannot be changed safely it stays. */
static void update_geometry(struct vmdk *v)
{
    struct vmdk_piece cylinders_piece, unused;
    uint64_t cylinders, heads, sectors, wanted;
    struct vmdk_edit edit;
    struct pl_err e;
    char text[24];

    if (!find_number(v, "ddb.geometry.cylinders", &cylinders_piece, &cylinders) ||
        !find_number(v, "ddb.geometry.heads", &unused, &heads) ||
        !find_number(v, "ddb.geometry.sectors", &unused, &sectors) || heads > 255 || sectors > 63)
        return;
    wanted = v->size / VMDK_SECTOR / (heads * sectors);
    if (heads == 16)
        wanted = PL_MIN(wanted, VMDK_IDE_CYLINDERS_MAX);
    snprintf(text, sizeof text, "%" PRIu64, wanted);
    if (wanted <= cylinders || vmdk_edit_plan(v, cylinders_piece, text, &edit, &e) < 0)
        return;
    if (vmdk_edit_apply(v, &edit, &e) < 0)
        pl_warn(v->report, "the geometry still is that of the smaller disk: %s", e.msg);
}

static int grow_last(struct vmdk *v, uint64_t size, enum pl_prealloc prealloc,
                     struct vmdk_edit *edit, struct pl_err *e)
{
    struct vmdk_extent *x = &v->parts[v->count - 1].extent;
    const struct vmdk_part *part = &v->parts[v->count - 1];

    if (x->ops->resize(x->state, size - x->start, prealloc, e) < 0 ||
        (x->ops->flush && x->ops->flush(x->state, e) < 0))
        return vmdk_within(v, part, e);
    if (vmdk_edit_apply(v, edit, e) < 0)
        return -1;
    x->size = size - x->start;
    v->size = size;
    return 0;
}

/* The CID comes first: it is overwritten in place, so that the plan made after it has it. */
static int grow(struct vmdk *v, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e)
{
    const struct vmdk_part *last = &v->parts[v->count - 1];
    struct vmdk_edit edit;
    char digits[24];
    int result;

    snprintf(digits, sizeof digits, "%" PRIu64, (size - last->extent.start) / VMDK_SECTOR);
    if (vmdk_edit_plan(v, v->descriptor.lines[last->line].digits, digits, &edit, e) < 0)
        return -1;
    vmdk_edit_free(&edit); /* it can be done */
    if (vmdk_before_change(v, e) < 0 ||
        vmdk_edit_plan(v, v->descriptor.lines[last->line].digits, digits, &edit, e) < 0)
        return -1;
    result = grow_last(v, size, prealloc, &edit, e);
    vmdk_edit_free(&edit);
    return result;
}

int vmdk_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                struct pl_err *e)
{
    struct vmdk *v = state;

    (void)shrink;
    if (size == v->size)
        return 0;
    if (check_request(v, size, e) < 0)
        return -1;
    if ((vmdk_split_needed(v, size) ? vmdk_split_grow(v, size, prealloc, e)
                                    : grow(v, size, prealloc, e)) < 0)
        return -1;
    update_geometry(v);
    return 0;
}
