/* check_entries.c - L2 tables, entry by entry. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/check.h"

#define ALL_SUBCLUSTERS UINT32_C(0xffffffff)

/* A table on its way through the entries. */
struct table {
    struct qcow2_check *c;
    uint64_t off;
    uint64_t index; /* guest cluster of its first entry, UINT64_MAX: not known */
    uint32_t times; /* L1 entries that name it */
    bool active, bad;
    uint64_t next; /* where the next cluster would be if nothing were fragmented; 0: no idea */
    uint32_t first_changed, end_changed; /* bytes */
    uint8_t *bytes;
};

static int read_table(struct table *t, struct pl_err *e)
{
    struct qcow2 *q = t->c->q;
    struct pl_err why;

    t->bytes = pl_buffer(q->cluster_size);
    if (!t->bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L2 table");
    if (pl_storage_read_padded(q->file, t->off, t->bytes, q->cluster_size, &why) == 0)
        return 0;
    t->c->blind = true;
    qcow2_found(t->c, QCOW2_UNREADABLE, "L2 table at 0x%" PRIx64 ": %s", t->off, why.msg);
    return 1;
}

static void put_entry(struct table *t, uint32_t i, struct qcow2_entry entry)
{
    const struct qcow2 *q = t->c->q;
    uint32_t at = i * q->l2_entry_size;

    qcow2_store_entry(q, t->bytes + at, entry);
    if (t->first_changed == t->end_changed)
        t->first_changed = at;
    t->end_changed = at + q->l2_entry_size;
}

/* Writes what was mended. */
static int write_table(struct table *t, struct pl_err *e)
{
    uint32_t from = (uint32_t)pl_round_down(t->first_changed, QCOW2_SECTOR);
    uint32_t to = (uint32_t)pl_round_up(t->end_changed, QCOW2_SECTOR);

    if (t->first_changed == t->end_changed)
        return 0;
    return pl_storage_write(t->c->q->file, t->off + from, t->bytes + from, to - from, e);
}

/* What an entry becomes whose bytes are lost: zeros, or nothing where zeros cannot be said. */
static struct qcow2_entry cut(const struct qcow2 *q)
{
    if (qcow2_extended(q))
        return (struct qcow2_entry){ .bitmap = (uint64_t)ALL_SUBCLUSTERS << 32 };
    return (struct qcow2_entry){ .word = q->header.version >= 3 ? QCOW2_ALL_ZERO : 0 };
}

static void count_allocated(struct table *t, uint64_t off, bool packed)
{
    struct pl_check_result *r = &t->c->result;

    if (!t->active)
        return;
    r->allocated_clusters++;
    r->compressed_clusters += packed;
    r->fragmented_clusters += packed || (t->next && off != t->next);
    if (!packed)
        t->next = off + t->c->q->cluster_size;
}

static int check_packed(struct table *t, struct qcow2_entry *entry, struct pl_err *e)
{
    struct qcow2_check *c = t->c;
    uint64_t off;
    uint32_t len;
    int r;

    qcow2_packed_place(c->q, entry->word, &off, &len);
    if (qcow2_has_data_file(c->q) || off >> 56) {
        t->bad = true;
        if (qcow2_found(c, QCOW2_ERROR, "compressed cluster that cannot be one, entry=0x%" PRIx64,
                        entry->word))
            *entry = cut(c->q);
        return 0;
    }
    if (entry->bitmap) {
        t->bad = true;
        if (qcow2_found(c, QCOW2_ERROR,
                        "compressed cluster with non-zero subcluster allocation bitmap, "
                        "entry=0x%" PRIx64,
                        entry->word))
            entry->bitmap = 0;
    }
    if (entry->word & QCOW2_COPIED &&
        qcow2_found(c, QCOW2_ERROR,
                    "coffset=0x%" PRIx64 ": copied flag must never be set for compressed "
                    "clusters",
                    off))
        entry->word &= ~QCOW2_COPIED;
    count_allocated(t, off, true);
    r = qcow2_count_range(c, off, len, t->times, e);
    if (r > 0)
        *entry = cut(c->q);
    return r < 0 ? -1 : 0;
}

/* The second half of an extended entry. */
static void check_subclusters(struct table *t, struct qcow2_entry *entry, bool place)
{
    struct qcow2_check *c = t->c;
    uint32_t data = (uint32_t)entry->bitmap, zero = (uint32_t)(entry->bitmap >> 32);

    if (!place && data) {
        t->bad = true;
        if (qcow2_found(c, QCOW2_ERROR,
                        "Unallocated cluster has non-zero subcluster allocation map: "
                        "%" PRIx64,
                        entry->bitmap))
            entry->bitmap = (uint64_t)zero << 32;
    } else if (data & zero) {
        t->bad = true;
        if (qcow2_found(c, QCOW2_ERROR,
                        "offset=%" PRIx64 ": Cluster has corrupted subcluster allocation "
                        "bitmap %" PRIx64,
                        entry->word & QCOW2_OFFSET_MASK, entry->bitmap))
            entry->bitmap = data | (uint64_t)(zero & ~data) << 32;
    }
}

static void check_reserved(struct table *t, struct qcow2_entry *entry)
{
    const struct qcow2 *q = t->c->q;
    bool zero_flag = q->header.version >= 3 && !qcow2_extended(q);
    uint64_t reserved = QCOW2_L2_RESERVED | (zero_flag ? 0 : QCOW2_ALL_ZERO);

    if (!(entry->word & reserved))
        return;
    t->bad = true;
    if (qcow2_found(t->c, QCOW2_ERROR, "found l2 entry with reserved bits set: %" PRIx64,
                    entry->word))
        entry->word &= ~reserved;
}

static int check_standard(struct table *t, uint32_t i, struct qcow2_entry *entry, struct pl_err *e)
{
    struct qcow2_check *c = t->c;
    uint64_t off = entry->word & QCOW2_OFFSET_MASK;
    bool place = off || (qcow2_has_data_file(c->q) && entry->word & QCOW2_COPIED);
    int r = 0;

    check_reserved(t, entry);
    check_subclusters(t, entry, place);
    if (!place)
        return 0;
    count_allocated(t, off, false);
    if (qcow2_has_data_file(c->q)) {
        if (t->index != UINT64_MAX && off != (t->index + i) << c->q->cluster_bits)
            qcow2_found(c, QCOW2_ERROR_KEPT,
                        "offset=%" PRIx64 ": not the guest's offset, entry in a data "
                        "file corrupted",
                        off);
        return 0;
    }
    if (off & (c->q->cluster_size - 1)) {
        t->bad = true;
        r = qcow2_found(c, QCOW2_ERROR,
                        "offset=%" PRIx64 ": Cluster is not properly aligned; L2 entry "
                        "corrupted.",
                        off);
    } else {
        r = qcow2_count_range(c, off, c->q->cluster_size, t->times, e);
    }
    if (r > 0)
        *entry = cut(c->q);
    return r < 0 ? -1 : 0;
}

static int walk_entries(struct table *t, struct pl_err *e)
{
    const struct qcow2 *q = t->c->q;

    for (uint32_t i = 0; i < q->l2_entries; i++) {
        struct qcow2_entry entry = qcow2_load_entry(q, t->bytes + (size_t)i * q->l2_entry_size);
        struct qcow2_entry old = entry;
        int r;

        if (!entry.word && !entry.bitmap)
            continue;
        if (entry.word & QCOW2_PACKED)
            r = check_packed(t, &entry, e);
        else
            r = check_standard(t, i, &entry, e);
        if (r < 0)
            return -1;
        if (entry.word != old.word || entry.bitmap != old.bitmap)
            put_entry(t, i, entry);
    }
    return write_table(t, e);
}

int qcow2_walk_table(struct qcow2_check *c, uint64_t off, uint64_t index, struct pl_err *e)
{
    uint64_t cluster = off >> c->q->cluster_bits;
    uint32_t noted = qcow2_tally_get(&c->tables, cluster), *flags;
    struct table t = { .c = c,
                       .off = off,
                       .index = index,
                       .active = noted & QCOW2_TABLE_ACTIVE,
                       .times = noted & QCOW2_TABLE_COUNT };
    int r;

    if (!off || off & (c->q->cluster_size - 1) || !t.times ||
        noted & (QCOW2_TABLE_WALKED | QCOW2_TABLE_STRUCTURE))
        return 0;
    flags = qcow2_tally_at(&c->tables, cluster);
    *flags |= QCOW2_TABLE_WALKED;
    if (qcow2_in_hole(c->q, off))
        return 0;
    r = read_table(&t, e);
    if (r == 0)
        r = walk_entries(&t, e);
    if (t.bad)
        *flags |= QCOW2_TABLE_BAD;
    free(t.bytes);
    return r < 0 ? -1 : 0;
}

/* ---- copied flags ---- */

/* Whether the flag of a pointer to `off` should be set; 1: unknown. */
static int flag_wanted(struct qcow2_check *c, uint64_t off, bool *wanted, uint64_t *count)
    PL_NEEDS(&c->q->lock)
{
    if (qcow2_refcount(c->q, off >> c->q->cluster_bits, count, NULL) < 0)
        return 1;
    *wanted = *count == 1;
    return 0;
}

static int check_data_flags(struct qcow2_check *c, struct table *t, struct pl_err *e)
    PL_NEEDS(&c->q->lock)
{
    struct qcow2 *q = c->q;

    for (uint32_t i = 0; i < q->l2_entries; i++) {
        struct qcow2_entry entry = qcow2_load_entry(q, t->bytes + (size_t)i * q->l2_entry_size);
        uint64_t off = entry.word & QCOW2_OFFSET_MASK, count = 1;
        bool wanted = true;

        if (entry.word & QCOW2_PACKED || !off)
            continue;
        if (!qcow2_has_data_file(q) && flag_wanted(c, off, &wanted, &count))
            continue;
        if (wanted == !!(entry.word & QCOW2_COPIED))
            continue;
        if (qcow2_found(c, QCOW2_ERROR,
                        "OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
                        entry.word, count)) {
            entry.word ^= QCOW2_COPIED;
            put_entry(t, i, entry);
        }
    }
    return write_table(t, e);
}

/* The flag of one L1 entry and those in the table that it names. */
static int check_table_flags(struct qcow2_check *c, uint32_t i, struct pl_err *e)
    PL_NEEDS(&c->q->lock)
{
    struct qcow2 *q = c->q;
    struct table t = { .c = c, .off = q->l1[i] & QCOW2_OFFSET_MASK };
    uint32_t noted = qcow2_tally_get(&c->tables, t.off >> q->cluster_bits);
    uint64_t count;
    bool wanted;
    int r;

    if (!t.off || t.off & (q->cluster_size - 1) || !(noted & QCOW2_TABLE_COUNT))
        return 0;
    if (flag_wanted(c, t.off, &wanted, &count) == 0 && wanted != !!(q->l1[i] & QCOW2_COPIED) &&
        qcow2_found(c, QCOW2_ERROR,
                    "OFLAG_COPIED L2 cluster: l1_index=%" PRIu32 " l1_entry=%" PRIx64
                    " refcount=%" PRIu64,
                    i, q->l1[i], count)) {
        q->l1[i] ^= QCOW2_COPIED;
        q->l1_dirty[(uint64_t)i * 8 / QCOW2_SECTOR] = 1;
    }
    if (noted & (QCOW2_TABLE_FLAGS_SEEN | QCOW2_TABLE_STRUCTURE) || qcow2_in_hole(q, t.off))
        return 0;
    *qcow2_tally_at(&c->tables, t.off >> q->cluster_bits) |= QCOW2_TABLE_FLAGS_SEEN;
    r = read_table(&t, e);
    if (r == 0)
        r = check_data_flags(c, &t, e);
    free(t.bytes);
    return r < 0 ? -1 : 0;
}

int qcow2_check_copied(struct qcow2_check *c, struct pl_err *e)
{
    for (uint32_t i = 0; i < c->q->l1_size; i++)
        if (check_table_flags(c, i, e) < 0)
            return -1;
    return 0;
}
