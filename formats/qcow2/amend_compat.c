/* amend_compat.c - an image changes its version of the format.
 *
 * Version 2 has no features, no bitmaps, counts of 16 bits, no size in its snapshots and no
 * clusters that are said to be zeros. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/amend.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/extensions.h"
#include "formats/qcow2/snapshot.h"

/* The header with what was changed of it; nothing was if that fails. */
static int show(struct qcow2 *q, struct qcow2_header before, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (qcow2_replace_header(q, e) == 0)
        return 0;
    if (!q->broken)
        q->header = before;
    return -1;
}

int qcow2_upgrade(struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_header before = q->header;

    if (qcow2_set_feature_names(q, e) < 0)
        return -1;
    q->header.version = 3;
    q->header.header_length = QCOW2_HEADER_LENGTH;
    return show(q, before, e);
}

int qcow2_downgrade(struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_header before = q->header;

    if (qcow2_set_extension(q, QCOW2_EXT_FEATURE_NAMES, NULL, 0, e) < 0 ||
        qcow2_set_extension(q, QCOW2_EXT_BITMAPS, NULL, 0, e) < 0)
        return -1;
    q->header.version = 2;
    q->header.header_length = QCOW2_V2_HEADER_LENGTH;
    q->header.compatible_features = q->header.autoclear_features = 0;
    return show(q, before, e);
}

/* ---- what version 2 cannot hold ---- */

static int check_features(const struct qcow2 *q, struct pl_err *e)
{
    const uint64_t features = q->header.incompatible_features;

    if (qcow2_has_data_file(q))
        return pl_fail(e, PL_E_UNSUPPORTED, "compat=0.10: it cannot have an external data file");
    if (features & QCOW2_INCOMPAT_EXTL2)
        return pl_fail(e, PL_E_UNSUPPORTED, "compat=0.10: it cannot have extended L2 entries");
    if (features)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "compat=0.10: it cannot have the incompatible features 0x%" PRIx64,
                       features);
    return 0;
}

static int check_bitmaps(struct qcow2 *q, struct pl_err *e)
{
    PL_FREE struct pl_bitmap *list = NULL;
    size_t count;

    if (qcow2_bitmaps(q, &list, &count, e) < 0)
        return -1;
    if (!count)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED, "compat=0.10: it cannot hold bitmaps, but there is '%s'",
            list[0].name);
    return pl_hint(e, "platter bitmap --remove takes it away");
}

static bool has_zeros(const struct qcow2 *q, const uint8_t *table)
{
    for (uint32_t i = 0; i < q->l2_entries; i++) {
        const struct qcow2_entry entry = qcow2_load_entry(q, table + (size_t)i * q->l2_entry_size);

        if (!(entry.word & QCOW2_PACKED) && entry.word & QCOW2_ALL_ZERO)
            return true;
    }
    return false;
}

static int check_tables(struct qcow2 *q, const struct qcow2_snapshot *s, const uint64_t *l1,
                        struct pl_err *e) PL_NEEDS(&q->lock)
{
    PL_FREE uint8_t *table = pl_buffer(q->cluster_size);
    uint64_t count;

    if (!table)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L2 table");
    if (qcow2_count_tables(q, l1, s->l1_size, &count, e) < 0)
        return -1;
    for (uint32_t i = 0; i < s->l1_size; i++) {
        uint64_t off;

        if (qcow2_l1_entry(q, i, l1[i], &off, e) < 0)
            return -1;
        if (!off)
            continue;
        if (pl_storage_read_padded(q->file, off, table, q->cluster_size, e) < 0)
            return -1;
        if (has_zeros(q, table))
            return pl_fail(e, PL_E_UNSUPPORTED,
                           "compat=0.10: it cannot have clusters of zeros as there are in it");
    }
    return 0;
}

static int check_snapshot(struct qcow2 *q, const struct qcow2_snapshot *s, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    PL_FREE uint64_t *l1 = NULL;

    if (s->shown.disk_size != q->header.size || s->shown.vm_state_size > UINT32_MAX)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "compat=0.10: it can have neither a disk of another size (%" PRIu64
                       " bytes) nor so much memory",
                       s->shown.disk_size);
    if (qcow2_load_snapshot_l1(q, s, &l1, e) < 0)
        return -1;
    return check_tables(q, s, l1, e);
}

static int check_snapshots(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    PL_FREE struct qcow2_snapshot *list = NULL;
    size_t count;

    if (qcow2_load_snapshots(q, &list, &count, NULL, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (check_snapshot(q, &list[i], e) < 0) {
            pl_within(e, "snapshot '%s'", list[i].shown.name);
            return pl_hint(e, "delete the snapshot first, or convert the image");
        }
    return 0;
}

int qcow2_check_downgrade(struct qcow2 *q, struct pl_err *e)
{
    if (check_features(q, e) < 0 || check_bitmaps(q, e) < 0)
        return -1;
    return check_snapshots(q, e);
}

/* ---- zeros ---- */

/* One run of the disk. */
static int expand(struct qcow2 *q, const struct pl_extent *x, uint64_t at, struct pl_err *e)
{
    if (x->state != PL_ZERO)
        return 0;
    if (q->parent_name)
        return qcow2_preallocate(q, at, x->len, PL_PREALLOC_METADATA, e);
    PL_LOCKED(&q->lock);
    return qcow2_punch(q, at, x->len, QCOW2_PUNCH_FORGET, e) < 0 ? -1 : 0;
}

/* What entries say behind the end of the disk concerns nobody. */
static int forget_behind(struct qcow2 *q, struct pl_err *e)
{
    uint64_t from, to;

    PL_LOCKED(&q->lock);
    from = pl_round_up(q->header.size, q->cluster_size);
    to = (uint64_t)q->l1_size * q->l2_entries << q->cluster_bits;
    return from < to && qcow2_punch(q, from, to - from, QCOW2_PUNCH_FORGET, e) < 0 ? -1 : 0;
}

int qcow2_expand_zeros(struct qcow2 *q, const struct pl_report *report, struct pl_err *e)
{
    const uint64_t size = q->header.size;
    struct pl_extent x;

    for (uint64_t at = 0; at < size; at += x.len) {
        pl_progress(report, at, size);
        if (pl_check_cancelled(report, e) < 0 || qcow2_map(q, at, size - at, &x, e) < 0 ||
            expand(q, &x, at, e) < 0)
            return -1;
    }
    return forget_behind(q, e) < 0 ? -1 : qcow2_flush(q, e);
}
