/* sparse_open.c - opens a sparse extent, and finds the descriptor that one may hold.
 *
 * Opening checks what later calls rely on: the header, and that the directories lie inside the
 * file.  Entries of directories and tables are checked when they are used. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/codec/codec.h"
#include "formats/vmdk/sparse_check.h"

/* Memory for cached sectors of tables: entries for 128 GiB of disk with grains of 64 KiB. */
#define CACHE_BYTES (8 * PL_MIB)
#define DIRECTORY_SHARE 8 /* one part in so many is for directories */
#define SLOTS_MIN 16      /* a change needs a few sectors of each kind at once */

/* ---- the descriptor ---- */

/* *len 0: there is none. */
static int descriptor_place(struct pl_storage *file, const struct vmdk_header *h,
                            struct vmdk_run *out, struct pl_err *e)
{
    *out = (struct vmdk_run){ 0 };
    if (!h->descriptorOffset || !h->descriptorSize)
        return 0;
    if (!pl_mul(h->descriptorOffset, VMDK_SECTOR, &out->off) ||
        !pl_mul(h->descriptorSize, VMDK_SECTOR, &out->len) ||
        !pl_inside(out->off, out->len, pl_storage_size(file)))
        return pl_fail(e, PL_E_CORRUPT,
                       "descriptor: %" PRIu64 " sectors from sector %" PRIu64
                       " on are past the end of the file (0x%" PRIx64 ")",
                       h->descriptorSize, h->descriptorOffset, pl_storage_size(file));
    if (out->len > VMDK_DESCRIPTOR_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT, "descriptor: %" PRIu64 " bytes exceed the limit of %" PRIu64,
                       out->len, VMDK_DESCRIPTOR_BYTES_MAX);
    return 0;
}

int vmdk_sparse_descriptor_place(struct pl_storage *file, uint64_t *off, uint64_t *len,
                                 struct pl_err *e)
{
    struct vmdk_header h;
    struct vmdk_run place = { 0 };
    uint32_t magic;

    if (vmdk_read_magic(file, &magic, e) < 0 ||
        (magic != VMDK_COWD_MAGIC &&
         (vmdk_read_first_header(file, &h, e) < 0 || descriptor_place(file, &h, &place, e) < 0)))
        return -1;
    *off = place.off;
    *len = place.len;
    return 0;
}

int vmdk_sparse_descriptor(struct pl_storage *file, char **text, struct pl_err *e)
{
    PL_FREE char *copy = NULL;
    uint64_t off, len;

    *text = NULL;
    if (vmdk_sparse_descriptor_place(file, &off, &len, e) < 0)
        return -1;
    if (!len)
        return 0;
    copy = malloc(len + 1);
    if (!copy)
        return pl_fail(e, PL_E_NOMEM, "descriptor: no memory for %" PRIu64 " bytes", len);
    if (pl_storage_read(file, off, copy, len, e) < 0)
        return pl_within(e, "descriptor");
    copy[len] = '\0';
    *text = pl_take(copy);
    return 0;
}

/* ---- what the headers say ---- */

static void set_grains(struct vmdk_sparse *s, uint64_t grain_sectors, uint32_t table_entries)
{
    s->grain_size = (uint32_t)(grain_sectors * VMDK_SECTOR);
    s->grain_bits = pl_log2(s->grain_size);
    s->table_entries = table_entries;
    s->table_bits = pl_log2(table_entries);
}

/* The extent line's size wins: VirtualBox rounds the capacity up to whole grains. */
static int set_size(struct vmdk_sparse *s, uint64_t capacity_sectors, uint64_t line_size,
                    struct pl_err *e)
{
    const uint64_t capacity = capacity_sectors * VMDK_SECTOR;

    if (line_size > pl_round_up(capacity, s->grain_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: a capacity of %" PRIu64 " bytes, but the extent is to have "
                       "%" PRIu64,
                       capacity, line_size);
    s->size = line_size ? line_size : capacity;
    s->directory_entries = pl_div_up(PL_MAX(capacity, s->size), vmdk_table_span(s));
    return 0;
}

/* Byte offset of a directory that lies inside the file, else 0. */
static uint64_t directory_offset(const struct vmdk_sparse *s, uint64_t sector)
{
    uint64_t off;

    return pl_mul(sector, VMDK_SECTOR, &off) && off >= s->metadata_end &&
                   pl_inside(off, s->directory_entries * VMDK_ENTRY_BYTES, s->file_end)
               ? off
               : 0;
}

static int no_directory(const struct vmdk_sparse *s, uint64_t sector, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT,
                   "grain directory: %" PRIu64 " entries from sector %" PRIu64
                   " on do not lie inside the file (0x%" PRIx64 " bytes)",
                   s->directory_entries, sector, s->file_end);
}

/* An extent whose copies cannot be kept equal is not written to, until it was repaired. */
static int refuse_damaged(struct pl_err *e)
{
    pl_within(e, "cannot be written to");
    return pl_hint(e, "platter check -r all mends it; opening it read-only is possible");
}

static int set_directories(struct vmdk_sparse *s, const struct vmdk_extent_args *args,
                           struct pl_err *e)
{
    const struct vmdk_header *h = &s->header;
    const bool redundant = h->flags & VMDK_FLAG_REDUNDANT && h->rgdOffset != h->gdOffset;
    const bool must_be_sound = args->writable && !args->check_only;
    struct pl_err why;

    s->directory[0] = directory_offset(s, h->gdOffset);
    s->directory[1] = redundant ? directory_offset(s, h->rgdOffset) : 0;
    if (!s->directory[0] && !s->directory[1])
        return no_directory(s, h->gdOffset, e);
    if (s->directory[0] && (s->directory[1] || !redundant))
        return 0;
    no_directory(s, s->directory[0] ? h->rgdOffset : h->gdOffset, &why);
    if (must_be_sound) {
        if (e)
            *e = why;
        return refuse_damaged(e);
    }
    pl_warn(s->report, "%s; the %s one is used", why.msg, s->directory[0] ? "other" : "redundant");
    s->warned = true;
    return 0;
}

static int load_hosted(struct vmdk_sparse *s, const struct vmdk_extent_args *args, struct pl_err *e)
{
    struct vmdk_header *h = &s->header;
    struct vmdk_run descriptor;

    if (vmdk_read_header(s->file, h, e) < 0 || descriptor_place(s->file, h, &descriptor, e) < 0)
        return -1;
    s->compressed = h->flags & VMDK_FLAG_COMPRESSED;
    s->markers = h->flags & VMDK_FLAG_MARKERS;
    s->zeroed_grains = h->flags & VMDK_FLAG_ZEROED_GRAIN;
    s->may_zero = s->zeroed_grains && h->version >= 2;
    s->metadata_end = PL_MAX(VMDK_HEADER_BYTES, descriptor.off + descriptor.len);
    set_grains(s, h->grainSize, h->numGTEsPerGT);
    if (set_size(s, h->capacity, args->size, e) < 0)
        return -1;
    return set_directories(s, args, e);
}

static int load_cowd(struct vmdk_sparse *s, const struct vmdk_extent_args *args, struct pl_err *e)
{
    const struct vmdk_cowd_header *h = &s->cowd_header;

    if (vmdk_read_cowd_header(s->file, &s->cowd_header, e) < 0)
        return -1;
    s->cowd = true;
    s->metadata_end = VMDK_COWD_HEADER_BYTES;
    set_grains(s, h->grainSize, VMDK_COWD_TABLE_ENTRIES);
    if (set_size(s, h->numSectors, args->size, e) < 0)
        return -1;
    s->directory[0] = directory_offset(s, h->gdOffset);
    return s->directory[0] ? 0 : no_directory(s, h->gdOffset, e);
}

/* ---- opening ---- */

static int make_caches(struct vmdk_sparse *s, uint32_t bytes, struct pl_err *e)
{
    const uint64_t all = bytes ? bytes : CACHE_BYTES;
    const uint64_t directories = PL_MAX(all / DIRECTORY_SHARE / VMDK_SECTOR, SLOTS_MIN);
    const uint64_t tables = PL_MAX(all / VMDK_SECTOR, SLOTS_MIN);

    if (pl_table_cache_create(s->file, VMDK_SECTOR, (uint32_t)directories, &s->directory_cache, e) <
        0)
        return -1;
    return pl_table_cache_create(s->file, VMDK_SECTOR, (uint32_t)tables, &s->table_cache, e);
}

static int check_writable(const struct vmdk_sparse *s, struct pl_err *e)
{
    if (s->compressed) {
        pl_fail(e, PL_E_UNSUPPORTED, "an extent of compressed grains cannot be written to");
        return pl_hint(e, "write to an overlay instead: "
                          "platter create -f qcow2 -b FILE -F vmdk OVERLAY");
    }
    if (s->file_end > VMDK_FILE_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "a file of %" PRIu64 " bytes cannot be written to: entries reach to 2 TiB",
                       s->file_end);
    return 0;
}

/* A crash loses room at worst, and may leave the copies of the tables different: no reason to
 * stop. */
static void note_unclean(struct vmdk_sparse *s, bool check_only)
{
    s->was_unclean = s->cowd ? s->cowd_header.uncleanShutdown : s->header.uncleanShutdown;
    s->marked = s->was_unclean;
    if (s->was_unclean && s->writable && !check_only)
        pl_warn(s->report, "the extent was not closed properly: platter check -r all makes sure "
                           "that it is sound");
}

static int load(struct vmdk_sparse *s, const struct vmdk_extent_args *args, struct pl_err *e)
{
    uint32_t magic;

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a sparse extent");
    if (vmdk_read_magic(s->file, &magic, e) < 0)
        return -1;
    if ((magic == VMDK_COWD_MAGIC ? load_cowd(s, args, e) : load_hosted(s, args, e)) < 0)
        return -1;
    if (args->writable && !args->check_only && check_writable(s, e) < 0)
        return -1;
    note_unclean(s, args->check_only);
    return make_caches(s, args->cache_bytes, e);
}

void vmdk_sparse_close(void *state)
{
    struct vmdk_sparse *s = state;

    if (!s)
        return;
    pl_table_cache_free(s->directory_cache);
    pl_table_cache_free(s->table_cache);
    free(s->free.run);
    free(s->pending.run);
    pl_lock_destroy(&s->lock);
    free(s);
}

static void set_parent(void *state, bool has_parent)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    s->has_parent = has_parent;
}

static const struct vmdk_extent_ops sparse_ops = {
    .kind = "sparse",
    .map = vmdk_sparse_map,
    .allocate = vmdk_sparse_allocate,
    .link = vmdk_sparse_link,
    .cancel = vmdk_sparse_cancel,
    .zero = vmdk_sparse_zero,
    .discard = vmdk_sparse_discard,
    .forget = vmdk_sparse_forget,
    .flush = vmdk_sparse_flush,
    .resize = vmdk_sparse_resize,
    .compact = vmdk_sparse_compact,
    .check = vmdk_sparse_check,
    .set_parent = set_parent,
    .place_descriptor = vmdk_sparse_place_descriptor,
    .close = vmdk_sparse_close,
};

/* A device has no end that would tell how far it was used. */
static int find_file_end(struct vmdk_sparse *s, struct pl_err *e)
{
    struct vmdk_check c = { .s = s };
    int r;

    if (!s->writable || s->compressed || !s->directory[0] || !s->file->device)
        return 0;
    PL_LOCKED(&c.s->lock);
    r = vmdk_check_pass(&c, e);
    vmdk_check_end(&c);
    if (r == 0)
        s->file_end = PL_MAX(c.result.image_end_offset, vmdk_grains_from(s));
    return r;
}

int vmdk_sparse_open(const struct vmdk_extent_args *args, struct vmdk_extent *out, struct pl_err *e)
{
    struct vmdk_sparse *s = calloc(1, sizeof *s);

    if (!s)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    pl_lock_init(&s->lock);
    s->file = args->file;
    s->report = args->report;
    s->writable = args->writable;
    s->has_parent = args->has_parent;
    s->file_end = pl_storage_size(s->file);
    if (load(s, args, e) < 0 || find_file_end(s, e) < 0) {
        vmdk_sparse_close(s);
        return -1;
    }
    out->ops = &sparse_ops;
    out->state = s;
    out->size = s->size;
    out->granule = s->grain_size;
    out->codec = s->compressed ? &pl_codec_zlib : NULL;
    out->unit_len = s->compressed ? s->grain_size : 0;
    out->packed_head = out->packed_align = 0;
    out->packed_only = s->compressed;
    out->has_zeroed = s->may_zero;
    return 0;
}
