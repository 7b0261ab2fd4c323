/* l2_change.c - L2 tables that may be changed: found, made, or copied from one that a snapshot
 * shares. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"

/* The view of the entries from guest cluster `index` on, in the table at `table`. */
static int view_table(struct qcow2 *q, uint64_t table, uint64_t index, struct qcow2_l2_view *view,
                      struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint32_t at = (uint32_t)(index % q->l2_entries) * q->l2_entry_size, in_slice = at % q->slice;
    uint8_t *slice;

    if (qcow2_slice(q, q->l2_cache, table + at, &slice, e) < 0)
        return -1;
    *view = (struct qcow2_l2_view){
        .entries = slice + in_slice,
        .off = table + at,
        .count = (q->slice - in_slice) / q->l2_entry_size,
    };
    return 0;
}

int qcow2_l2_look(struct qcow2 *q, uint64_t index, struct qcow2_l2_view *view, struct pl_err *e)
{
    uint64_t table;

    if (qcow2_l2_table(q, index, &table, e) < 0)
        return -1;
    if (table)
        return view_table(q, table, index, view, e);
    *view = (struct qcow2_l2_view){ .count = q->l2_entries - (uint32_t)(index % q->l2_entries) };
    return 0;
}

int qcow2_fill_table(struct qcow2 *q, struct pl_table_cache *tc, uint64_t to, uint64_t from,
                     struct pl_err *e)
{
    PL_FREE uint8_t *copy = malloc(q->slice);

    if (!copy)
        return pl_fail(e, PL_E_NOMEM, "no memory for a table");
    for (uint32_t done = 0; done < q->cluster_size; done += q->slice) {
        uint8_t *bytes;

        if (from) {
            if (qcow2_slice(q, tc, from + done, &bytes, e) < 0)
                return -1;
            memcpy(copy, bytes, q->slice);
        }
        if (qcow2_slice_new(q, tc, to + done, &bytes, e) < 0)
            return -1;
        if (from) {
            memcpy(bytes, copy, q->slice);
            pl_table_cache_dirty(tc, to + done);
        }
    }
    return 0;
}

/* What was never written reads as zeros, as a new table must: only its slices that get entries are
 * then made, which counts where few clusters lie in each table of a huge disk. */
static bool reads_as_zeros(const struct qcow2 *q, uint64_t table)
{
    return !q->file->device && table >= pl_storage_size(q->file);
}

/* Gives the guest cluster an L2 table that only the active L1 table points at. */
static int make_table(struct qcow2 *q, uint64_t index, uint64_t shared, uint64_t *table,
                      struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t l1_index = index / q->l2_entries;

    if (qcow2_pending_room(q, 1, e) < 0 || qcow2_allocate_clusters(q, 1, true, table, NULL, e) < 0)
        return -1;
    if ((shared || !reads_as_zeros(q, *table)) &&
        qcow2_fill_table(q, q->l2_cache, *table, shared, e) < 0) {
        pl_table_cache_drop(q->l2_cache, *table, q->cluster_size);
        if (qcow2_reference(q, *table, 1, -1, NULL) < 0)
            return -1; /* leaked */
        return -1;
    }
    q->l1[l1_index] = *table | QCOW2_COPIED;
    q->l1_dirty[l1_index * 8 / QCOW2_SECTOR] = 1;
    return shared ? qcow2_free_later(q, shared, 1, false, e) : 0;
}

int qcow2_l2_open(struct qcow2 *q, uint64_t index, struct qcow2_l2_view *view, struct pl_err *e)
{
    uint64_t table;

    if (qcow2_pending_room(q, q->slice / q->l2_entry_size, e) < 0 ||
        qcow2_l2_table(q, index, &table, e) < 0)
        return -1;
    if ((!table || !(q->l1[index / q->l2_entries] & QCOW2_COPIED)) &&
        make_table(q, index, table, &table, e) < 0)
        return -1;
    return view_table(q, table, index, view, e);
}

void qcow2_l2_changed(struct qcow2 *q, const struct qcow2_l2_view *view)
{
    pl_table_cache_dirty(q->l2_cache, view->off);
}

void qcow2_packed_clusters(const struct qcow2 *q, uint64_t word, uint64_t *off, uint64_t *count)
{
    uint32_t len;

    qcow2_packed_place(q, word, off, &len);
    *count = ((*off + len - 1) >> q->cluster_bits) - (*off >> q->cluster_bits) + 1;
    *off = pl_round_down(*off, q->cluster_size);
}

int qcow2_release(struct qcow2 *q, struct qcow2_entry entry, bool discard, struct pl_err *e)
{
    uint64_t off = entry.word & QCOW2_OFFSET_MASK, count = 1;

    if (qcow2_has_data_file(q))
        return 0;
    if (entry.word & QCOW2_PACKED)
        qcow2_packed_clusters(q, entry.word, &off, &count);
    return off ? qcow2_free_later(q, off, count, discard, e) : 0;
}
