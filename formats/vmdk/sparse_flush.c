/* sparse_flush.c - the order in which changes reach the disk; see the steps at the top of sparse.h.
 *
 * The mark "not closed properly" is written when tables are about to be, not before: guest data in
 * grains that exist change nothing that could be left half-way. */
#include <inttypes.h>
#include <stddef.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vmdk/sparse.h"

#define COWD_FREE_SECTOR_AT 28
#define UNCLEAN_AT 72

static int refuse_broken(struct pl_err *e)
{
    pl_fail(e, PL_E_SYS, "an earlier change of the grain tables failed half-way");
    return pl_hint(e, "open the image again; check it first");
}

int vmdk_sparse_writable(const struct vmdk_sparse *s, struct pl_err *e)
{
    if (!s->writable)
        return pl_fail(e, PL_E_INVALID, "the extent is open for reading only");
    if (s->compressed)
        return pl_fail(e, PL_E_UNSUPPORTED, "an extent of compressed grains cannot be written to");
    if (!s->directory[0])
        return pl_fail(e, PL_E_CORRUPT, "the extent's grain directory lies outside the file");
    return s->broken ? refuse_broken(e) : 0;
}

int vmdk_sync(struct vmdk_sparse *s, struct pl_err *e)
{
    if (pl_storage_flush(s->file, e) == 0)
        return 0;
    s->broken = true; /* the host may have dropped what it could not write */
    return -1;
}

int vmdk_write_mark(struct vmdk_sparse *s, bool unclean, struct pl_err *e)
{
    uint8_t raw[4];

    store_le32(raw, unclean);
    if (s->cowd ? pl_storage_write(s->file, VMDK_COWD_UNCLEAN_AT, raw, 4, e) < 0
                : pl_storage_write(s->file, UNCLEAN_AT, raw, 1, e) < 0)
        return pl_within(e, "header");
    s->header.uncleanShutdown = unclean;
    s->cowd_header.uncleanShutdown = unclean;
    s->marked = unclean;
    return 0;
}

int vmdk_cover_file(struct vmdk_sparse *s, struct pl_err *e)
{
    if (s->file->device || pl_storage_size(s->file) >= s->file_end)
        return 0;
    /* Threads that write to grains they were given stay below file_end, which only grows under the
     * lock: this cuts nothing off. */
    return pl_storage_resize(s->file, s->file_end, e);
}

/* COWD: nothing on disk may point behind what the header says is free. */
static int write_free_sector(struct vmdk_sparse *s, struct pl_err *e) PL_NEEDS(&s->lock);
static int write_free_sector(struct vmdk_sparse *s, struct pl_err *e)
{
    const uint64_t sector = PL_MIN(pl_div_up(s->file_end, VMDK_SECTOR), UINT32_MAX);
    uint8_t raw[4];

    if (!s->cowd || sector <= s->cowd_header.freeSector)
        return 0;
    store_le32(raw, (uint32_t)sector);
    if (pl_storage_write(s->file, COWD_FREE_SECTOR_AT, raw, sizeof raw, e) < 0)
        return pl_within(e, "header");
    s->cowd_header.freeSector = (uint32_t)sector;
    return 0;
}

/* Steps 1 and 2. */
static int write_tables(struct vmdk_sparse *s, struct pl_err *e) PL_NEEDS(&s->lock);
static int write_tables(struct vmdk_sparse *s, struct pl_err *e)
{
    if (!s->marked && vmdk_write_mark(s, true, e) < 0)
        return -1;
    if (write_free_sector(s, e) < 0 || vmdk_cover_file(s, e) < 0 || vmdk_sync(s, e) < 0)
        return -1;
    return pl_table_cache_write_back(s->table_cache, e);
}

int vmdk_sparse_write_back(struct vmdk_sparse *s, bool sync_last, struct pl_err *e)
{
    const bool directories = pl_table_cache_is_dirty(s->directory_cache);

    if ((directories || pl_table_cache_is_dirty(s->table_cache)) && write_tables(s, e) < 0)
        return -1;
    if (directories &&
        (vmdk_sync(s, e) < 0 || pl_table_cache_write_back(s->directory_cache, e) < 0))
        return -1;
    if (s->pending.count) {
        if (vmdk_sync(s, e) < 0)
            return -1;
        vmdk_free_pending(s);
    }
    return sync_last ? vmdk_sync(s, e) : 0;
}

int vmdk_sparse_flush(void *state, struct pl_err *e)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (!s->writable || s->compressed)
        return 0;
    if (s->broken)
        return refuse_broken(e);
    if (vmdk_sparse_write_back(s, true, e) < 0)
        return -1;
    return s->marked && !s->was_unclean ? vmdk_write_mark(s, false, e) : 0;
}

/* Either `get` until a slot is free. */
static int get_sector(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off,
                      uint8_t **bytes,
                      int (*get)(struct pl_table_cache *, uint64_t, uint8_t **, struct pl_err *),
                      struct pl_err *e) PL_NEEDS(&s->lock);
static int get_sector(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off,
                      uint8_t **bytes,
                      int (*get)(struct pl_table_cache *, uint64_t, uint8_t **, struct pl_err *),
                      struct pl_err *e)
{
    const int r = get(tc, off, bytes, e);

    if (r <= 0)
        return r;
    return vmdk_sparse_write_back(s, false, e) < 0 ? -1 : get(tc, off, bytes, e);
}

int vmdk_sector(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                struct pl_err *e)
{
    return get_sector(s, tc, off, bytes, pl_table_cache_get, e);
}

int vmdk_sector_new(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                    struct pl_err *e)
{
    return get_sector(s, tc, off, bytes, pl_table_cache_get_new, e);
}
