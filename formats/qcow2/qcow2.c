/* qcow2.c - opens and closes a qcow2 file, and ties the parts into the driver.
 *
 * Opening checks what later calls rely on: header, L1 table, refcount table, the place of the
 * snapshot table.  Entries of those tables are checked when they are used. */
#include "formats/qcow2/qcow2.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/extensions.h"
#include "formats/qcow2/tables.h"

/* Memory for cached slices: enough L2 entries for 128 GiB of disk with clusters of 64 KiB. */
#define L2_CACHE_BYTES (16 * PL_MIB)
#define REFCOUNT_CACHE_BYTES (4 * PL_MIB)
#define SLOTS_MIN 16 /* a change needs a few slices of each kind at once */

static bool qcow2_probe(const struct pl_probe *probe)
{
    return probe->len >= 8 && load_be32(probe->head) == QCOW2_MAGIC &&
           load_be32(probe->head + 4) != 1;
}

static void qcow2_close(void *state)
{
    struct qcow2 *q = state;

    if (!q)
        return;
    pl_table_cache_free(q->l2_cache);
    pl_table_cache_free(q->refcount_cache);
    if (q->data && q->data != q->file)
        pl_storage_close(q->data, NULL);
    qcow2_free_extensions(q);
    free(q->parent_name);
    free(q->parent_format);
    free(q->data_file_name);
    free(q->l1);
    free(q->l1_dirty);
    free(q->refcount_table);
    free(q->refcount_table_dirty);
    free(q->pending);
    pl_lock_destroy(&q->lock);
    free(q);
}

static uint8_t *dirty_map(const struct qcow2 *q, uint64_t entries)
{
    return q->writable ? calloc(1, pl_div_up(entries * 8, QCOW2_SECTOR) + 1) : NULL;
}

static int load_l1(struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_place table = { .off = q->header.l1_table_offset,
                                       .entries = q->header.l1_size,
                                       .bytes_max = QCOW2_L1_BYTES_MAX };

    if (qcow2_load_table(q, "L1 table", table, &q->l1, e) < 0)
        return -1;
    q->l1_size = q->header.l1_size;
    q->l1_dirty = dirty_map(q, q->l1_size);
    return q->writable && !q->l1_dirty ? pl_fail(e, PL_E_NOMEM, "L1 table: no memory") : 0;
}

/* The table's last cluster may be cut short by the end of the file.  What `check` is to mend counts
 * as an empty table. */
static int load_refcount_table(struct qcow2 *q, bool check_only, struct pl_err *e)
{
    const uint64_t file_size = pl_storage_size(q->file);
    const uint64_t off = q->header.refcount_table_offset;
    const uint64_t bytes = (uint64_t)q->header.refcount_table_clusters << q->cluster_bits;
    struct qcow2_place table = { .off = off,
                                 .entries = bytes / 8,
                                 .bytes_max = QCOW2_REFCOUNT_TABLE_BYTES_MAX };
    struct pl_err why;

    if (off < file_size && bytes > file_size - off && bytes - (file_size - off) < q->cluster_size)
        table.entries = (file_size - off) / 8;
    if (bytes == 0 && !check_only)
        return pl_fail(e, PL_E_CORRUPT, "header: there is no refcount table");
    if (qcow2_load_table(q, "refcount table", table, &q->refcount_table, &why) < 0) {
        if (e)
            *e = why;
        if (!check_only || why.kind != PL_E_CORRUPT)
            return -1;
        pl_warn(q->report, "%s", why.msg);
        table.entries = 0;
    }
    q->refcount_table_size = (uint32_t)table.entries;
    q->refcount_table_dirty = dirty_map(q, table.entries);
    return q->writable && !q->refcount_table_dirty
               ? pl_fail(e, PL_E_NOMEM, "refcount table: no memory")
               : 0;
}

static int check_snapshot_table(const struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_place table = { .off = q->header.snapshots_offset,
                                       .entries = q->header.nb_snapshots *
                                                  (QCOW2_SNAPSHOT_ENTRY_BYTES / 8),
                                       .bytes_max = QCOW2_SNAPSHOT_TABLE_BYTES_MAX };

    return q->header.nb_snapshots ? qcow2_check_table(q, "snapshot table", table, e) : 0;
}

static int open_data_file(struct qcow2 *q, const struct pl_open_args *args, struct pl_err *e)
{
    q->data = q->file;
    if (!qcow2_has_data_file(q))
        return 0;
    if (!q->data_file_name)
        return pl_fail(e, PL_E_CORRUPT, "the image has an external data file but does not name it");
    if (!args->open_file)
        return pl_fail(e, PL_E_POLICY, "the external data file '%s' cannot be opened here",
                       q->data_file_name);
    if (args->open_file(args, q->data_file_name, &q->data, e) < 0) {
        q->data = NULL;
        return pl_within(e, "external data file '%s'", q->data_file_name);
    }
    return 0;
}

static uint32_t slots(const struct qcow2 *q, uint64_t bytes)
{
    return (uint32_t)PL_MAX(bytes / q->slice, SLOTS_MIN);
}

static int make_caches(struct qcow2 *q, uint32_t bytes, struct pl_err *e)
{
    const uint64_t l2_bytes = bytes ? bytes / 5 * 4 : L2_CACHE_BYTES;
    const uint64_t refcount_bytes = bytes ? bytes / 5 : REFCOUNT_CACHE_BYTES;

    if (pl_table_cache_create(q->file, q->slice, slots(q, l2_bytes), &q->l2_cache, e) < 0)
        return -1;
    return pl_table_cache_create(q->file, q->slice, slots(q, refcount_bytes), &q->refcount_cache,
                                 e);
}

static int load(struct qcow2 *q, const struct pl_open_args *args, struct pl_err *e)
{
    const uint64_t file_size = pl_storage_size(q->file);

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a qcow2 image");
    if (file_size > PL_OFFSET_MAX - (UINT64_C(1) << QCOW2_CLUSTER_BITS_MAX))
        return pl_fail(e, PL_E_LIMIT, "a file of %" PRIu64 " bytes is too big", file_size);
    if (qcow2_read_header(q, e) < 0)
        return -1;
    q->file_end = pl_round_up(file_size, q->cluster_size);
    if (load_l1(q, e) < 0 || load_refcount_table(q, args->check_only, e) < 0 ||
        check_snapshot_table(q, e) < 0 || open_data_file(q, args, e) < 0)
        return -1;
    return make_caches(q, args->cache_bytes, e);
}

static int check_corrupt_bit(const struct qcow2 *q, bool check_only, struct pl_err *e)
{
    if (!(q->header.incompatible_features & QCOW2_INCOMPAT_CORRUPT) || check_only)
        return 0;
    if (!q->writable) {
        pl_warn(q->report, "the image is marked corrupt: what is read from it may be wrong");
        return 0;
    }
    pl_fail(e, PL_E_CORRUPT, "the image is marked corrupt and must not be written to");
    return pl_hint(e, "platter check -r all mends it; opening it read-only is possible");
}

static void fill_layer(struct qcow2 *q, struct pl_layer *layer)
{
    const bool packs = !qcow2_has_data_file(q);

    *layer = (struct pl_layer){
        .state = q,
        .size = q->header.size,
        .granule = q->subcluster_size,
        .cluster_size = q->cluster_size,
        .codec = packs ? q->codec : NULL,
        .unit_len = packs ? q->cluster_size : 0,
        .parent_name = q->parent_name ? strdup(q->parent_name) : NULL,
        .parent_format = q->parent_format ? strdup(q->parent_format) : NULL,
        .bitmaps = q->header.version == 3,
        .sparse_new = true,
    };
}

/* Lazy refcounts: the last writer did not finish, so the counts are made anew. */
static int mend_dirty(struct qcow2 *q, struct pl_err *e)
{
    struct pl_check_result result = { 0 };

    pl_warn(q->report, "the image was not closed properly: its refcounts are being repaired");
    if (qcow2_check(q, PL_REPAIR_ALL, q->report, &result, e) < 0)
        return pl_within(e, "repairing refcounts");
    if (result.corruptions || result.check_errors) {
        pl_fail(e, PL_E_CORRUPT, "repairing refcounts left %" PRIu64 " defects",
                result.corruptions + result.check_errors);
        return pl_hint(e, "platter check shows them");
    }
    if (!(q->header.incompatible_features & QCOW2_INCOMPAT_DIRTY))
        return 0;
    q->header.incompatible_features &= ~QCOW2_INCOMPAT_DIRTY;
    if (pl_storage_flush(q->file, e) < 0 || qcow2_write_header(q, e) < 0)
        return -1;
    return pl_storage_flush(q->file, e);
}

/* What depends on how the image is opened. */
static int prepare(struct qcow2 *q, const struct pl_open_args *args, struct pl_err *e)
{
    const bool dirty = q->header.incompatible_features & QCOW2_INCOMPAT_DIRTY;

    if (check_corrupt_bit(q, args->check_only, e) < 0)
        return -1;
    if (args->snapshot)
        return qcow2_select_snapshot(q, args->snapshot, e);
    return dirty && q->writable && !args->check_only ? mend_dirty(q, e) : 0;
}

static int qcow2_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct qcow2 *q = calloc(1, sizeof *q);

    if (!q)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    pl_lock_init(&q->lock);
    q->file = args->file;
    q->report = args->report;
    q->writable = args->writable && !args->snapshot;
    q->same_disk = args->same_disk;
    if (load(q, args, e) < 0 || prepare(q, args, e) < 0) {
        qcow2_close(q);
        return -1;
    }
    fill_layer(q, layer);
    if ((q->parent_name && !layer->parent_name) || (q->parent_format && !layer->parent_format)) {
        qcow2_close(q);
        return pl_fail(e, PL_E_NOMEM, "no memory for the name of the backing file");
    }
    return 0;
}

static void qcow2_flags(void *state, struct pl_image_flags *flags)
{
    const struct qcow2 *q = state;

    flags->dirty = q->header.incompatible_features & QCOW2_INCOMPAT_DIRTY;
    flags->corrupt = q->header.incompatible_features & QCOW2_INCOMPAT_CORRUPT;
}

extern const struct pl_driver pl_qcow2;
const struct pl_driver pl_qcow2 = {
    .name = "qcow2",
    .spec = "QEMU, docs/interop/qcow2.rst",
    .create_options = qcow2_create_options,
    .probe = qcow2_probe,
    .open = qcow2_open,
    .map = qcow2_map,
    .close = qcow2_close,
    .allocate = qcow2_allocate,
    .allocate_packed = qcow2_allocate_packed,
    .link = qcow2_link,
    .cancel = qcow2_cancel,
    .zero = qcow2_zero,
    .discard = qcow2_discard,
    .forget = qcow2_forget,
    .flush = qcow2_flush,
    .create = qcow2_create,
    .resize = qcow2_resize,
    .set_parent = qcow2_set_parent,
    .amend = qcow2_amend,
    .amend_options = qcow2_amend_options,
    .check = qcow2_check,
    .measure = qcow2_measure,
    .info = qcow2_info,
    .snapshots = qcow2_snapshots,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_delete = qcow2_snapshot_delete,
    .snapshot_rename = qcow2_snapshot_rename,
    .flags = qcow2_flags,
    .bitmaps = qcow2_bitmaps,
    .bitmap_load = qcow2_bitmap_load,
    .bitmap_store = qcow2_bitmap_store,
    .bitmap_remove = qcow2_bitmap_remove,
};
