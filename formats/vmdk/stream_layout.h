/* stream_layout.h - a streamOptimized file on disk (Virtual Disk Format 5.0, "Stream-Optimized
 * Compressed Sparse Extents"), as it is written here.  All numbers are little endian, a sector has
 * 512 bytes, everything starts at a sector:
 *
 *   header         one sector; gdOffset says "at the end"
 *   descriptor     text, padded with zeros; then zeros up to overHead
 *   grains         in guest order: marker of 12 bytes and a zlib stream, padded with zeros
 *   grain table    after the last of its grains: a marker sector, then 512 entries
 *   ... more grains and tables; a table without grains is left out ...
 *   directory      a marker sector, then an entry a grain table
 *   footer         a marker sector, then the header again, now with the directory's place
 *   end of stream  a sector of zeros, the last one of the file
 *
 * Entries are sector numbers of 32 bits, 0: nothing there.  A grain table entry is the place of the
 * grain's marker, a directory entry that of the table behind its marker. */
#ifndef PL_FORMATS_VMDK_STREAM_LAYOUT_H
#define PL_FORMATS_VMDK_STREAM_LAYOUT_H

#include "core/base/fields.h"

#define STREAM_SECTOR 512u

/* SparseExtentHeader, in host order. */
struct stream_header {
    uint32_t magicNumber;
    uint32_t version;
    uint32_t flags;
    uint64_t capacity;         /* sectors */
    uint64_t grainSize;        /* sectors */
    uint64_t descriptorOffset; /* sectors, as are the next */
    uint64_t descriptorSize;
    uint32_t numGTEsPerGT;
    uint64_t rgdOffset;
    uint64_t gdOffset;
    uint64_t overHead;
    uint8_t uncleanShutdown;
    uint8_t newline_test[4]; /* singleEndLineChar to doubleEndLineChar2 */
    uint16_t compressAlgorithm;
};

#define STREAM_MAGIC UINT32_C(0x564d444b) /* "KDMV" */
#define STREAM_VERSION 3                  /* what ovftool writes for compressed extents */
#define STREAM_FLAGS UINT32_C(0x30001)    /* newline test valid, compressed, markers */
#define STREAM_GD_AT_END UINT64_MAX
#define STREAM_DEFLATE 1
#define STREAM_NEWLINE_TEST                                                                        \
    {                                                                                              \
        '\n', ' ', '\r', '\n'                                                                      \
    }

#define STREAM_TABLE_ENTRIES 512u
#define STREAM_TABLE_BYTES (4 * STREAM_TABLE_ENTRIES)

/* Sectors: as VMware's tools lay it out, more only for a longer descriptor. */
#define STREAM_DESCRIPTOR_OFFSET 1
#define STREAM_DESCRIPTOR_SECTORS 20
#define STREAM_OVERHEAD_UNIT 128

/* Marker of a grain: its first sector on the disk (64 bits), the bytes of the stream (32 bits). */
#define STREAM_GRAIN_MARKER 12
#define STREAM_MARKER_SIZE_AT 8

/* Marker of anything else: the sectors that follow it (64 bits), 0 (32 bits), what it is. */
#define STREAM_MARKER_TYPE_AT 12
enum stream_marker {
    STREAM_END_OF_STREAM = 0,
    STREAM_GRAIN_TABLE = 1,
    STREAM_GRAIN_DIRECTORY = 2,
    STREAM_FOOTER = 3,
};

#endif
