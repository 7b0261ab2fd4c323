/* layout.h - the structures of a VHDX file.
 *
 * Specification: [MS-VHDX] Virtual Hard Disk v2 (VHDX) File Format.  All numbers are
 * little-endian; GUIDs are stored as Microsoft stores them.  Field names are the specification's.
 *
 *   0         file type identifier        64 KiB, 128 KiB   headers
 *   192 KiB   region table                256 KiB           its copy
 *   1 MiB and after, in any order: log, BAT region, metadata region, blocks */
#ifndef PL_FORMATS_VHDX_LAYOUT_H
#define PL_FORMATS_VHDX_LAYOUT_H

#include "core/base/checked.h"
#include "core/base/fields.h"

#define VHDX_UNIT PL_MIB             /* everything behind the headers is aligned to it */
#define VHDX_SECTOR 4096             /* unit of the log, and of changes that are logged */
#define VHDX_FILE_MAX (PL_TIB * 128) /* twice the largest disk: more is no honest offset */

/* ---- 2.2.1 file type identifier ---- */
#define VHDX_SIGNATURE "vhdxfile"
#define VHDX_CREATOR_AT 8
#define VHDX_CREATOR_BYTES 512 /* UTF-16 */

/* ---- 2.2.2 headers ---- */
#define VHDX_HEADER_AT(i) ((1 + (uint64_t)(i)) * 64 * PL_KIB)
#define VHDX_HEADER_BYTES 4096
#define VHDX_CHECKSUM_AT 4 /* in headers, region tables and log entries alike */
#define VHDX_VERSION 1
#define VHDX_LOG_VERSION 0

struct vhdx_header {
    uint8_t Signature[4]; /* "head" */
    uint32_t Checksum;
    uint64_t SequenceNumber;
    uint8_t FileWriteGuid[16], DataWriteGuid[16];
    uint8_t LogGuid[16]; /* zero: the log is empty */
    uint16_t LogVersion, Version;
    uint32_t LogLength;
    uint64_t LogOffset;
};

/* ---- 2.2.3 region table ---- */
#define VHDX_REGION_TABLE_AT(i) ((3 + (uint64_t)(i)) * 64 * PL_KIB)
#define VHDX_REGION_TABLE_BYTES (64 * PL_KIB)
#define VHDX_REGION_ENTRIES_AT 16
#define VHDX_REGION_ENTRY_BYTES 32
#define VHDX_REGION_ENTRIES_MAX 2047
#define VHDX_REGION_REQUIRED 1u
#define VHDX_HEADERS_END (5 * 64 * PL_KIB) /* the copy of the region table ends there */

struct vhdx_region_entry {
    uint8_t Guid[16];
    uint64_t FileOffset;
    uint32_t Length, Required;
};

/* ---- 2.3 log ---- */
#define VHDX_LOG_ENTRY_HEADER_BYTES 64
#define VHDX_LOG_DESCRIPTOR_BYTES 32
#define VHDX_LOG_IN_USE_MAX (64 * PL_MIB) /* a log to replay is held in memory; 1 MiB is usual */

struct vhdx_log_entry {
    uint8_t signature[4]; /* "loge" */
    uint32_t Checksum, EntryLength, Tail;
    uint64_t SequenceNumber;
    uint32_t DescriptorCount, Reserved;
    uint8_t LogGuid[16];
    uint64_t FlushedFileOffset, LastFileOffset;
};

/* Both kinds: a "zero" one has ZeroLength where a "desc" one has LeadingBytes. */
struct vhdx_log_descriptor {
    uint8_t Signature[4];
    uint8_t TrailingBytes[4]; /* the last bytes of the sector */
    uint8_t LeadingBytes[8];  /* its first bytes */
    uint64_t FileOffset, SequenceNumber;
};

/* A data sector: "data", the high half of the sequence number, the bytes between leading and
 * trailing ones, the low half. */
#define VHDX_LOG_DATA_HIGH_AT 4
#define VHDX_LOG_DATA_AT 8
#define VHDX_LOG_DATA_LOW_AT 4092

/* ---- 2.5 BAT ---- */
#define VHDX_BAT_STATE(entry) ((unsigned)(entry)&7)
#define VHDX_BAT_OFFSET(entry) ((entry) & ~(VHDX_UNIT - 1))
#define VHDX_BAT_RESERVED UINT64_C(0xffff8)

enum vhdx_block_state {
    VHDX_NOT_PRESENT = 0,
    VHDX_UNDEFINED = 1,
    VHDX_ZERO = 2,
    VHDX_UNMAPPED = 3,
    VHDX_FULLY_PRESENT = 6,    /* also of a sector bitmap block */
    VHDX_PARTIALLY_PRESENT = 7 /* differencing: the sector bitmap says which sectors */
};

#define VHDX_BITMAP_BLOCK_BYTES PL_MIB
#define VHDX_BITMAP_BITS (8 * VHDX_BITMAP_BLOCK_BYTES) /* sectors of one chunk */

/* ---- 2.6 metadata ---- */
#define VHDX_METADATA_TABLE_BYTES (64 * PL_KIB)
#define VHDX_METADATA_ENTRIES_AT 32
#define VHDX_METADATA_ENTRY_BYTES 32
#define VHDX_METADATA_ENTRIES_MAX 2047
#define VHDX_ITEM_IS_USER 1u
#define VHDX_ITEM_IS_VIRTUAL_DISK 2u
#define VHDX_ITEM_IS_REQUIRED 4u
#define VHDX_LEAVE_BLOCKS_ALLOCATED 1u
#define VHDX_HAS_PARENT 2u
#define VHDX_BLOCK_SIZE_MIN PL_MIB
#define VHDX_BLOCK_SIZE_MAX (256 * PL_MIB)
#define VHDX_DISK_MAX (64 * PL_TIB)

struct vhdx_metadata_entry {
    uint8_t ItemId[16];
    uint32_t Offset, Length, Flags;
};

/* ---- 2.6.2.6 parent locator ---- */
#define VHDX_LOCATOR_HEADER_BYTES 20
#define VHDX_LOCATOR_ENTRY_BYTES 12
#define VHDX_LOCATOR_BYTES_MAX (64 * PL_KIB)

extern const struct pl_field vhdx_header_fields[];
extern const struct pl_field vhdx_region_entry_fields[];
extern const struct pl_field vhdx_log_entry_fields[];
extern const struct pl_field vhdx_log_descriptor_fields[];
extern const struct pl_field vhdx_metadata_entry_fields[];

/* The GUIDs of regions and metadata items, as the bytes of a file have them. */
extern const uint8_t vhdx_guid_bat[16], vhdx_guid_metadata[16];
extern const uint8_t vhdx_guid_file_parameters[16], vhdx_guid_disk_size[16];
extern const uint8_t vhdx_guid_disk_id[16], vhdx_guid_logical_sector[16];
extern const uint8_t vhdx_guid_physical_sector[16], vhdx_guid_parent_locator[16];
extern const uint8_t vhdx_guid_vhdx_locator[16];

#endif
