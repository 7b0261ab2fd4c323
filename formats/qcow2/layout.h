/* layout.h - qcow2 on disk: constants, fields and limits.
 *
 * Specification: QEMU, docs/interop/qcow2.rst; the section is named at each group.  All numbers are
 * big endian.  Limits not in the specification are QEMU's, so that no image passes here that a
 * virtual machine would refuse. */
#ifndef PL_FORMATS_QCOW2_LAYOUT_H
#define PL_FORMATS_QCOW2_LAYOUT_H

#include "core/base/fields.h"

/* ---- "Header" ---- */
#define QCOW2_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */
#define QCOW2_V2_HEADER_LENGTH 72
#define QCOW2_V3_HEADER_LENGTH 104 /* the least of version 3 */
#define QCOW2_HEADER_LENGTH 112    /* with compression_type: what is written */

/* The header in host order.  A field that the file is too short a version for is 0, except the two
 * that version 2 fixes: refcount_order 4, header_length 72. */
struct qcow2_header {
    uint32_t magic;
    uint32_t version;             /* 2 or 3 */
    uint64_t backing_file_offset; /* 0: none */
    uint32_t backing_file_size;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method; /* enum qcow2_crypt */
    uint32_t l1_size;      /* entries */
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible_features, compatible_features, autoclear_features;
    uint32_t refcount_order; /* log2 of the bits of a reference count */
    uint32_t header_length;
    uint8_t compression_type; /* enum qcow2_compression */
};

/* The table for struct qcow2_header, for 112 bytes; header.c. */
extern const struct pl_field qcow2_header_fields[];

enum qcow2_crypt { QCOW2_CRYPT_NONE = 0, QCOW2_CRYPT_AES = 1, QCOW2_CRYPT_LUKS = 2 };
enum qcow2_compression { QCOW2_COMPRESSION_ZLIB = 0, QCOW2_COMPRESSION_ZSTD = 1 };

/* incompatible_features */
#define QCOW2_INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define QCOW2_INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPAT_EXTL2 (UINT64_C(1) << 4)
#define QCOW2_INCOMPAT_KNOWN UINT64_C(0x1f)
/* compatible_features */
#define QCOW2_COMPAT_LAZY_REFCOUNTS (UINT64_C(1) << 0)
/* autoclear_features */
#define QCOW2_AUTOCLEAR_BITMAPS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (UINT64_C(1) << 1)
#define QCOW2_AUTOCLEAR_KNOWN UINT64_C(0x3)

/* Limits: QEMU's, but where the comment says otherwise. */
#define QCOW2_CLUSTER_BITS_MIN 9 /* the specification's */
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_CLUSTER_BITS_DEFAULT 16
#define QCOW2_EXTL2_CLUSTER_BITS_MIN 14 /* the specification's: subclusters of a sector */
#define QCOW2_REFCOUNT_ORDER_MAX 6      /* the specification's */
#define QCOW2_REFCOUNT_ORDER_V2 4
#define QCOW2_NAME_MAX 1023 /* of the backing file: the specification's */
#define QCOW2_L1_BYTES_MAX (UINT32_C(32) << 20)
#define QCOW2_REFCOUNT_TABLE_BYTES_MAX (UINT32_C(8) << 20)
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_SNAPSHOT_TABLE_BYTES_MAX (UINT32_C(64) << 20)
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024
#define QCOW2_BITMAPS_MAX 65535
#define QCOW2_BITMAP_NAME_MAX 1023
#define QCOW2_BITMAP_DIRECTORY_BYTES_MAX (UINT32_C(64) << 20)
#define QCOW2_BITMAP_TABLE_ENTRIES_MAX UINT32_C(0x8000000)
#define QCOW2_BITMAP_BYTES_MAX UINT64_C(0x20000000)
#define QCOW2_BITMAP_GRANULARITY_BITS_MIN 9
#define QCOW2_BITMAP_GRANULARITY_BITS_MAX 31
/* Unknown header extensions kept when a header is written anew; more than any writer makes. */
#define QCOW2_EXTENSIONS_MAX 256

/* ---- "Header extensions": type, length, data padded to 8 bytes ---- */
#define QCOW2_EXT_END UINT32_C(0)
#define QCOW2_EXT_BACKING_FORMAT UINT32_C(0xe2792aca)
#define QCOW2_EXT_FEATURE_NAMES UINT32_C(0x6803f857)
#define QCOW2_EXT_BITMAPS UINT32_C(0x23852875)
#define QCOW2_EXT_CRYPTO UINT32_C(0x0537be77)
#define QCOW2_EXT_DATA_FILE UINT32_C(0x44415441)
#define QCOW2_EXT_HEAD 8 /* bytes of type and length */

/* An entry of the feature name table: type, bit, name. */
#define QCOW2_FEATURE_BYTES 48
#define QCOW2_FEATURE_NAME_BYTES 46
enum qcow2_feature_type {
    QCOW2_FEATURE_INCOMPATIBLE = 0,
    QCOW2_FEATURE_COMPATIBLE = 1,
    QCOW2_FEATURE_AUTOCLEAR = 2,
};

/* "Bitmaps extension" */
struct qcow2_bitmaps_ext {
    uint32_t nb_bitmaps;
    uint32_t reserved;
    uint64_t bitmap_directory_size; /* bytes */
    uint64_t bitmap_directory_offset;
};
#define QCOW2_BITMAPS_EXT_BYTES 24
extern const struct pl_field qcow2_bitmaps_ext_fields[]; /* bitmaps.c */

/* ---- "Host cluster management" ---- */
#define QCOW2_REFCOUNT_TABLE_OFFSET_MASK UINT64_C(0xfffffffffffffe00)
#define QCOW2_REFCOUNT_TABLE_RESERVED UINT64_C(0x1ff)

/* ---- "Cluster mapping" ---- */
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* bits 9 - 55 of L1 and L2 entries */
#define QCOW2_COPIED (UINT64_C(1) << 63)               /* the reference count is exactly one */
#define QCOW2_PACKED (UINT64_C(1) << 62)               /* L2: a compressed cluster */
#define QCOW2_ALL_ZERO (UINT64_C(1) << 0) /* L2: reads as zeros; not with extended entries */
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
/* Bit 0 too in version 2 and with extended entries. */
#define QCOW2_L2_RESERVED UINT64_C(0x3f000000000001fe)
/* Of a cluster with an extended entry: bits 0 - 31 of the bitmap say allocated, 32 - 63 zero. */
#define QCOW2_SUBCLUSTERS 32
#define QCOW2_SLICE_MAX 65536 /* bytes of a table that are cached as one */
#define QCOW2_SECTOR 512      /* what a compressed cluster's length is counted in */
/* The offset field of a compressed cluster has 70 - cluster_bits bits, the sector count the rest up
 * to bit 61. */
#define QCOW2_PACKED_OFFSET_BITS(cluster_bits) (62 - ((cluster_bits)-8))

/* ---- "Snapshots": a table entry, before its extra data, id and name ---- */
struct qcow2_snapshot_entry {
    uint64_t l1_table_offset;
    uint32_t l1_size;
    uint16_t id_str_size, name_size;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint32_t vm_state_size; /* of old images: 32 bits */
    uint32_t extra_data_size;
    uint64_t vm_state_size_large; /* extra data: 8 bytes ... */
    uint64_t disk_size;           /* ... 16 ... */
    uint64_t icount;              /* ... 24 */
};
#define QCOW2_SNAPSHOT_ENTRY_BYTES 40
#define QCOW2_SNAPSHOT_EXTRA_BYTES 24                       /* of extra data that are known */
extern const struct pl_field qcow2_snapshot_entry_fields[]; /* snapshots.c */

/* ---- "Bitmaps": a directory entry, before its extra data and name ---- */
struct qcow2_bitmap_entry {
    uint64_t bitmap_table_offset;
    uint32_t bitmap_table_size; /* entries */
    uint32_t flags;
    uint8_t type;
    uint8_t granularity_bits;
    uint16_t name_size;
    uint32_t extra_data_size;
};
#define QCOW2_BITMAP_ENTRY_BYTES 24
extern const struct pl_field qcow2_bitmap_entry_fields[]; /* bitmaps.c */
#define QCOW2_BITMAP_IN_USE UINT32_C(1)
#define QCOW2_BITMAP_AUTO UINT32_C(2)
#define QCOW2_BITMAP_EXTRA_COMPATIBLE UINT32_C(4)
#define QCOW2_BITMAP_FLAGS_RESERVED UINT32_C(0xfffffff8)
#define QCOW2_BITMAP_TYPE_DIRTY 1
/* Bitmap table entries */
#define QCOW2_BITMAP_ALL_ONES (UINT64_C(1) << 0) /* where the offset is 0 */
#define QCOW2_BITMAP_TABLE_RESERVED UINT64_C(0xff000000000001fe)

#endif
