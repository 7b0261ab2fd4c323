/* zero.c - ranges that read as zeros, and room given back.
 *
 * Version 3 says "zeros" in the L2 entry.  Version 2 cannot: there a cluster without room reads as
 * zeros when there is no parent, and otherwise zeros must be written.  A whole L2 table that does
 * not exist reads as zeros without a parent already: large ranges cost what their tables cost.
 *
 * An external data file is zeroed itself where it must be readable on its own, or where room shall
 * be given back: its bytes then read as zeros before and after the entry changes. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"

#define ALL_SUBCLUSTERS UINT32_C(0xffffffff)

static bool keeps_room(const struct qcow2 *q, enum qcow2_punch how)
{
    return how == QCOW2_PUNCH_KEEP || (qcow2_has_data_file(q) && how != QCOW2_PUNCH_FORGET);
}

/* Whether "unallocated" says what is wanted. */
static bool may_forget(const struct qcow2 *q, enum qcow2_punch how)
{
    return how == QCOW2_PUNCH_FORGET || !q->parent_name;
}

static bool has_place(const struct qcow2 *q, struct qcow2_entry old)
{
    if (old.word & QCOW2_PACKED)
        return false;
    return old.word & QCOW2_OFFSET_MASK || (qcow2_has_data_file(q) && old.word & QCOW2_COPIED);
}

/* The new entry of a standard cluster. */
static struct qcow2_entry punched_standard(const struct qcow2 *q, struct qcow2_entry old,
                                           enum qcow2_punch how)
{
    bool room = has_place(q, old) && keeps_room(q, how);

    if (may_forget(q, how) && !room && (q->header.version < 3 || how >= QCOW2_PUNCH_DISCARD))
        return (struct qcow2_entry){ 0 };
    if (may_forget(q, how) && !old.word)
        return old;
    return (struct qcow2_entry){ .word = QCOW2_ALL_ZERO | (room ? old.word : 0) };
}

/* The same for some subclusters that are the parent's from now on; the last one takes the room
 * along. */
static struct qcow2_entry forgotten(struct qcow2_entry old, uint32_t mask)
{
    struct qcow2_entry new = old;

    if (old.word & QCOW2_PACKED) /* see below */
        return (struct qcow2_entry){ 0 };
    new.bitmap &= ~((uint64_t)mask << 32 | mask);
    if (!new.bitmap)
        new.word = 0;
    return new;
}

/* The new entry of a cluster with subclusters, of which `mask` are punched. */
static struct qcow2_entry punched_extended(const struct qcow2 *q, struct qcow2_entry old,
                                           uint32_t mask, enum qcow2_punch how)
{
    struct qcow2_entry new = old;
    bool whole = mask == ALL_SUBCLUSTERS;

    if (old.word & QCOW2_PACKED) /* the caller made sure that it is punched wholly */
        new = (struct qcow2_entry){ 0 };
    if (may_forget(q, how) && (!old.word || (whole && !keeps_room(q, how))) &&
        (how >= QCOW2_PUNCH_DISCARD || !(old.bitmap | old.word)))
        return (struct qcow2_entry){ .bitmap = whole ? 0 : old.bitmap };
    new.bitmap = (new.bitmap & ~(uint64_t)mask) | (uint64_t)mask << 32;
    if (whole && !keeps_room(q, how))
        new.word = 0;
    return new;
}

/* Version 2 keeps no room for zeros, and no zeros over a parent. */
static enum qcow2_punch possible(const struct qcow2 *q, enum qcow2_punch how)
{
    return how == QCOW2_PUNCH_KEEP && q->header.version < 3 ? QCOW2_PUNCH_UNMAP : how;
}

/* The range of one punch inside one guest cluster. */
struct piece {
    uint64_t at, len;
    uint32_t mask; /* extended entries: the subclusters */
    enum qcow2_punch how;
};

static struct piece piece_at(const struct qcow2 *q, uint64_t at, uint64_t end, enum qcow2_punch how)
{
    uint64_t next = pl_round_down(at, q->cluster_size) + q->cluster_size;
    struct piece p = { .at = at, .len = PL_MIN(end, next) - at, .how = how };

    p.mask = qcow2_extended(q) ? qcow2_subcluster_mask(q, p.at, p.len) : 0;
    return p;
}

static struct qcow2_entry punched(const struct qcow2 *q, struct qcow2_entry old,
                                  const struct piece *p)
{
    if (qcow2_extended(q) && p->how == QCOW2_PUNCH_FORGET)
        return forgotten(old, p->mask);
    if (qcow2_extended(q))
        return punched_extended(q, old, p->mask, p->how);
    return punched_standard(q, old, p->how);
}

static bool same(struct qcow2_entry a, struct qcow2_entry b)
{
    return a.word == b.word && a.bitmap == b.bitmap;
}

/* Whether the entries of guest [at, *stop) need a change; *stop becomes the address up to which
 * that answer holds: a slice at most, or all that a missing table describes.  Checks the entries.
 */
static int look_ahead(struct qcow2 *q, uint64_t at, enum qcow2_punch how, uint64_t *stop,
                      bool *change, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_l2_view view;
    uint64_t pos = at;

    if (qcow2_l2_look(q, at >> q->cluster_bits, &view, e) < 0)
        return -1;
    *stop = PL_MIN(*stop,
                   pl_round_down(at, q->cluster_size) + ((uint64_t)view.count << q->cluster_bits));
    *change = !view.entries && !may_forget(q, how);
    for (uint32_t i = 0; view.entries && pos < *stop; i++) {
        struct piece p = piece_at(q, pos, *stop, how);
        struct qcow2_entry old = qcow2_load_entry(q, view.entries + (size_t)i * q->l2_entry_size);
        enum qcow2_kind kind;

        if (qcow2_classify(q, old, 0, pos >> q->cluster_bits, &kind, e) < 0)
            return -1;
        *change = *change || !same(old, punched(q, old, &p));
        pos += p.len;
    }
    return 0;
}

/* Changes the entries of one slice from *at on, up to `stop`.  A compressed cluster that is punched
 * in part is unpacked first; then the slice is looked up again. */
static int punch_slice(struct qcow2 *q, uint64_t *at, uint64_t stop, enum qcow2_punch how,
                       struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_l2_view view;

    if (qcow2_l2_open(q, *at >> q->cluster_bits, &view, e) < 0)
        return -1;
    qcow2_l2_changed(q, &view);
    for (uint32_t i = 0; i < view.count && *at < stop; i++) {
        struct piece p = piece_at(q, *at, stop, how);
        uint8_t *where = view.entries + (size_t)i * q->l2_entry_size;
        struct qcow2_entry old = qcow2_load_entry(q, where), new = punched(q, old, &p);

        if (qcow2_extended(q) && old.word & QCOW2_PACKED && p.mask != ALL_SUBCLUSTERS)
            return qcow2_unshare(q, *at >> q->cluster_bits, e);
        qcow2_store_entry(q, where, new);
        if ((old.word & ~QCOW2_ALL_ZERO) && !(new.word & ~QCOW2_ALL_ZERO) &&
            qcow2_release(q, old, how != QCOW2_PUNCH_KEEP, e) < 0)
            return -1;
        *at += p.len;
    }
    return 0;
}

/* What is forgotten must not become zeros before the entries on disk say it is the parent's. */
static bool zeroes_data_file(const struct qcow2 *q, enum qcow2_punch how)
{
    if (!qcow2_has_data_file(q))
        return false;
    return qcow2_data_file_raw(q) || how == QCOW2_PUNCH_UNMAP || how == QCOW2_PUNCH_DISCARD;
}

int qcow2_punch(struct qcow2 *q, uint64_t at, uint64_t len, enum qcow2_punch how, struct pl_err *e)
{
    uint64_t end = at + len;

    how = possible(q, how);
    if (q->header.version < 3 && !may_forget(q, how))
        return 1;
    if (zeroes_data_file(q, how) && pl_storage_zero(q->data, at, len, e) < 0)
        return -1;
    while (at < end) {
        uint64_t stop = end;
        bool change;

        if (look_ahead(q, at, how, &stop, &change, e) < 0)
            return -1;
        while (change && at < stop)
            if (punch_slice(q, &at, stop, how, e) < 0)
                return -1;
        at = stop;
    }
    return 0;
}

/* A range that is inside the disk and whole granules. */
static int check_range(const struct qcow2 *q, uint64_t at, uint64_t len, struct pl_err *e)
{
    uint64_t whole = len;

    if (!pl_inside(at, len, q->header.size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at,
                       len);
    if (!len)
        return 0;
    if (qcow2_whole_granules(q, at, &whole, q->subcluster_size, e) < 0)
        return -1;
    if (whole != len)
        return pl_fail(e, PL_E_INVALID, "0x%" PRIx64 " bytes are no whole number of clusters", len);
    return 0;
}

int qcow2_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    struct qcow2 *q = state;

    PL_LOCKED(&q->lock);
    if (qcow2_begin_change(q, e) < 0 || check_range(q, at, len, e) < 0)
        return -1;
    return qcow2_punch(q, at, len, unmap ? QCOW2_PUNCH_UNMAP : QCOW2_PUNCH_KEEP, e);
}

int qcow2_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct qcow2 *q = state;

    PL_LOCKED(&q->lock);
    if (qcow2_begin_change(q, e) < 0 || check_range(q, at, len, e) < 0)
        return -1;
    return qcow2_punch(q, at, len, QCOW2_PUNCH_DISCARD, e) < 0 ? -1 : 0;
}

int qcow2_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct qcow2 *q = state;

    PL_LOCKED(&q->lock);
    if (qcow2_begin_change(q, e) < 0 || check_range(q, at, len, e) < 0)
        return -1;
    if (qcow2_data_file_raw(q))
        return pl_fail(e, PL_E_UNSUPPORTED, "a raw external data file must stay the whole disk");
    return qcow2_punch(q, at, len, QCOW2_PUNCH_FORGET, e) < 0 ? -1 : 0;
}
