/* content_id.c - the content identifier (CID) changes before the content does.
 *
 * Its digits are overwritten where they are, as many as there were, and nothing else of the text
 * moves: QEMU writes fewer than eight where the number is small.  A descriptor without a CID has no
 * children and needs none.  A torn write leaves a mixture of two CIDs, which is a new one too. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "core/base/checked.h"
#include "formats/vmdk/vmdk.h"

/* Hexadecimal digits of ddb.longContentID, whose last eight are the CID. */
#define LONG_ID_DIGITS 32u
#define CID_DIGITS 8u

int vmdk_new_cid(uint32_t old, size_t digits, uint32_t *cid, struct pl_err *e)
{
    const uint32_t mask = digits < CID_DIGITS ? (UINT32_C(1) << 4 * digits) - 1 : UINT32_MAX;

    do {
        if (getrandom(cid, sizeof *cid, 0) != sizeof *cid)
            return pl_fail(e, PL_E_SYS, "no random number for a new CID");
        *cid &= mask;
    } while (*cid == old || *cid >= VMDK_CID_NONE - 1); /* fffffffe: VMware's "not set" */
    return 0;
}

/* Overwrites the last `count` bytes of a piece of the text with the last digits of `cid`. */
static int put_digits(struct vmdk *v, struct vmdk_piece piece, size_t count, uint32_t cid,
                      struct pl_err *e)
{
    const size_t at = piece.at + piece.len - count;
    char digits[CID_DIGITS + 1];
    const char *last = digits + CID_DIGITS - count;

    snprintf(digits, sizeof digits, "%08" PRIx32, cid);
    if (v->text_room && !pl_inside(at, count, v->text_room))
        return pl_fail(e, PL_E_CORRUPT, "the CID is outside the descriptor's room");
    if (pl_storage_write(v->file, v->text_off + at, last, count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        v->descriptor.text[at + i] = last[i];
    return 0;
}

static int change_cid(struct vmdk *v, struct pl_err *e) PL_NEEDS(&v->cid_lock);
static int change_cid(struct vmdk *v, struct pl_err *e)
{
    struct vmdk_descriptor *d = &v->descriptor;
    struct vmdk_piece long_id;
    uint32_t cid;

    if (vmdk_new_cid(d->cid, d->cid_digits.len, &cid, e) < 0 ||
        put_digits(v, d->cid_digits, d->cid_digits.len, cid, e) < 0)
        return -1;
    d->cid = cid;
    if (vmdk_descriptor_find(d, "ddb.longContentID", &long_id) && long_id.len == LONG_ID_DIGITS &&
        put_digits(v, long_id, CID_DIGITS, cid, e) < 0)
        return -1;
    return pl_storage_flush(v->file, e);
}

int vmdk_before_change(struct vmdk *v, struct pl_err *e)
{
    if (v->fresh || v->keeps_content || !v->descriptor.has_cid ||
        atomic_load_explicit(&v->cid_changed, memory_order_acquire))
        return 0;
    PL_LOCKED(&v->cid_lock);
    if (atomic_load_explicit(&v->cid_changed, memory_order_relaxed))
        return 0;
    if (change_cid(v, e) < 0)
        return pl_within(e, "giving the changed disk a new CID");
    atomic_store_explicit(&v->cid_changed, true, memory_order_release);
    return 0;
}
