/* header.c - the header, its extensions and the parent's name: cluster 0 of the file.
 *
 * Specification: docs/interop/qcow2.rst, "Header" and "Header extensions".
 *
 * Reading checks every number that can be checked without another read.  Writing keeps what it does
 * not know: bytes of a longer header, unknown extensions, the feature name table.  The parts are
 * written in the order in which QEMU writes them, so a header that QEMU made keeps its layout, and
 * a change of a field or a feature bit changes the first sector alone: it cannot be torn. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/extensions.h"
#include "formats/qcow2/qcow2.h"

/* Tables are cached in slices.  A writer takes small ones, so that a table with few entries stays a
 * hole in the file for the most part; a reader walks tables from end to end. */
#define SLICE_WRITER_MAX 4096

#define FIELD(type, at, name) PL_FIELD(struct qcow2_header, type, at, name)

const struct pl_field qcow2_header_fields[] = {
    FIELD(PL_BE32, 0, magic),
    FIELD(PL_BE32, 4, version),
    FIELD(PL_BE64, 8, backing_file_offset),
    FIELD(PL_BE32, 16, backing_file_size),
    FIELD(PL_BE32, 20, cluster_bits),
    FIELD(PL_BE64, 24, size),
    FIELD(PL_BE32, 32, crypt_method),
    FIELD(PL_BE32, 36, l1_size),
    FIELD(PL_BE64, 40, l1_table_offset),
    FIELD(PL_BE64, 48, refcount_table_offset),
    FIELD(PL_BE32, 56, refcount_table_clusters),
    FIELD(PL_BE32, 60, nb_snapshots),
    FIELD(PL_BE64, 64, snapshots_offset),
    FIELD(PL_BE64, 72, incompatible_features),
    FIELD(PL_BE64, 80, compatible_features),
    FIELD(PL_BE64, 88, autoclear_features),
    FIELD(PL_BE32, 96, refcount_order),
    FIELD(PL_BE32, 100, header_length),
    FIELD(PL_U8, 104, compression_type),
    { 0 },
};

static int check_version(const struct qcow2_header *h, struct pl_err *e)
{
    if (h->magic != QCOW2_MAGIC)
        return pl_fail(e, PL_E_FORMAT, "not a qcow2 file: magic 0x%08" PRIx32, h->magic);
    if (h->version == 1)
        return pl_fail(e, PL_E_FORMAT, "this is a qcow file of version 1, not qcow2");
    if (h->version != 2 && h->version != 3)
        return pl_fail(e, PL_E_UNSUPPORTED, "qcow2 version %" PRIu32 " (known: 2 and 3)",
                       h->version);
    return 0;
}

static int check_cluster_bits(const struct qcow2_header *h, struct pl_err *e)
{
    if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN)
        return pl_fail(e, PL_E_CORRUPT, "header: cluster_bits %" PRIu32 " is less than %d",
                       h->cluster_bits, QCOW2_CLUSTER_BITS_MIN);
    if (h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return pl_fail(e, PL_E_LIMIT, "header: cluster_bits %" PRIu32 " is more than %d",
                       h->cluster_bits, QCOW2_CLUSTER_BITS_MAX);
    return 0;
}

static int check_header_length(const struct qcow2_header *h, struct pl_err *e)
{
    if (h->header_length < QCOW2_V3_HEADER_LENGTH || h->header_length % 8 != 0 ||
        h->header_length > UINT32_C(1) << h->cluster_bits)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: header_length %" PRIu32 " is not a multiple of 8 from %d to the "
                       "cluster size",
                       h->header_length, QCOW2_V3_HEADER_LENGTH);
    return 0;
}

/* Reads the fields and what decides where everything else is. */
static int read_fields(struct qcow2 *q, struct pl_err *e)
{
    struct qcow2_header *h = &q->header;
    uint8_t raw[QCOW2_HEADER_LENGTH] = { 0 };
    const size_t len = PL_MIN(sizeof raw, pl_storage_size(q->file));

    if (pl_storage_read(q->file, 0, raw, len, e) < 0)
        return -1;
    pl_fields_decode(qcow2_header_fields, raw, sizeof raw, h);
    if (check_version(h, e) < 0)
        return -1;
    if (len < (h->version == 2 ? QCOW2_V2_HEADER_LENGTH : QCOW2_V3_HEADER_LENGTH))
        return pl_fail(e, PL_E_CORRUPT, "header: the file ends inside it, after %zu bytes", len);
    if (check_cluster_bits(h, e) < 0)
        return -1;
    if (h->version == 3) {
        if (check_header_length(h, e) < 0)
            return -1;
        /* again, for a field that a shorter header does not have must count as 0 */
        pl_fields_decode(qcow2_header_fields, raw, PL_MIN(sizeof raw, h->header_length), h);
        return 0;
    }
    pl_fields_decode(qcow2_header_fields, raw, QCOW2_V2_HEADER_LENGTH, h);
    h->refcount_order = QCOW2_REFCOUNT_ORDER_V2;
    h->header_length = QCOW2_V2_HEADER_LENGTH;
    return 0;
}

/* The name that the image's own table gives an incompatible feature, made printable; else a number.
 */
static void feature_name(const struct qcow2 *q, unsigned bit, char name[static 64])
{
    const struct qcow2_extension *x = qcow2_extension(q, QCOW2_EXT_FEATURE_NAMES);

    snprintf(name, 64, "incompatible feature bit %u", bit);
    for (uint32_t at = 0; x && at + QCOW2_FEATURE_BYTES <= x->len; at += QCOW2_FEATURE_BYTES) {
        const uint8_t *entry = x->data + at;

        if (entry[0] != QCOW2_FEATURE_INCOMPATIBLE || entry[1] != bit || entry[2] == '\0')
            continue;
        snprintf(name, 64, "\"%.*s\"", QCOW2_FEATURE_NAME_BYTES, (const char *)entry + 2);
        for (char *p = name; *p; p++)
            if (!isprint((unsigned char)*p))
                *p = '?';
        return;
    }
}

static int check_features(const struct qcow2 *q, struct pl_err *e)
{
    const uint64_t unknown = q->header.incompatible_features & ~QCOW2_INCOMPAT_KNOWN;
    char name[64];

    if (!unknown)
        return 0;
    feature_name(q, (unsigned)__builtin_ctzll(unknown), name);
    pl_fail(e, PL_E_UNSUPPORTED, "the image uses the feature %s, which platter does not know",
            name);
    return pl_hint(e, "all unknown incompatible features: 0x%" PRIx64, unknown);
}

static int check_encryption(const struct qcow2_header *h, struct pl_err *e)
{
    if (h->crypt_method == QCOW2_CRYPT_NONE)
        return 0;
    if (h->crypt_method > QCOW2_CRYPT_LUKS)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: unknown crypt_method %" PRIu32,
                       h->crypt_method);
    return pl_fail(e, PL_E_UNSUPPORTED, "the image is encrypted (%s)",
                   h->crypt_method == QCOW2_CRYPT_LUKS ? "LUKS" : "AES");
}

static int check_compression(const struct qcow2_header *h, struct pl_err *e)
{
    const bool flagged = h->incompatible_features & QCOW2_INCOMPAT_COMPRESSION;

    if (flagged != (h->compression_type != QCOW2_COMPRESSION_ZLIB))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: compression_type %u contradicts the compression type bit",
                       h->compression_type);
    if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: unknown compression_type %u",
                       h->compression_type);
    return 0;
}

static int check_size(const struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_header *h = &q->header;
    const uint64_t per_table = (uint64_t)q->l2_entries << q->cluster_bits;

    if (h->size > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "header: the virtual size of %" PRIu64 " bytes is too big",
                       h->size);
    if (h->l1_size > QCOW2_L1_BYTES_MAX / 8)
        return pl_fail(e, PL_E_LIMIT, "header: l1_size %" PRIu32 " is more than %" PRIu32,
                       h->l1_size, QCOW2_L1_BYTES_MAX / 8);
    if (pl_div_up(h->size, per_table) > h->l1_size)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: an L1 table of %" PRIu32 " entries is too small for a disk of "
                       "%" PRIu64 " bytes",
                       h->l1_size, h->size);
    return 0;
}

static int check_tables(const struct qcow2_header *h, struct pl_err *e)
{
    if (h->refcount_table_clusters > QCOW2_REFCOUNT_TABLE_BYTES_MAX >> h->cluster_bits)
        return pl_fail(e, PL_E_LIMIT,
                       "header: a refcount table of %" PRIu32 " clusters is more than %" PRIu32
                       " bytes",
                       h->refcount_table_clusters, QCOW2_REFCOUNT_TABLE_BYTES_MAX);
    if (h->nb_snapshots > QCOW2_SNAPSHOTS_MAX)
        return pl_fail(e, PL_E_LIMIT, "header: %" PRIu32 " snapshots are more than %d",
                       h->nb_snapshots, QCOW2_SNAPSHOTS_MAX);
    return 0;
}

int qcow2_derive(struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_header *h = &q->header;
    const bool extended = h->incompatible_features & QCOW2_INCOMPAT_EXTL2;

    if (check_cluster_bits(h, e) < 0 || check_compression(h, e) < 0)
        return -1;
    if (extended && h->cluster_bits < QCOW2_EXTL2_CLUSTER_BITS_MIN)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: extended L2 entries need clusters of 16 KiB or more, not of %u",
                       1u << h->cluster_bits);
    if (h->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
        return pl_fail(e, PL_E_CORRUPT, "header: refcount_order %" PRIu32 " is more than %d",
                       h->refcount_order, QCOW2_REFCOUNT_ORDER_MAX);
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = UINT32_C(1) << h->cluster_bits;
    q->l2_entry_size = extended ? 16 : 8;
    q->l2_entries = q->cluster_size / q->l2_entry_size;
    q->l2_bits = pl_log2(q->l2_entries);
    q->subclusters = extended ? QCOW2_SUBCLUSTERS : 1;
    q->subcluster_size = q->cluster_size / q->subclusters;
    q->slice = PL_MIN(q->cluster_size, q->writable ? SLICE_WRITER_MAX : QCOW2_SLICE_MAX);
    q->refcount_bits = 1u << h->refcount_order;
    q->refcount_max = UINT64_MAX >> (64 - q->refcount_bits);
    q->refcounts_per_block = (q->cluster_size * 8) >> h->refcount_order;
    q->codec = h->compression_type == QCOW2_COMPRESSION_ZSTD ? &pl_codec_zstd : &pl_codec_deflate;
    return 0;
}

static int read_parent_name(struct qcow2 *q, struct pl_err *e)
{
    const struct qcow2_header *h = &q->header;
    char name[QCOW2_NAME_MAX + 1] = { 0 };

    if (h->backing_file_offset == 0 || h->backing_file_size == 0)
        return 0;
    if (h->backing_file_size > QCOW2_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "header: a backing file name of %" PRIu32 " bytes (limit: %d)",
                       h->backing_file_size, QCOW2_NAME_MAX);
    if (h->backing_file_offset < h->header_length ||
        !pl_inside(h->backing_file_offset, h->backing_file_size, q->cluster_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: the backing file name at 0x%" PRIx64 " is not inside cluster 0",
                       h->backing_file_offset);
    if (pl_storage_read(q->file, h->backing_file_offset, name, h->backing_file_size, e) < 0)
        return pl_within(e, "backing file name");
    if (name[0] == '\0')
        return 0;
    q->parent_name = strdup(name);
    return q->parent_name ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for the backing file name");
}

int qcow2_read_header(struct qcow2 *q, struct pl_err *e)
{
    struct pl_err why;

    if (read_fields(q, e) < 0)
        return -1;
    /* a feature that platter does not know says more than the extension that it made odd */
    if (qcow2_read_extensions(q, &why) < 0) {
        if (check_features(q, e) < 0)
            return -1;
        if (e)
            *e = why;
        return -1;
    }
    if (check_features(q, e) < 0 || check_encryption(&q->header, e) < 0 || qcow2_derive(q, e) < 0 ||
        check_size(q, e) < 0 || check_tables(&q->header, e) < 0)
        return -1;
    return read_parent_name(q, e);
}

/* Puts the parent's name behind the extensions. */
static int put_parent_name(struct qcow2 *q, uint32_t limit, uint8_t *raw, uint32_t *used,
                           struct pl_err *e)
{
    const size_t len = q->parent_name ? strlen(q->parent_name) : 0;

    q->header.backing_file_offset = len ? *used : 0;
    q->header.backing_file_size = (uint32_t)len;
    if (len > QCOW2_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT, "a backing file name of %zu bytes (limit: %d)", len,
                       QCOW2_NAME_MAX);
    if (len > limit - PL_MIN(limit, *used)) {
        pl_fail(e, PL_E_LIMIT, "the backing file name does not fit into cluster 0");
        return pl_hint(e, "use a larger cluster_size or a shorter name");
    }
    memcpy(raw + *used, len ? q->parent_name : "", len);
    *used += (uint32_t)len;
    return 0;
}

int qcow2_encode_header(struct qcow2 *q, uint32_t name_at, uint32_t limit, uint8_t *raw,
                        uint32_t *used, struct pl_err *e)
{
    struct qcow2_header header;

    *used = q->header.header_length;
    if (qcow2_put_extensions(q, limit, raw, used, e) < 0)
        return -1;
    if (q->parent_name)
        *used = PL_MAX(*used, name_at);
    if (put_parent_name(q, limit, raw, used, e) < 0)
        return -1;
    header = q->header;
    if (q->size_waits)
        header.size = q->size_shown;
    pl_fields_encode(qcow2_header_fields, &header, raw, q->header.header_length);
    return 0;
}

int qcow2_write_header(struct qcow2 *q, struct pl_err *e)
{
    PL_FREE uint8_t *raw = calloc(1, q->cluster_size);
    uint32_t used;

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "header: no memory for a cluster");
    if (pl_storage_read_padded(q->file, 0, raw, q->header.header_length, e) < 0 ||
        qcow2_encode_header(q, 0, q->cluster_size, raw, &used, e) < 0)
        return -1;
    if (pl_storage_write(q->file, 0, raw, pl_round_up(used, QCOW2_SECTOR), e) < 0)
        return pl_within(e, "header");
    return 0;
}
