/* write.c - room for guest clusters, and the L2 entries that show it.
 *
 * Three kinds of room (enum qcow2_token): the cluster that the guest cluster has, when nobody
 * shares it; the cluster that a zeroed guest cluster kept; a new one.  A new one is referenced by
 * allocate and shown by link, which then puts what the entry showed before on the pending list.
 *
 * With an external data file every guest cluster has its place from the start: its own offset. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"

int qcow2_whole_granules(const struct qcow2 *q, uint64_t at, uint64_t *len, uint32_t granule,
                         struct pl_err *e)
{
    uint64_t whole = at + *len == q->header.size ? *len : pl_round_down(*len, granule);

    if (at % granule || !whole)
        return pl_fail(e, PL_E_INVALID,
                       "new room for [0x%" PRIx64 ", +0x%" PRIx64 ") was asked for, "
                       "which is no whole number of %" PRIu32 " bytes",
                       at, *len, granule);
    *len = whole;
    return 0;
}

/* Which kind of room a guest cluster gives, and where. */
struct spot {
    enum qcow2_token token;
    uint64_t off;
};

static int look_at(const struct qcow2 *q, const struct qcow2_l2_view *view, uint32_t i,
                   uint64_t index, struct spot *out, struct pl_err *e)
{
    struct qcow2_entry entry;
    enum qcow2_kind kind;
    bool own;

    *out = (struct spot){ .token = QCOW2_NEW_ROOM };
    if (!view->entries)
        return 0;
    entry = qcow2_load_entry(q, view->entries + (size_t)i * q->l2_entry_size);
    if (qcow2_classify(q, entry, 0, index, &kind, e) < 0)
        return -1;
    own = entry.word & QCOW2_COPIED || qcow2_has_data_file(q);
    if (own && (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC))
        *out = (struct spot){ .token = kind == QCOW2_NORMAL ? QCOW2_IN_PLACE : QCOW2_OLD_ROOM,
                              .off = entry.word & QCOW2_OFFSET_MASK };
    return 0;
}

/* How many guest clusters from `index` on, at most `want`, are like the first, one after the other.
 * Those that need new room are counted up to QCOW2_NEW_ROOM_MAX: free clusters may be few in a row,
 * and what is looked at here must not be looked at again for each of them. */
static int like_run(struct qcow2 *q, uint64_t index, uint64_t want, struct spot *first,
                    uint64_t *count, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_l2_view view = { 0 };
    uint32_t i = 0;

    for (*count = 0; *count < want; ++*count, i++) {
        struct spot here;

        if (i == view.count) {
            if (qcow2_l2_look(q, index + *count, &view, e) < 0)
                return -1;
            i = 0;
        }
        if (look_at(q, &view, i, index + *count, &here, e) < 0)
            return *count ? 0 : -1;
        if (!*count)
            *first = here;
        else if (here.token != first->token ||
                 (here.token == QCOW2_NEW_ROOM && *count == QCOW2_NEW_ROOM_MAX) ||
                 (here.token != QCOW2_NEW_ROOM &&
                  here.off != first->off + (*count << q->cluster_bits)))
            return 0;
    }
    return 0;
}

/* Room for `count` guest clusters from `index` on, or fewer. */
static int new_room(struct qcow2 *q, uint64_t index, uint64_t *count, struct pl_place *out,
                    struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t unused = q->file_end;

    if (qcow2_has_data_file(q)) {
        out->off = index << q->cluster_bits;
        return 0;
    }
    if (qcow2_allocate_clusters(q, *count, false, &out->off, count, e) < 0)
        return -1;
    out->zeroed = out->off >= unused && !q->file->device;
    return 0;
}

static int allocate_clusters(struct qcow2 *q, uint64_t at, uint64_t len, struct pl_place *out,
                             struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t index = at >> q->cluster_bits, in = at & (q->cluster_size - 1);
    uint64_t count = pl_div_up(in + len, q->cluster_size);
    struct spot first = { 0 };

    if (like_run(q, index, count, &first, &count, e) < 0)
        return -1;
    len = PL_MIN(len, (count << q->cluster_bits) - in);
    *out =
        (struct pl_place){ .at = at, .st = q->data, .off = first.off + in, .token = first.token };
    out->fresh = first.token != QCOW2_IN_PLACE;
    if (out->fresh) {
        if (qcow2_whole_granules(q, at, &len, q->cluster_size, e) < 0)
            return -1;
        count = pl_div_up(len, q->cluster_size);
    }
    if (first.token == QCOW2_NEW_ROOM && new_room(q, index, &count, out, e) < 0)
        return -1;
    out->len = PL_MIN(len, (count << q->cluster_bits) - in);
    if (first.token == QCOW2_NEW_ROOM || qcow2_has_data_file(q))
        return 0;
    return qcow2_guard_metadata(q, out->off, out->len, e);
}

int qcow2_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e)
{
    struct qcow2 *q = state;

    PL_LOCKED(&q->lock);
    if (qcow2_begin_change(q, e) < 0)
        return -1;
    if (!len || !pl_inside(at, len, q->header.size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at,
                       len);
    if (qcow2_extended(q))
        return qcow2_allocate_subclusters(q, at, len, out, e);
    return allocate_clusters(q, at, len, out, e);
}

/* The entry that shows a linked place for the part of it inside one guest cluster. */
static struct qcow2_entry new_entry(const struct qcow2 *q, const struct pl_place *place,
                                    struct qcow2_entry old, uint64_t at)
{
    uint64_t in = at & (q->cluster_size - 1);
    uint64_t len = PL_MIN(place->at + place->len - at, q->cluster_size - in);

    if (place->packed_len)
        return (struct qcow2_entry){ .word = place->token };
    return qcow2_linked_entry(q, old, at, len, place->off + (at - place->at) - in);
}

/* Links the guest clusters from *at on that one slice describes. */
static int link_slice(struct qcow2 *q, const struct pl_place *place, uint64_t *at, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    struct qcow2_l2_view view;
    uint8_t *p;

    if (qcow2_l2_open(q, *at >> q->cluster_bits, &view, e) < 0)
        return -1;
    qcow2_l2_changed(q, &view);
    p = view.entries;
    for (uint32_t i = 0; i < view.count && *at < place->at + place->len; i++) {
        struct qcow2_entry old = qcow2_load_entry(q, p), new = new_entry(q, place, old, *at);

        qcow2_store_entry(q, p, new);
        /* Room for each run on the pending list was made by qcow2_l2_open. */
        if ((old.word ^ new.word) & ~(QCOW2_COPIED | QCOW2_ALL_ZERO) &&
            qcow2_release(q, old, false, e) < 0)
            return -1;
        *at = pl_round_down(*at, q->cluster_size) + q->cluster_size;
        p += q->l2_entry_size;
    }
    return 0;
}

int qcow2_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    struct qcow2 *q = state;

    PL_LOCKED(&q->lock);
    if (qcow2_begin_change(q, e) < 0)
        return -1;
    for (uint64_t at = place->at; at < place->at + place->len;)
        if (link_slice(q, place, &at, e) < 0) {
            /* What was linked already must not be given back by cancel. */
            q->broken = q->broken || at != place->at;
            return -1;
        }
    return 0;
}

void qcow2_cancel(void *state, const struct pl_place *place)
{
    struct qcow2 *q = state;
    uint64_t off = place->off, count = pl_div_up(place->len, q->cluster_size);

    PL_LOCKED(&q->lock);
    if (!place->fresh || q->broken || qcow2_has_data_file(q))
        return;
    if (place->packed_len)
        qcow2_packed_clusters(q, place->token, &off, &count);
    else if (place->token != QCOW2_NEW_ROOM)
        return;
    if (qcow2_reference(q, off, count, -1, NULL) < 0)
        return; /* leaked: nothing points there */
}
