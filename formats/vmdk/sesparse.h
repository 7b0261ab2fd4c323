/* sesparse.h - what opening a seSparse extent finds out. */
#ifndef PL_FORMATS_VMDK_SESPARSE_H
#define PL_FORMATS_VMDK_SESPARSE_H

#include "core/storage/storage.h"
#include "formats/vmdk/sesparse_layout.h"

struct sesparse_layout {
    uint64_t size;           /* guest bytes */
    uint64_t directory;      /* byte offset of the grain directory, which covers the size */
    uint64_t tables;         /* byte offset of the first grain table ... */
    uint64_t tables_in_file; /* ... and how many there are */
    uint64_t grains;         /* the same of the grains: up to the end of the file */
    uint64_t grains_in_file;
};

/* Reads and checks both headers; `size` is what the descriptor says in bytes, 0: nothing.
 * PL_E_FORMAT (another magic), PL_E_CORRUPT, PL_E_LIMIT, PL_E_UNSUPPORTED (also where the journal
 * must be replayed first). */
int sesparse_read_headers(struct pl_storage *file, uint64_t size, struct sesparse_layout *out,
                          struct pl_err *e) PL_CHECK;

#endif
