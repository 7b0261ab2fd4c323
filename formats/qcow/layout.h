/* layout.h - qcow version 1 on disk.
 *
 * There is no specification; the fields are those of QEMU's driver for it, with its names and
 * limits.  All numbers are big endian.
 *
 * A guest address is cut into L1 index, L2 index (l2_bits) and offset in the cluster
 * (cluster_bits).  L1 entries are byte offsets of L2 tables, L2 entries byte offsets of clusters;
 * 0: the parent's.  An L2 entry with bit 63 is a raw deflate stream: its length in bytes lies in
 * the cluster_bits bits below bit 63, its byte offset in the bits below those. */
#ifndef PL_FORMATS_QCOW_LAYOUT_H
#define PL_FORMATS_QCOW_LAYOUT_H

#include "core/base/fields.h"

#define QCOW_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */
#define QCOW_VERSION 1

/* The header in host order. */
struct qcow_header {
    uint32_t magic;
    uint32_t version;
    uint64_t backing_file_offset; /* 0: none */
    uint32_t backing_file_size;
    uint32_t mtime; /* of the backing file; never checked by anything */
    uint64_t size;
    uint8_t cluster_bits;
    uint8_t l2_bits;
    uint16_t padding;
    uint32_t crypt_method; /* 1: AES */
    uint64_t l1_table_offset;
};
#define QCOW_HEADER_BYTES 48

#define QCOW_CLUSTER_BITS_MIN 9
#define QCOW_CLUSTER_BITS_MAX 16
#define QCOW_L2_BITS_MIN 6
#define QCOW_L2_BITS_MAX 13
#define QCOW_NAME_MAX 1023
/* Our own limit: 8 TiB of disk with the clusters of 4 KiB that QEMU makes. */
#define QCOW_L1_BYTES_MAX (UINT64_C(32) << 20)

#define QCOW_PACKED (UINT64_C(1) << 63)

#endif
