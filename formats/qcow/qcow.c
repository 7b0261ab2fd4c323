/* qcow.c - qcow version 1, read only.
 *
 * The header and the L1 table are read and checked when the file is opened and never change, so map
 * needs no lock; it reads the few L2 entries that it wants where they are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/codec/codec.h"
#include "core/driver.h"
#include "formats/qcow/layout.h"

/* L2 entries looked at by one call of map: 2 MiB of disk with clusters of 4 KiB. */
#define ENTRIES_MAX 512

#define FIELD(type, at, name) PL_FIELD(struct qcow_header, type, at, name)

static const struct pl_field header_fields[] = {
    FIELD(PL_BE32, 0, magic),
    FIELD(PL_BE32, 4, version),
    FIELD(PL_BE64, 8, backing_file_offset),
    FIELD(PL_BE32, 16, backing_file_size),
    FIELD(PL_BE32, 20, mtime),
    FIELD(PL_BE64, 24, size),
    FIELD(PL_U8, 32, cluster_bits),
    FIELD(PL_U8, 33, l2_bits),
    FIELD(PL_BE16, 34, padding),
    FIELD(PL_BE32, 36, crypt_method),
    FIELD(PL_BE64, 40, l1_table_offset),
    { 0 },
};

/* All constant after open. */
struct qcow {
    struct pl_storage *file; /* the core's */
    struct qcow_header header;
    uint64_t file_size;
    uint64_t l1_size; /* entries */
    uint64_t *l1;     /* host order */
};

static bool qcow_probe(const struct pl_probe *probe)
{
    return probe->len >= 8 && load_be32(probe->head) == QCOW_MAGIC &&
           load_be32(probe->head + 4) == QCOW_VERSION;
}

static int check_range(const char *field, unsigned n, unsigned min, unsigned max, struct pl_err *e)
{
    if (n < min || n > max)
        return pl_fail(e, PL_E_CORRUPT, "header: %s %u is not from %u to %u", field, n, min, max);
    return 0;
}

static int check_header(const struct qcow_header *h, struct pl_err *e)
{
    if (h->magic != QCOW_MAGIC || h->version != QCOW_VERSION)
        return pl_fail(e, PL_E_FORMAT, "not a qcow file of version 1");
    if (h->crypt_method == 1)
        return pl_fail(e, PL_E_UNSUPPORTED, "the image is encrypted (AES)");
    if (h->crypt_method != 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: unknown crypt_method %" PRIu32,
                       h->crypt_method);
    if (check_range("cluster_bits", h->cluster_bits, QCOW_CLUSTER_BITS_MIN, QCOW_CLUSTER_BITS_MAX,
                    e) < 0 ||
        check_range("l2_bits", h->l2_bits, QCOW_L2_BITS_MIN, QCOW_L2_BITS_MAX, e) < 0)
        return -1;
    if (h->size > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "header: the virtual size of %" PRIu64 " bytes is too big",
                       h->size);
    return 0;
}

static int read_header(struct qcow *q, struct pl_err *e)
{
    uint8_t raw[QCOW_HEADER_BYTES];

    if (q->file_size < sizeof raw)
        return pl_fail(e, PL_E_CORRUPT, "header: the file ends inside it, after %" PRIu64 " bytes",
                       q->file_size);
    if (pl_storage_read(q->file, 0, raw, sizeof raw, e) < 0)
        return -1;
    pl_fields_decode(header_fields, raw, sizeof raw, &q->header);
    return check_header(&q->header, e);
}

static int read_l1(struct qcow *q, struct pl_err *e)
{
    const struct qcow_header *h = &q->header;
    uint64_t bytes;

    q->l1_size = pl_div_up(h->size, UINT64_C(1) << (h->cluster_bits + h->l2_bits));
    bytes = q->l1_size * 8; /* the size is below 2^63 and an entry stands for 2^15 bytes at least */
    if (bytes > QCOW_L1_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "L1 table: a disk of %" PRIu64 " bytes needs %" PRIu64
                       " entries, more than the limit of %" PRIu64,
                       h->size, q->l1_size, QCOW_L1_BYTES_MAX / 8);
    if (!pl_inside(h->l1_table_offset, bytes, q->file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "L1 table: [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of the file "
                       "(0x%" PRIx64 ")",
                       h->l1_table_offset, bytes, q->file_size);
    q->l1 = calloc(q->l1_size ? q->l1_size : 1, 8);
    if (!q->l1)
        return pl_fail(e, PL_E_NOMEM, "L1 table: no memory for %" PRIu64 " entries", q->l1_size);
    if (pl_storage_read(q->file, h->l1_table_offset, q->l1, bytes, e) < 0)
        return pl_within(e, "L1 table");
    for (uint64_t i = 0; i < q->l1_size; i++)
        q->l1[i] = load_be64(&q->l1[i]);
    return 0;
}

/* *name is the caller's to free; null: no parent. */
static int read_parent_name(const struct qcow *q, char **name, struct pl_err *e)
{
    const struct qcow_header *h = &q->header;
    char text[QCOW_NAME_MAX + 1] = { 0 };

    *name = NULL;
    if (h->backing_file_offset == 0 || h->backing_file_size == 0)
        return 0;
    if (h->backing_file_size > QCOW_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "header: a backing file name of %" PRIu32 " bytes (limit: %d)",
                       h->backing_file_size, QCOW_NAME_MAX);
    if (pl_storage_read(q->file, h->backing_file_offset, text, h->backing_file_size, e) < 0)
        return pl_within(e, "backing file name");
    if (text[0] == '\0')
        return 0;
    *name = strdup(text);
    return *name ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for the backing file name");
}

static void qcow_close(void *state)
{
    struct qcow *q = state;

    free(q->l1);
    free(q);
}

static int qcow_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct qcow *q;
    char *parent_name;

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a qcow image");
    q = calloc(1, sizeof *q);
    if (!q)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    q->file = args->file;
    q->file_size = pl_storage_size(q->file);
    if (read_header(q, e) < 0 || read_l1(q, e) < 0 || read_parent_name(q, &parent_name, e) < 0) {
        qcow_close(q);
        return -1;
    }
    *layer = (struct pl_layer){
        .state = q,
        .size = q->header.size,
        .granule = UINT32_C(1) << q->header.cluster_bits,
        .cluster_size = UINT32_C(1) << q->header.cluster_bits,
        .codec = &pl_codec_deflate,
        .unit_len = UINT32_C(1) << q->header.cluster_bits,
        .parent_name = parent_name,
    };
    return 0;
}

/* How many L2 tables from L1 index `first` on, at most up to `last`, are missing. */
static uint64_t missing_tables(const struct qcow *q, uint64_t first, uint64_t last)
{
    uint64_t i = first;

    while (i <= last && !q->l1[i])
        i++;
    return i - first;
}

/* Reads `count` L2 entries from the one of guest cluster `cluster` on, in host order. */
static int read_entries(const struct qcow *q, uint64_t cluster, uint32_t count, uint64_t *entries,
                        struct pl_err *e)
{
    const uint64_t i = cluster >> q->header.l2_bits;
    const uint64_t bytes = UINT64_C(8) << q->header.l2_bits;
    const uint64_t skip = 8 * (cluster & ((UINT64_C(1) << q->header.l2_bits) - 1));

    if (!pl_inside(q->l1[i], bytes, q->file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "L1 entry %" PRIu64 ": L2 table at 0x%" PRIx64
                       " is past the end of the file (0x%" PRIx64 ")",
                       i, q->l1[i], q->file_size);
    if (pl_storage_read(q->file, q->l1[i] + skip, entries, 8 * (size_t)count, e) < 0)
        return pl_within(e, "L2 table");
    for (uint32_t k = 0; k < count; k++)
        entries[k] = load_be64(&entries[k]);
    return 0;
}

static int set_packed(const struct qcow *q, uint64_t entry, uint64_t cluster, struct pl_extent *out,
                      struct pl_err *e)
{
    const unsigned bits = q->header.cluster_bits;

    out->state = PL_PACKED;
    out->codec = &pl_codec_deflate;
    out->st = q->file;
    out->off = entry & ((UINT64_C(1) << (63 - bits)) - 1);
    out->packed_len = (uint32_t)(entry >> (63 - bits)) & ((UINT32_C(1) << bits) - 1);
    out->unit_at = cluster << bits;
    out->unit_len = UINT32_C(1) << bits;
    if (out->packed_len == 0 || !pl_inside(out->off, out->packed_len, q->file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "L2 entry 0x%016" PRIx64 " of guest cluster %" PRIu64
                       ": its compressed cluster is not inside the file",
                       entry, cluster);
    return 0;
}

/* Whether the entry continues a run of plain clusters, of which the first is at `off` (0: missing).
 */
static bool continues(const struct qcow *q, uint64_t entry, uint64_t off, uint64_t clusters)
{
    if (off == 0)
        return entry == 0;
    return entry == off + (clusters << q->header.cluster_bits) && entry < q->file_size;
}

static int set_plain(const struct qcow *q, uint64_t entry, uint64_t cluster, struct pl_extent *out,
                     struct pl_err *e)
{
    if (entry >= q->file_size)
        return pl_fail(e, PL_E_CORRUPT,
                       "L2 entry 0x%016" PRIx64 " of guest cluster %" PRIu64
                       ": its cluster is past the end of the file (0x%" PRIx64 ")",
                       entry, cluster, q->file_size);
    if (entry == 0)
        return 0;
    out->state = PL_DATA;
    out->st = q->file;
    out->off = entry;
    return 0;
}

/* The run at the first of `count` entries; *clusters of them. */
static int set_run(const struct qcow *q, const uint64_t *entries, uint32_t count, uint64_t cluster,
                   struct pl_extent *out, struct pl_err *e)
{
    uint64_t clusters = 1;

    if (entries[0] & QCOW_PACKED) {
        if (set_packed(q, entries[0], cluster, out, e) < 0)
            return -1;
    } else {
        if (set_plain(q, entries[0], cluster, out, e) < 0)
            return -1;
        while (clusters < count && continues(q, entries[clusters], entries[0], clusters))
            clusters++;
    }
    out->len = clusters << q->header.cluster_bits;
    return 0;
}

static int qcow_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    const struct qcow *q = state;
    const unsigned bits = q->header.cluster_bits;
    const uint64_t cluster = at >> bits;
    const uint64_t last = (at + len - 1) >> bits;
    const uint64_t inside = at & ((UINT64_C(1) << bits) - 1);
    const uint64_t l1_index = cluster >> q->header.l2_bits;
    const uint64_t missing = missing_tables(q, l1_index, last >> q->header.l2_bits);
    uint64_t entries[ENTRIES_MAX] = { 0 };
    uint32_t count;

    *out = (struct pl_extent){ .state = PL_PARENT };
    if (missing > 0) {
        out->len = PL_MIN(len, (((l1_index + missing) << q->header.l2_bits) << bits) - at);
        return 0;
    }
    count = (uint32_t)PL_MIN(last - cluster + 1, ENTRIES_MAX);
    count = (uint32_t)PL_MIN(count, ((l1_index + 1) << q->header.l2_bits) - cluster);
    if (read_entries(q, cluster, count, entries, e) < 0 ||
        set_run(q, entries, count, cluster, out, e) < 0)
        return -1;
    if (out->state == PL_DATA)
        out->off += inside;
    out->len = PL_MIN(len, out->len - inside);
    return 0;
}

extern const struct pl_driver pl_qcow;
const struct pl_driver pl_qcow = {
    .name = "qcow",
    .spec = "QEMU, block/qcow.c",
    .probe = qcow_probe,
    .open = qcow_open,
    .map = qcow_map,
    .close = qcow_close,
};
