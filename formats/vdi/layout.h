/* layout.h - VDI on disk: VirtualBox's disk image.
 *
 * There is no specification; the fields are those of VirtualBox's Storage/VDICore.h, with its
 * names.  All numbers are little endian.
 *
 * A file is a pre-header, a header, the block map and the data area.  The disk is cut into blocks
 * of cbBlock bytes; the map has one 32-bit entry for each: the place of the block in the data area,
 * counted in cbBlockExtra + cbBlock bytes from offData on, or one of two marks.  A place begins
 * with cbBlockExtra bytes that are not the guest's.
 *
 * Three headers are found:
 *   0.x   VDIHEADER0: no offsets, the map follows the header and the data area the map;
 *   1.x   VDIHEADER1, 384 bytes: offsets, and the UUID of the parent's last modification;
 *   1.1   VDIHEADER1PLUS, 400 bytes: a second geometry behind it.
 *
 * VirtualBox and QEMU take cBlocksAllocated for the next free place, and refuse a place at or
 * behind cBlocks or a cBlocksAllocated above it.  So a sound file uses the first places, without
 * gaps, or at least counts the gaps in cBlocksAllocated. */
#ifndef PL_FORMATS_VDI_LAYOUT_H
#define PL_FORMATS_VDI_LAYOUT_H

#include "core/base/fields.h"

#define VDI_SIGNATURE UINT32_C(0xbeda107f)
#define VDI_SIGNATURE_AT 64

#define VDI_FILE_INFO_BYTES 64
#define VDI_COMMENT_BYTES 256

/* Major version in the upper half. */
#define VDI_VERSION UINT32_C(0x00010001)
#define VDI_MAJOR(version) ((version) >> 16)
#define VDI_MINOR(version) ((version)&0xffff)

enum vdi_type {
    VDI_TYPE_NORMAL = 1, /* grows */
    VDI_TYPE_FIXED = 2,  /* every block has its place */
    VDI_TYPE_UNDO = 3,   /* over a parent */
    VDI_TYPE_DIFF = 4,   /* over a parent */
};

/* Marks in the map. */
#define VDI_BLOCK_FREE UINT32_C(0xffffffff) /* the parent's; zeros without one */
#define VDI_BLOCK_ZERO UINT32_C(0xfffffffe) /* zeros, whatever the parent has */

/* Pre-header and header in host order, whatever the version. */
struct vdi_header {
    char file_info[VDI_FILE_INFO_BYTES]; /* a line for people; need not end with a zero */
    uint32_t signature;
    uint32_t version;
    uint32_t header_bytes; /* cbHeader: of the header without the pre-header */
    uint32_t type;         /* enum vdi_type */
    uint32_t flags;
    char comment[VDI_COMMENT_BYTES];      /* need not end with a zero */
    uint32_t map_offset;                  /* offBlocks */
    uint32_t data_offset;                 /* offData */
    uint32_t sector_size;                 /* LegacyGeometry.cbSector */
    uint64_t disk_size;                   /* cbDisk */
    uint32_t block_size;                  /* cbBlock */
    uint32_t block_extra;                 /* cbBlockExtra */
    uint32_t blocks;                      /* cBlocks: entries of the map */
    uint32_t allocated;                   /* cBlocksAllocated */
    uint8_t image_uuid[16];               /* uuidCreate */
    uint8_t modification_uuid[16];        /* uuidModify */
    uint8_t parent_uuid[16];              /* uuidLinkage */
    uint8_t parent_modification_uuid[16]; /* uuidParentModify; not in 0.x */
    uint32_t lchs_sector_size;            /* LCHSGeometry.cbSector; 0: no such geometry */
};

#define VDI_PREHEADER_BYTES 72
#define VDI_HEADER0_END 420   /* where the map begins */
#define VDI_HEADER1_BYTES 384 /* cbHeader */
#define VDI_HEADER1PLUS_BYTES 400
#define VDI_HEADER_SECTOR 512 /* pre-header and every header lie within it */

#define VDI_GEOMETRY_SECTOR 512

/* VirtualBox takes any power of two.  The bounds are ours: below is no sector, above a block over a
 * parent is more memory than a write should take. */
#define VDI_BLOCK_MIN UINT32_C(512)
#define VDI_BLOCK_MAX (UINT32_C(256) << 20)
#define VDI_BLOCK_DEFAULT (UINT32_C(1) << 20)

#endif
