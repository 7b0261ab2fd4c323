/* free_clusters.c - handing out clusters of the file, and taking them back.
 *
 * The lowest free cluster is handed out first, so that the same calls give the same file.  Clusters
 * that lost their last pointer wait on the pending list until nothing on disk shows them any more
 * (qcow2.h). */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a_len && b_len && a < b + b_len && b < a + a_len;
}

int qcow2_guard_metadata(const struct qcow2 *q, uint64_t off, uint64_t len, struct pl_err *e)
{
    const struct qcow2_header *h = &q->header;
    const struct {
        const char *name;
        uint64_t off, len;
    } tables[] = {
        { "the header", 0, q->cluster_size },
        { "the L1 table", h->l1_table_offset, (uint64_t)h->l1_size * 8 },
        { "the refcount table", h->refcount_table_offset,
          (uint64_t)h->refcount_table_clusters << q->cluster_bits },
        { "the snapshot table", h->snapshots_offset, h->nb_snapshots ? q->cluster_size : 0 },
    };

    for (size_t i = 0; i < PL_COUNT(tables); i++)
        if (overlaps(off, len, tables[i].off, tables[i].len)) {
            pl_fail(e, PL_E_CORRUPT,
                    "[0x%" PRIx64 ", +0x%" PRIx64 ") was to be overwritten, but %s "
                    "lies there: the reference counts or L2 tables are wrong",
                    off, len, tables[i].name);
            return pl_hint(e, "check and repair the image first");
        }
    return 0;
}

/* Finds a run and makes sure that its references can be counted. */
static int find_covered(struct qcow2 *q, uint64_t want, bool contiguous, struct qcow2_run *run,
                        struct pl_err *e) PL_NEEDS(&q->lock)
{
    for (;;) {
        int r;

        if (qcow2_find_free(q, q->free_hint, want, contiguous, run, e) < 0)
            return -1;
        if (!run->count)
            r = qcow2_add_own_block(q, run->first, e) < 0 ? -1 : 1;
        else
            r = contiguous ? qcow2_cover(q, run->first, run->count, e) : 0;
        if (r <= 0)
            return r;
    }
}

int qcow2_allocate_clusters(struct qcow2 *q, uint64_t want, bool contiguous, uint64_t *off,
                            uint64_t *got, struct pl_err *e)
{
    struct qcow2_run run;
    uint64_t bytes, end;

    if (find_covered(q, want, contiguous, &run, e) < 0)
        return -1;
    *off = run.first << q->cluster_bits;
    bytes = run.count << q->cluster_bits;
    if (!pl_add(*off, bytes, &end) || end > QCOW2_OFFSET_MASK + QCOW2_SECTOR)
        return pl_fail(e, PL_E_LIMIT,
                       "the file would grow past 64 PiB, the most that L2 entries "
                       "can address");
    if (qcow2_guard_metadata(q, *off, bytes, e) < 0 ||
        qcow2_reference(q, *off, run.count, 1, e) < 0)
        return -1;
    if (!contiguous || run.first == q->free_hint)
        q->free_hint = run.first + run.count;
    q->file_end = PL_MAX(q->file_end, end);
    if (got)
        *got = run.count;
    return 0;
}

int qcow2_pending_room(struct qcow2 *q, size_t n, struct pl_err *e)
{
    size_t room = PL_MAX(q->pending_count + n, 2 * q->pending_room);
    struct qcow2_free *grown;

    if (q->pending_count > QCOW2_PENDING_MAX && qcow2_write_back(q, false, e) < 0)
        return -1;
    if (q->pending_count + n <= q->pending_room)
        return 0;
    grown = reallocarray(q->pending, room, sizeof *grown);
    if (!grown)
        return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu clusters to free", room);
    q->pending = grown;
    q->pending_room = room;
    return 0;
}

int qcow2_free_later(struct qcow2 *q, uint64_t off, uint64_t count, bool discard, struct pl_err *e)
{
    struct qcow2_free *last = q->pending_count ? &q->pending[q->pending_count - 1] : NULL;

    assert(last || !q->pending_count);
    if (last && last->discard == discard && last->off + (last->count << q->cluster_bits) == off) {
        last->count += count;
        return 0;
    }
    if (q->pending_count == q->pending_room && qcow2_pending_room(q, 1, e) < 0)
        return -1;
    q->pending[q->pending_count++] =
        (struct qcow2_free){ .off = off, .count = count, .discard = discard };
    return 0;
}
