/* layout.h - sparse extents on disk.  All numbers are little endian; offsets, sizes and entries
 * count sectors of 512 bytes.
 *
 * Specification: VMware, "Virtual Disk Format 5.0" (technical note), sections
 *   "Hosted Sparse Extents"                 header, grain directories, grain tables, zeroed grains
 *   "ESXi Host Sparse Extents"              COWD
 *   "Stream-Optimized Compressed ..."       compressed grains, markers, the footer
 *
 * A hosted sparse extent as VMware's tools write it: header, descriptor, redundant grain directory
 * and its tables, grain directory and its tables; the grains from overHead on.  A COWD extent:
 * header, grain directory, then tables and grains in the order in which they came to be.
 *
 * A streamOptimized file, as it is written here, everything at a sector:
 *
 *   header         gdOffset says "at the end"
 *   descriptor     text, padded with zeros; then zeros up to overHead
 *   grains         in guest order: a marker and a zlib stream, padded with zeros
 *   grain table    after the last of its grains: a marker sector, then 512 entries
 *   ... more grains and tables; a table without grains is left out ...
 *   directory      a marker sector, then an entry a grain table
 *   footer         a marker sector, then the header again, now with the directory's place
 *   end of stream  a sector of zeros, the last one of the file
 *
 * There an entry of a grain table is the place of the grain's marker, one of the directory that of
 * the table behind its marker. */
#ifndef PL_FORMATS_VMDK_LAYOUT_H
#define PL_FORMATS_VMDK_LAYOUT_H

#include "core/base/fields.h"

/* An entry is a sector number of 32 bits: nothing lies behind 2 TiB of the file. */
#define VMDK_FILE_MAX (UINT64_C(1) << 41)
#define VMDK_ENTRY_BYTES 4u

/* A grain table entry of 0 says nothing; one of 1, with the flag for it, says zeros. */
#define VMDK_ENTRY_NONE 0u
#define VMDK_ENTRY_ZEROED 1u

/* ---- SparseExtentHeader: "Hosted Sparse Extents" ---- */
#define VMDK_MAGIC UINT32_C(0x564d444b) /* "KDMV" */
#define VMDK_HEADER_BYTES 512u
#define VMDK_VERSION_MAX 3
#define VMDK_GD_AT_END UINT64_MAX /* gdOffset: look in the footer */
#define VMDK_COMPRESSION_NONE 0
#define VMDK_COMPRESSION_DEFLATE 1

#define VMDK_FLAG_NEWLINE_TEST (UINT32_C(1) << 0)
#define VMDK_FLAG_REDUNDANT (UINT32_C(1) << 1) /* rgdOffset is valid */
#define VMDK_FLAG_ZEROED_GRAIN (UINT32_C(1) << 2)
#define VMDK_FLAG_COMPRESSED (UINT32_C(1) << 16)
#define VMDK_FLAG_MARKERS (UINT32_C(1) << 17)
/* A flag of the upper half changes how grains are read: one that is not known here is refused.  The
 * lower half is about what a reader may leave out. */
#define VMDK_FLAGS_UNKNOWN (UINT32_C(0xffff0000) & ~(VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS))

struct vmdk_header {
    uint32_t magicNumber;
    uint32_t version;
    uint32_t flags;
    uint64_t capacity;
    uint64_t grainSize;
    uint64_t descriptorOffset; /* 0: none */
    uint64_t descriptorSize;
    uint32_t numGTEsPerGT;
    uint64_t rgdOffset;
    uint64_t gdOffset;
    uint64_t overHead;
    uint8_t uncleanShutdown;
    uint8_t newline_test[4]; /* singleEndLineChar to doubleEndLineChar2 */
    uint16_t compressAlgorithm;
};

extern const struct pl_field vmdk_header_fields[];

/* What a transfer as text would have changed. */
#define VMDK_NEWLINE_TEST "\n \r\n"

/* Limits.  The specification says more than 8 sectors a grain and 512 entries a table; real files
 * have grains from 1 sector on.  A table is at least a sector. */
#define VMDK_GRAIN_SECTORS_MAX (UINT64_C(1) << 17)  /* 64 MiB */
#define VMDK_PACKED_SECTORS_MAX (UINT64_C(1) << 14) /* 8 MiB: each is unpacked in memory */
#define VMDK_TABLE_ENTRIES_MIN 128u
#define VMDK_TABLE_ENTRIES_MAX 65536u
#define VMDK_TABLE_ENTRIES 512u /* of what is written here */
#define VMDK_DESCRIPTOR_BYTES_MAX (UINT64_C(1) << 20)
#define VMDK_DESCRIPTOR_SECTORS 20u /* room that VMware's tools leave for it */
#define VMDK_DESCRIPTOR_OFFSET 1u

/* ---- markers: "Stream-Optimized Compressed Sparse Extents" ---- */
#define VMDK_GRAIN_MARKER_BYTES 12u /* lba (64 bits), size of the data that follow (32 bits) */
#define VMDK_GRAIN_MARKER_SIZE_AT 8u
#define VMDK_GRAIN_SIZE_BYTES 4u /* without markers: the size alone */
#define VMDK_MARKER_SIZE_AT 8u   /* any other: the sectors behind it (64 bits), then 0, then ... */
#define VMDK_MARKER_TYPE_AT 12u  /* ... what it is */
enum vmdk_marker {
    VMDK_MARKER_END_OF_STREAM = 0,
    VMDK_MARKER_GRAIN_TABLE = 1,
    VMDK_MARKER_GRAIN_DIRECTORY = 2,
    VMDK_MARKER_FOOTER = 3,
};

/* Of what is written here. */
#define VMDK_STREAM_VERSION 3 /* what ovftool writes for compressed extents */
#define VMDK_STREAM_FLAGS (VMDK_FLAG_NEWLINE_TEST | VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS)
#define VMDK_STREAM_TABLE_BYTES (VMDK_ENTRY_BYTES * VMDK_TABLE_ENTRIES)
/* Sectors: as VMware's tools lay it out, more only for a longer descriptor. */
#define VMDK_STREAM_OVERHEAD_UNIT 128u

/* ---- COWDisk_Header: "ESXi Host Sparse Extents" ---- */
#define VMDK_COWD_MAGIC UINT32_C(0x44574f43) /* "COWD" */
#define VMDK_COWD_HEADER_BYTES 2048u
#define VMDK_COWD_VERSION 1
#define VMDK_COWD_FLAGS 3 /* what ESX writes */
#define VMDK_COWD_TABLE_ENTRIES 4096u
#define VMDK_COWD_GD_OFFSET 4u

/* What is not needed (parent's name, description, generations) stays as it is. */
struct vmdk_cowd_header {
    uint32_t magicNumber;
    uint32_t version;
    uint32_t flags;
    uint32_t numSectors;
    uint32_t grainSize;
    uint32_t gdOffset;
    uint32_t numGDEntries;
    uint32_t freeSector;                /* nothing was ever written at or behind it */
    uint32_t cylinders, heads, sectors; /* of a root disk; a child has its parent's name here */
    uint32_t uncleanShutdown;
};

extern const struct pl_field vmdk_cowd_header_fields[];

/* The first sector has what changes, but for one field. */
#define VMDK_COWD_UNCLEAN_AT 1648u

#endif
