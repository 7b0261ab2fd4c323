/* sesparse_layout.h - a seSparse extent on disk (VMware vSphere 6.5 and later).
 *
 * VMware published no specification; the fields and entries are those that QEMU's driver
 * (block/vmdk.c) takes, found on files that ESXi made, under its names.  All numbers are little
 * endian and have 64 bits; places and sizes are sectors of 512 bytes.
 *
 * A guest address is cut into grain table (4096 grains of 4 KiB: 16 MiB), grain, and offset in it.
 * A directory entry is 0, or 1 in the top four bits and the number of a grain table in the low 32.
 * The top four bits of a grain table entry say what the grain is; of an allocated one the low 60
 * are its number among the grains, the lower 12 bits of that number above its upper 48.  Tables are
 * numbered from grain_tables_offset on, grains from grains_offset on. */
#ifndef PL_FORMATS_VMDK_SESPARSE_LAYOUT_H
#define PL_FORMATS_VMDK_SESPARSE_LAYOUT_H

#include "core/base/fields.h"

#define SESPARSE_SECTOR UINT64_C(512)
#define SESPARSE_HEADER_BYTES 512 /* either header */

/* The header at the start of the file, which never changes. */
struct sesparse_const_header {
    uint64_t magic;
    uint64_t version;
    uint64_t capacity;
    uint64_t grain_size;
    uint64_t grain_table_size;
    uint64_t flags;
    uint64_t reserved1, reserved2, reserved3, reserved4;
    uint64_t volatile_header_offset, volatile_header_size;
    uint64_t journal_header_offset, journal_header_size;
    uint64_t journal_offset, journal_size;
    uint64_t grain_dir_offset, grain_dir_size;
    uint64_t grain_tables_offset, grain_tables_size;
    uint64_t free_bitmap_offset, free_bitmap_size;
    uint64_t backmap_offset, backmap_size;
    uint64_t grains_offset, grains_size;
};

#define SESPARSE_CONST_MAGIC UINT64_C(0xcafebabe)
#define SESPARSE_VERSION UINT64_C(0x0000000200000001) /* 2.1 */
#define SESPARSE_GRAIN_SECTORS 8
#define SESPARSE_TABLE_SECTORS 64

/* The header that changes as the disk is used. */
struct sesparse_volatile_header {
    uint64_t magic;
    uint64_t free_gt_number;
    uint64_t next_txn_seq_number;
    uint64_t replay_journal; /* not 0: the newest changes are in the journal only */
};

#define SESPARSE_VOLATILE_MAGIC UINT64_C(0xcafecafe)

#define SESPARSE_GRAIN (SESPARSE_GRAIN_SECTORS * SESPARSE_SECTOR) /* bytes */
#define SESPARSE_TABLE (SESPARSE_TABLE_SECTORS * SESPARSE_SECTOR) /* bytes */
#define SESPARSE_TABLE_ENTRIES (SESPARSE_TABLE / 8)

/* A directory entry: its upper half is always this. */
#define SESPARSE_TABLE_MARK UINT64_C(0x10000000)

enum sesparse_type {                           /* the top four bits of a grain table entry */
                     SESPARSE_UNALLOCATED = 0, /* the whole entry is 0 */
                     SESPARSE_UNMAPPED = 1,    /* the guest unmapped it: it may count on zeros */
                     SESPARSE_ZERO = 2,
                     SESPARSE_ALLOCATED = 3,
};

static inline unsigned sesparse_type(uint64_t entry)
{
    return (unsigned)(entry >> 60);
}

/* The number of an allocated grain. */
static inline uint64_t sesparse_grain(uint64_t entry)
{
    return (entry & UINT64_C(0xffffffffffff)) << 12 | (entry >> 48 & 0xfff);
}

#endif
