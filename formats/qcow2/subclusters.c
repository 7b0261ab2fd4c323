/* subclusters.c - room for subclusters: images with extended L2 entries.
 *
 * The unit of writing is the subcluster, that of room the cluster.  A guest cluster that is written
 * whole gets its cluster as any other does.  One that is written in part is given room first: its
 * entry shows the new cluster at once, with no subcluster allocated that was not before, so that
 * threads that write other subclusters of it find the same room.  What must move along (shared or
 * compressed content) is copied here, which is the one place where this driver moves guest bytes.
 *
 * Specification: docs/interop/qcow2, "Extended L2 Entries". */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"

#define ALL_ALLOCATED UINT32_C(0xffffffff)

uint32_t qcow2_subcluster_mask(const struct qcow2 *q, uint64_t at, uint64_t len)
{
    uint64_t in = at & (q->cluster_size - 1), first = pl_div_up(in, q->subcluster_size);
    uint64_t end = PL_MIN(in + len, q->cluster_size) / q->subcluster_size;

    if (at + len == q->header.size && in + len <= q->cluster_size)
        end = QCOW2_SUBCLUSTERS;
    if (first >= end)
        return 0;
    return (uint32_t)(((UINT64_C(1) << end) - 1) & ~((UINT64_C(1) << first) - 1));
}

struct qcow2_entry qcow2_linked_entry(const struct qcow2 *q, struct qcow2_entry old, uint64_t at,
                                      uint64_t len, uint64_t off)
{
    uint64_t in = at & (q->cluster_size - 1), room = old.word & QCOW2_OFFSET_MASK;
    struct qcow2_entry new = { .word = off | QCOW2_COPIED };
    uint64_t first, end, mask;

    if (!qcow2_extended(q))
        return new;
    first = in / q->subcluster_size;
    end = pl_div_up(in + len, q->subcluster_size);
    mask = ((UINT64_C(1) << end) - 1) & ~((UINT64_C(1) << first) - 1);
    if (old.word & QCOW2_PACKED || (room && room != off))
        old.bitmap = 0;
    new.bitmap = (old.bitmap | mask) & ~(mask << 32);
    return new;
}

/* One guest cluster as the L2 table shows it. */
struct guest_cluster {
    struct qcow2_entry entry;
    bool own;      /* it has room that nobody shares ... */
    uint64_t room; /* ... at this offset */
};

static int look_at(struct qcow2 *q, uint64_t index, struct guest_cluster *out, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    struct qcow2_l2_view view;
    enum qcow2_kind kind;

    *out = (struct guest_cluster){ 0 };
    if (qcow2_l2_look(q, index, &view, e) < 0)
        return -1;
    if (view.entries) {
        out->entry = qcow2_load_entry(q, view.entries);
        if (qcow2_classify(q, out->entry, 0, index, &kind, e) < 0)
            return -1;
    }
    out->room = out->entry.word & QCOW2_OFFSET_MASK;
    if (qcow2_has_data_file(q)) {
        out->own = true;
        if (!(out->entry.word & QCOW2_COPIED) && !out->room)
            out->room = index << q->cluster_bits;
        return 0;
    }
    out->own = out->room && out->entry.word & QCOW2_COPIED && !(out->entry.word & QCOW2_PACKED);
    return 0;
}

/* Unpacks a compressed cluster to `to`. */
static int unpack_to(struct qcow2 *q, uint64_t word, uint64_t to, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    struct pl_codec_state *codec;
    uint64_t off;
    uint32_t len;
    PL_FREE uint8_t *plain = pl_buffer(q->cluster_size);
    int r;

    qcow2_packed_place(q, word, &off, &len);
    PL_FREE uint8_t *packed = malloc(len);
    if (!plain || !packed)
        return pl_fail(e, PL_E_NOMEM, "no memory to unpack a cluster");
    if (pl_storage_read_padded(q->file, off, packed, len, e) < 0 ||
        pl_codec_open(q->codec, 0, &codec, e) < 0)
        return -1;
    r = pl_unpack(codec, packed, len, plain, q->cluster_size, e);
    pl_codec_close(codec);
    return r < 0 ? -1 : pl_storage_write(q->file, to, plain, q->cluster_size, e);
}

/* Copies what the entry shows to a new cluster; *new is the entry that shows that. */
static int copy_content(struct qcow2 *q, struct qcow2_entry old, uint64_t to,
                        struct qcow2_entry *new, struct pl_err *e) PL_NEEDS(&q->lock)
{
    *new = (struct qcow2_entry){ .word = to | QCOW2_COPIED, .bitmap = old.bitmap };
    if (old.word & QCOW2_PACKED) {
        new->bitmap = qcow2_extended(q) ? ALL_ALLOCATED : 0;
        return unpack_to(q, old.word, to, e);
    }
    if (qcow2_extended(q) && !(old.bitmap & ALL_ALLOCATED))
        return 0;
    return pl_storage_copy(q->file, to, q->file, old.word & QCOW2_OFFSET_MASK, q->cluster_size, e);
}

/* Shows `new` in place of `old`, which is then free. */
static int replace_entry(struct qcow2 *q, uint64_t index, struct qcow2_entry old,
                         struct qcow2_entry new, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_l2_view view;

    if (qcow2_l2_open(q, index, &view, e) < 0)
        return -1;
    qcow2_store_entry(q, view.entries, new);
    qcow2_l2_changed(q, &view);
    return qcow2_release(q, old, false, e);
}

int qcow2_unshare(struct qcow2 *q, uint64_t index, struct pl_err *e)
{
    struct guest_cluster here;
    struct qcow2_entry new;
    uint64_t off;

    if (look_at(q, index, &here, e) < 0)
        return -1;
    if (here.own)
        return 0;
    if (qcow2_allocate_clusters(q, 1, true, &off, NULL, e) < 0)
        return -1;
    if (copy_content(q, here.entry, off, &new, e) < 0 ||
        replace_entry(q, index, here.entry, new, e) < 0) {
        if (qcow2_reference(q, off, 1, -1, NULL) < 0)
            return -1; /* leaked */
        return -1;
    }
    return 0;
}

static bool is_allocated(const struct qcow2 *q, struct qcow2_entry entry, uint64_t at)
{
    return entry.bitmap >> ((at & (q->cluster_size - 1)) / q->subcluster_size) & 1;
}

/* The first guest address from `at` on, at most `end`, where another guest cluster or a subcluster
 * in another state begins. */
static uint64_t state_end(const struct qcow2 *q, struct qcow2_entry entry, uint64_t at,
                          uint64_t end)
{
    uint64_t stop = PL_MIN(end, pl_round_down(at, q->cluster_size) + q->cluster_size);
    bool allocated = is_allocated(q, entry, at);

    while (at < stop && is_allocated(q, entry, at) == allocated)
        at = pl_round_down(at, q->subcluster_size) + q->subcluster_size;
    return PL_MIN(at, stop);
}

/* The run of subclusters from `at` on, at most len bytes, that are all allocated or all not, in
 * room that follows on itself. */
static int own_run(struct qcow2 *q, uint64_t at, uint64_t len, struct pl_place *out,
                   struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t pos = at, end = at + len, in = at & (q->cluster_size - 1);
    struct guest_cluster here;

    if (look_at(q, at >> q->cluster_bits, &here, e) < 0)
        return -1;
    *out = (struct pl_place){ .at = at, .st = q->data, .off = here.room + in };
    out->fresh = !is_allocated(q, here.entry, at);
    out->token = out->fresh ? QCOW2_OLD_ROOM : QCOW2_IN_PLACE;
    while (here.own && here.room + (pos & (q->cluster_size - 1)) == out->off + (pos - at) &&
           is_allocated(q, here.entry, pos) == !out->fresh) {
        pos = state_end(q, here.entry, pos, end);
        if (pos == end || pos & (q->cluster_size - 1))
            break;
        if (look_at(q, pos >> q->cluster_bits, &here, e) < 0)
            return -1;
    }
    out->len = pos - at;
    if (!out->fresh)
        return qcow2_has_data_file(q) ? 0 : qcow2_guard_metadata(q, out->off, out->len, e);
    return qcow2_whole_granules(q, at, &out->len, q->subcluster_size, e);
}

/* How many guest clusters from `at` on are wholly inside [at, at + len) and have no room of their
 * own. */
static int whole_run(struct qcow2 *q, uint64_t at, uint64_t len, uint64_t *count, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t end = at + len;

    for (*count = 0; at < end && *count < QCOW2_NEW_ROOM_MAX; ++*count, at += q->cluster_size) {
        struct guest_cluster here;
        uint64_t rest = PL_MIN(end - at, q->cluster_size);

        if (qcow2_subcluster_mask(q, at, rest) != ALL_ALLOCATED)
            return 0;
        if (look_at(q, at >> q->cluster_bits, &here, e) < 0)
            return *count ? 0 : -1;
        if (here.own)
            return 0;
    }
    return 0;
}

int qcow2_allocate_subclusters(struct qcow2 *q, uint64_t at, uint64_t len, struct pl_place *out,
                               struct pl_err *e)
{
    uint64_t count, unused = q->file_end;

    if (whole_run(q, at, len, &count, e) < 0)
        return -1;
    if (!count) {
        uint64_t whole = len;
        struct guest_cluster here;

        if (look_at(q, at >> q->cluster_bits, &here, e) < 0 ||
            (!here.own && (qcow2_whole_granules(q, at, &whole, q->subcluster_size, e) < 0 ||
                           qcow2_unshare(q, at >> q->cluster_bits, e) < 0)))
            return -1;
        return own_run(q, at, len, out, e);
    }
    *out = (struct pl_place){ .at = at, .st = q->data, .fresh = true, .token = QCOW2_NEW_ROOM };
    if (qcow2_allocate_clusters(q, count, false, &out->off, &count, e) < 0)
        return -1;
    out->zeroed = out->off >= unused && !q->file->device;
    out->len = PL_MIN(len, count << q->cluster_bits);
    return 0;
}
