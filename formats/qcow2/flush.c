/* flush.c - the order in which changes reach the disk; see the steps at the top of qcow2.h.
 *
 * The refcount cache may be written at any time: what it holds is always at least what the tables
 * on disk need, because references are taken before an entry is made and given back only in step 5.
 * The L2 cache is written by step 3 alone. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"

#define TABLE_BUFFER 65536 /* bytes of a table encoded at once */

static int refuse_broken(struct pl_err *e)
{
    pl_fail(e, PL_E_SYS, "an earlier change of the image's tables failed half-way");
    return pl_hint(e, "open the image again; check it first");
}

int qcow2_check_writable(const struct qcow2 *q, struct pl_err *e)
{
    if (!q->writable)
        return pl_fail(e, PL_E_INVALID, "the image is open for reading only");
    return q->broken ? refuse_broken(e) : 0;
}

int qcow2_begin_change(struct qcow2 *q, struct pl_err *e)
{
    if (qcow2_check_writable(q, e) < 0)
        return -1;
    return q->header_marked ? 0 : qcow2_before_change(q, e);
}

int qcow2_sync(struct qcow2 *q, struct pl_err *e)
{
    if (pl_storage_flush(q->file, e) == 0 &&
        (q->data == q->file || pl_storage_flush(q->data, e) == 0))
        return 0;
    q->broken = true; /* the host may have dropped what it could not write */
    return -1;
}

int qcow2_cover_file(struct qcow2 *q, struct pl_err *e)
{
    if (q->file->device || pl_storage_size(q->file) >= q->file_end)
        return 0;
    /* Threads that write to clusters they were given stay below file_end, which only grows under
     * the lock: this cuts nothing off. */
    return pl_storage_resize(q->file, q->file_end, e);
}

int qcow2_write_table(struct qcow2 *q, uint64_t off, const uint64_t *entries, uint64_t count,
                      struct pl_err *e)
{
    PL_FREE uint8_t *raw = malloc(TABLE_BUFFER);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory to write a table");
    for (uint64_t done = 0; done < count;) {
        uint64_t n = PL_MIN(count - done, TABLE_BUFFER / 8);

        for (uint64_t i = 0; i < n; i++)
            store_be64(raw + 8 * i, entries[done + i]);
        if (pl_storage_write(q->file, off + 8 * done, raw, 8 * n, e) < 0)
            return -1;
        done += n;
    }
    return 0;
}

/* A table that is kept in memory whole, with a flag for each of its sectors on disk. */
struct whole_table {
    uint64_t off;
    const uint64_t *entries;
    uint8_t *dirty;
    uint64_t count; /* entries that the table has on disk */
};

static struct whole_table refcount_table(const struct qcow2 *q)
{
    uint64_t on_disk = (uint64_t)q->header.refcount_table_clusters << q->cluster_bits >> 3;

    return (struct whole_table){
        .off = q->header.refcount_table_offset,
        .entries = q->refcount_table,
        .dirty = q->refcount_table_dirty,
        .count = PL_MIN(on_disk, q->refcount_table_size),
    };
}

static struct whole_table l1_table(const struct qcow2 *q)
{
    return (struct whole_table){
        .off = q->header.l1_table_offset,
        .entries = q->l1,
        .dirty = q->l1_dirty,
        .count = q->l1_size,
    };
}

static bool table_dirty(const struct whole_table *t)
{
    return t->count && memchr(t->dirty, 1, pl_div_up(8 * t->count, QCOW2_SECTOR));
}

/* Writes the dirty sectors, neighbours in one go. */
static int write_dirty(struct qcow2 *q, const struct whole_table *t, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t per_sector = QCOW2_SECTOR / 8, sectors = pl_div_up(t->count, per_sector);

    for (uint64_t i = 0; i < sectors;) {
        uint64_t n = 0;

        while (i + n < sectors && t->dirty[i + n])
            n++;
        if (n) {
            uint64_t first = i * per_sector, end = PL_MIN((i + n) * per_sector, t->count);

            if (qcow2_write_table(q, t->off + 8 * first, t->entries + first, end - first, e) < 0)
                return -1;
            memset(t->dirty + i, 0, n);
        }
        i += n + 1;
    }
    return 0;
}

/* The cluster at `off` loses a reference; *left is what it still has.  A count that is 0 already
 * says that the image was damaged before: told, not followed. */
static int drop_reference(struct qcow2 *q, uint64_t off, uint64_t *left, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t count;

    *left = 1;
    if (qcow2_refcount(q, off >> q->cluster_bits, &count, e) < 0)
        return -1;
    if (!count) {
        if (!q->miscounted)
            pl_warn(q->report,
                    "the cluster at 0x%" PRIx64 " was in use but not counted: the image "
                    "should be checked and repaired",
                    off);
        q->miscounted = true;
        return 0;
    }
    *left = count - 1;
    return qcow2_reference(q, off, 1, -1, e);
}

/* Gives [off, off + len) back to the host, which may ignore or refuse it: it is free in the image
 * anyway. */
static void give_back(struct qcow2 *q, uint64_t off, uint64_t len) PL_NEEDS(&q->lock)
{
    uint64_t size = pl_storage_size(q->file);

    if (len && off < size && pl_storage_discard(q->file, off, PL_MIN(len, size - off), NULL) < 0)
        return;
}

/* Frees the clusters of one run of the pending list; what is left of it after a failure is still
 * right. */
static int free_run(struct qcow2 *q, struct qcow2_free *run, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t unused = 0; /* bytes before run->off that can be given back */
    int r = 0;

    while (run->count && r == 0) {
        uint64_t left;

        r = drop_reference(q, run->off, &left, e);
        if (r == 0) {
            if (left)
                give_back(q, run->off - unused, unused);
            unused = left || !run->discard ? 0 : unused + q->cluster_size;
            run->off += q->cluster_size;
            run->count--;
        }
    }
    give_back(q, run->off - unused, unused);
    return r;
}

/* The highest first: the list is worked off from its end. */
static int by_place(const void *left, const void *right)
{
    const struct qcow2_free *a = left, *b = right;

    return (a->off < b->off) - (a->off > b->off);
}

/* Joins runs that are neighbours in the file: what a guest wrote in any order is given back to the
 * host in few calls, each of which can cost it a millisecond. */
static void join_pending(struct qcow2 *q) PL_NEEDS(&q->lock)
{
    size_t kept = 0;

    if (q->pending_count < 2)
        return;
    qsort(q->pending, q->pending_count, sizeof *q->pending, by_place);
    for (size_t i = 1; i < q->pending_count; i++) {
        struct qcow2_free *above = &q->pending[kept], *run = &q->pending[i];

        if (run->discard == above->discard &&
            run->off + (run->count << q->cluster_bits) == above->off) {
            above->off = run->off;
            above->count += run->count;
        } else {
            q->pending[++kept] = *run;
        }
    }
    q->pending_count = kept + 1;
}

/* Step 5. */
static int free_pending(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    join_pending(q);
    for (; q->pending_count; q->pending_count--)
        if (free_run(q, &q->pending[q->pending_count - 1], e) < 0)
            return -1;
    return pl_table_cache_write_back(q->refcount_cache, e);
}

/* Steps 3 and 4; each waits for everything before it, guest data too. */
static int write_mapping(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct whole_table l1 = l1_table(q);

    if (pl_table_cache_is_dirty(q->l2_cache) &&
        (qcow2_cover_file(q, e) < 0 || qcow2_sync(q, e) < 0 ||
         pl_table_cache_write_back(q->l2_cache, e) < 0))
        return -1;
    if (table_dirty(&l1) && (qcow2_sync(q, e) < 0 || write_dirty(q, &l1, e) < 0))
        return -1;
    return 0;
}

int qcow2_write_back(struct qcow2 *q, bool sync_last, struct pl_err *e)
{
    struct whole_table refcounts = refcount_table(q);

    if (pl_table_cache_write_back(q->refcount_cache, e) < 0)
        return -1;
    if (table_dirty(&refcounts) && (qcow2_sync(q, e) < 0 || write_dirty(q, &refcounts, e) < 0))
        return -1;
    if (write_mapping(q, e) < 0)
        return -1;
    if (q->pending_count && (qcow2_sync(q, e) < 0 || free_pending(q, e) < 0))
        return -1;
    return sync_last ? qcow2_sync(q, e) : 0;
}

/* Everything that the new size shows is on disk. */
static int show_size(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    q->size_waits = false;
    if (qcow2_write_header(q, e) == 0 && qcow2_sync(q, e) == 0)
        return 0;
    q->broken = true; /* nobody knows which size the disk has */
    return -1;
}

/* Writes back; with `sync_last` all of it is on stable storage then. */
static int write_all(struct qcow2 *q, bool sync_last, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (q->broken)
        return refuse_broken(e);
    /* An image that nobody changed keeps its length. */
    if ((q->header_marked || pl_table_cache_is_dirty(q->refcount_cache)) &&
        qcow2_cover_file(q, e) < 0)
        return -1;
    if (qcow2_write_back(q, sync_last || q->size_waits, e) < 0)
        return -1;
    return q->size_waits ? show_size(q, e) : 0;
}

int qcow2_settle(struct qcow2 *q, struct pl_err *e)
{
    return qcow2_check_writable(q, e) < 0 ? -1 : write_all(q, false, e);
}

int qcow2_flush(void *state, struct pl_err *e)
{
    struct qcow2 *q = state;

    PL_LOCKED(&q->lock);
    return q->writable ? write_all(q, true, e) : 0;
}

/* Either `get` until a slot is free. */
static int get_slice(struct qcow2 *q, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                     int (*get)(struct pl_table_cache *, uint64_t, uint8_t **, struct pl_err *),
                     struct pl_err *e) PL_NEEDS(&q->lock)
{
    int r = get(tc, off, bytes, e);

    if (r <= 0)
        return r;
    if (tc == q->refcount_cache)
        r = pl_table_cache_write_back(tc, e);
    else
        r = qcow2_write_back(q, false, e);
    return r < 0 ? -1 : get(tc, off, bytes, e);
}

int qcow2_slice(struct qcow2 *q, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                struct pl_err *e)
{
    return get_slice(q, tc, off, bytes, pl_table_cache_get, e);
}

int qcow2_slice_new(struct qcow2 *q, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                    struct pl_err *e)
{
    return get_slice(q, tc, off, bytes, pl_table_cache_get_new, e);
}
