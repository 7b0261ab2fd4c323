/* layout.h - VHD on disk: constants, fields and limits.
 *
 * Specification: Microsoft, Virtual Hard Disk Image Format Specification, version 1.0 (2006); the
 * section is named at each group.  All numbers are big endian. */
#ifndef PL_FORMATS_VHD_LAYOUT_H
#define PL_FORMATS_VHD_LAYOUT_H

#include "core/base/checked.h"
#include "core/base/fields.h"

#define VHD_SECTOR 512
#define VHD_VERSION UINT32_C(0x00010000) /* of footer and header; the upper half is the major one */

/* ---- "Hard Disk Footer Format" ---- */
#define VHD_FOOTER_BYTES 512
#define VHD_OLD_FOOTER_BYTES 511 /* Virtual PC before 2004 left the last byte out */
#define VHD_COOKIE "conectix"
#define VHD_FEATURE_RESERVED UINT32_C(2) /* always set */
#define VHD_NO_OFFSET UINT64_MAX         /* data_offset of a fixed disk and of every header */
#define VHD_EPOCH                                                                                  \
    INT64_C(946684800) /* 2000-01-01 00:00 UTC, from which times count, in Unix time */

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

/* The footer in host order. */
struct vhd_footer {
    char cookie[8];
    uint32_t features, file_format_version;
    uint64_t data_offset; /* of the dynamic header */
    uint32_t time_stamp;  /* seconds since VHD_EPOCH */
    char creator_application[4];
    uint32_t creator_version;
    char creator_host_os[4];
    uint64_t original_size, current_size; /* bytes */
    uint16_t cylinders;
    uint8_t heads, sectors_per_track;
    uint32_t disk_type; /* enum vhd_type */
    uint32_t checksum;
    uint8_t unique_id[16];
    uint8_t saved_state; /* 1: the machine was suspended with it */
};

/* The table for struct vhd_footer; footer.c. */
extern const struct pl_field vhd_footer_fields[];

#define VHD_CHECKSUM_AT 64 /* byte offset of the footer's checksum */

/* ---- "CHS Calculation" ---- */
#define VHD_CYLINDERS_MAX 65535
#define VHD_HEADS_MAX 16
#define VHD_TRACK_MAX 255
/* Larger disks have this geometry, which then says nothing about their size. */
#define VHD_GEOMETRY_SECTORS_MAX ((uint64_t)VHD_CYLINDERS_MAX * VHD_HEADS_MAX * VHD_TRACK_MAX)

/* ---- "Dynamic Disk Header Format" ---- */
#define VHD_HEADER_AT VHD_FOOTER_BYTES /* where everybody puts it; the footer says where it is */
#define VHD_HEADER_BYTES 1024
#define VHD_HEADER_COOKIE "cxsparse"
#define VHD_HEADER_CHECKSUM_AT 36
#define VHD_NAME_BYTES 512
#define VHD_LOCATORS 8
#define VHD_LOCATORS_AT 576
#define VHD_LOCATOR_BYTES 24

/* The dynamic header in host order, without its locators. */
struct vhd_header {
    char cookie[8];
    uint64_t data_offset, table_offset; /* table: the BAT */
    uint32_t header_version, max_table_entries;
    uint32_t block_size; /* guest bytes */
    uint32_t checksum;
    uint8_t parent_unique_id[16];
    uint32_t parent_time_stamp;
    uint8_t parent_unicode_name[VHD_NAME_BYTES]; /* UTF-16, big endian */
};

/* The table for struct vhd_header; header.c. */
extern const struct pl_field vhd_header_fields[];

/* A parent locator entry in host order. */
struct vhd_locator {
    char platform_code[4];
    uint32_t platform_data_space; /* sectors says the specification, bytes say all writers */
    uint32_t platform_data_length;
    uint64_t platform_data_offset;
};

/* The table for struct vhd_locator; locator.c. */
extern const struct pl_field vhd_locator_fields[];

/* ---- "Block Allocation Table and Data Blocks" ---- */
#define VHD_UNUSED UINT32_C(0xffffffff) /* a BAT entry without a block; others are sectors */
#define VHD_BLOCK_DEFAULT (2u << 20)

/* Of XenServer, not in the specification: behind the BAT a sector with that cookie, and behind it a
 * map of the blocks that have all their sectors.  Its programs look for it in disks that they made,
 * and believe it. */
#define VHD_BATMAP_COOKIE "tdbatmap"
#define VHD_CREATOR_XEN "tap"

/* Limits.  A block has one sector at least.  Nobody makes blocks of more than 256 MiB, which have
 * bitmaps of 64 KiB. */
#define VHD_BLOCK_MIN VHD_SECTOR
#define VHD_BLOCK_MAX (256u << 20)
/* The BAT is kept in memory: 64 MiB, for 2040 GiB in blocks of 128 KiB. */
#define VHD_ENTRIES_MAX (16u << 20)
/* The largest disk: 0xff000000 sectors, so that the sectors of its file fit into BAT entries. */
#define VHD_SIZE_MAX (2040 * PL_GIB)
/* The longest path of Windows, 32767 characters. */
#define VHD_LOCATOR_DATA_MAX 65536

#endif
