/* sesparse.c - seSparse extents (sesparse_layout.h), read only.
 *
 * ESXi keeps a free-grain bitmap, a back map and a journal in the file, about which nobody outside
 * VMware knows enough to change them.
 *
 * Nothing of the file changes while it is open, so only the cache needs the lock, and not while a
 * slice of a table is read. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/lock.h"
#include "core/storage/table_cache.h"
#include "formats/vmdk/extent.h"
#include "formats/vmdk/sesparse.h"

/* The cache keeps pieces of tables of that many bytes, which is how much one look tells. */
#define SLICE 4096u
#define SLICE_ENTRIES (SLICE / 8)
#define CACHE_BYTES (1u << 20)
#define SLOTS_MIN 4

/* Looks that one call of map makes for a longer run: up to 128 MiB of grains, 512 GiB without. */
#define LOOKS_MAX 64

/* Findings that check names one by one. */
#define WARNINGS_MAX 100

/* All but the cache is constant after open. */
struct sesparse {
    struct pl_storage *file; /* vmdk.c's */
    struct sesparse_layout layout;
    struct pl_lock lock;
    struct pl_table_cache *cache; /* guarded by lock; never dirty */
};

/* ---- tables ---- */

/* Neighbouring entries, in host order. */
struct entries {
    uint32_t count; /* at least 1 */
    uint64_t entry[SLICE_ENTRIES];
};

/* Reads a slice with the lock dropped. */
static int read_meanwhile(struct sesparse *se, uint64_t at, uint8_t *slice, struct pl_err *e)
    PL_NEEDS(&se->lock);
static int read_meanwhile(struct sesparse *se, uint64_t at, uint8_t *slice, struct pl_err *e)
{
    int result;

    pl_lock_drop(&se->lock);
    result = pl_storage_read_padded(se->file, at, slice, SLICE, e);
    pl_lock_take(&se->lock);
    return result;
}

/* Up to `wanted` entries (at least 1) from byte `off` on, which is a multiple of 8. */
static int load_entries(struct sesparse *se, uint64_t off, uint64_t wanted, struct entries *out,
                        struct pl_err *e)
{
    const uint64_t at = pl_round_down(off, SLICE);
    const uint32_t skip = (uint32_t)(off - at);
    uint8_t bytes[SLICE];
    const uint8_t *slice;

    PL_LOCKED(&se->lock);
    slice = pl_table_cache_peek(se->cache, at);
    if (!slice) {
        if (read_meanwhile(se, at, bytes, e) < 0)
            return -1;
        pl_table_cache_insert(se->cache, at, bytes, pl_table_cache_epoch(se->cache));
        slice = bytes;
    }
    out->count = (uint32_t)PL_MIN(wanted, (SLICE - skip) / 8);
    for (uint32_t i = 0; i < out->count; i++)
        out->entry[i] = load_le64(slice + skip + 8 * i);
    return 0;
}

/* Grains in one state, as far as one look tells. */
struct run {
    enum pl_state state;
    uint64_t off; /* DATA: where the first one is in the file */
    uint64_t grains;
};

static int find_table(const struct sesparse *se, uint64_t table, uint64_t entry, uint64_t *off,
                      struct pl_err *e)
{
    const uint64_t number = entry & UINT32_MAX;

    if (entry >> 32 != SESPARSE_TABLE_MARK || number >= se->layout.tables_in_file)
        return pl_fail(e, PL_E_CORRUPT,
                       "grain directory entry %" PRIu64 ": 0x%016" PRIx64 " is none of the %" PRIu64
                       " grain tables of the file",
                       table, entry, se->layout.tables_in_file);
    *off = se->layout.tables + number * SESPARSE_TABLE;
    return 0;
}

/* What an entry of a grain table says about its one grain. */
static int decode_entry(const struct sesparse *se, uint64_t grain, uint64_t entry, struct run *out,
                        struct pl_err *e)
{
    *out = (struct run){ .state = PL_PARENT, .grains = 1 };
    if (entry == 0)
        return 0;
    switch (sesparse_type(entry)) {
    case SESPARSE_UNMAPPED:
    case SESPARSE_ZERO:
        out->state = PL_ZERO;
        return 0;
    case SESPARSE_ALLOCATED:
        if (sesparse_grain(entry) >= se->layout.grains_in_file)
            break;
        out->state = PL_DATA;
        out->off = se->layout.grains + sesparse_grain(entry) * SESPARSE_GRAIN;
        return 0;
    default:
        break;
    }
    return pl_fail(e, PL_E_CORRUPT,
                   "entry of grain %" PRIu64 ": 0x%016" PRIx64 " is none of the %" PRIu64
                   " grains of the file",
                   grain, entry, se->layout.grains_in_file);
}

/* Whether `next` goes on where `run` ends. */
static bool continues(const struct run *run, const struct run *next)
{
    return next->state == run->state &&
           (run->state != PL_DATA || next->off == run->off + run->grains * SESPARSE_GRAIN);
}

/* The run at `grain`, up to grain `last`.  When it fails run->grains is how many grains cannot be
 * told. */
static int look(struct sesparse *se, uint64_t grain, uint64_t last, struct run *run,
                struct pl_err *e)
{
    const uint64_t table = grain / SESPARSE_TABLE_ENTRIES;
    const uint64_t index = grain % SESPARSE_TABLE_ENTRIES;
    const uint64_t in_table = PL_MIN(SESPARSE_TABLE_ENTRIES - index, last - grain + 1);
    struct entries entries = { 0 };
    uint64_t tables = 0, off = 0;

    *run = (struct run){ .state = PL_PARENT, .grains = in_table };
    if (load_entries(se, se->layout.directory + 8 * table,
                     last / SESPARSE_TABLE_ENTRIES - table + 1, &entries, e) < 0)
        return pl_within(e, "grain directory");
    while (tables < entries.count && entries.entry[tables] == 0)
        tables++;
    if (tables > 0) {
        run->grains = PL_MIN((table + tables) * SESPARSE_TABLE_ENTRIES, last + 1) - grain;
        return 0;
    }
    if (find_table(se, table, entries.entry[0], &off, e) < 0)
        return -1;
    if (load_entries(se, off + 8 * index, in_table, &entries, e) < 0)
        return pl_within(e, "grain table %" PRIu64, table);
    if (decode_entry(se, grain, entries.entry[0], run, e) < 0)
        return -1;
    for (uint32_t i = 1; i < entries.count; i++, run->grains++) {
        struct run next;

        if (decode_entry(se, grain + i, entries.entry[i], &next, NULL) < 0 ||
            !continues(run, &next))
            break;
    }
    return 0;
}

/* ---- the slots ---- */

static int sesparse_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out,
                        struct pl_err *e)
{
    struct sesparse *se = state;
    const uint64_t first = at / SESPARSE_GRAIN, inside = at % SESPARSE_GRAIN;
    const uint64_t last = (at + len - 1) / SESPARSE_GRAIN;
    struct run run, next;

    if (look(se, first, last, &run, e) < 0)
        return -1;
    for (unsigned looks = 1; looks < LOOKS_MAX && first + run.grains <= last; looks++) {
        if (look(se, first + run.grains, last, &next, NULL) < 0 || !continues(&run, &next))
            break; /* an error belongs to the next call */
        run.grains += next.grains;
    }
    *out = (struct pl_extent){ .state = run.state };
    out->len = PL_MIN(len, run.grains * SESPARSE_GRAIN - inside);
    if (run.state == PL_DATA) {
        out->st = se->file;
        out->off = run.off + inside;
    }
    return 0;
}

static void count_run(const struct run *run, uint64_t *file_end, struct pl_check_result *result)
{
    if (run->state != PL_DATA)
        return;
    result->allocated_clusters += run->grains;
    result->fragmented_clusters += *file_end && run->off != *file_end;
    *file_end = run->off + run->grains * SESPARSE_GRAIN;
    result->image_end_offset = PL_MAX(result->image_end_offset, *file_end);
}

/* Looks at every entry; what it finds can only be reported. */
static int sesparse_check(void *state, enum pl_repair repair, const struct pl_report *report,
                          struct pl_check_result *result, struct pl_err *e)
{
    struct sesparse *se = state;
    const uint64_t grains = pl_div_up(se->layout.size, SESPARSE_GRAIN);
    uint64_t file_end = 0, findings = 0;
    struct run run;

    (void)repair; /* needs a writable extent */
    for (uint64_t grain = 0; grain < grains; grain += run.grains) {
        struct pl_err why = { 0 };

        pl_progress(report, grain * SESPARSE_GRAIN, se->layout.size);
        if (pl_check_cancelled(report, e) < 0)
            return -1;
        if (look(se, grain, grains - 1, &run, &why) == 0) {
            count_run(&run, &file_end, result);
            continue;
        }
        if (why.kind == PL_E_CORRUPT)
            result->corruptions += run.grains;
        else
            result->check_errors++;
        if (findings++ < WARNINGS_MAX)
            pl_warn(report, "%s", why.msg);
    }
    result->total_clusters += grains;
    result->has_allocation = true;
    return 0;
}

static void sesparse_close(void *state)
{
    struct sesparse *se = state;

    pl_table_cache_free(se->cache);
    pl_lock_destroy(&se->lock);
    free(se);
}

static const struct vmdk_extent_ops sesparse_ops = {
    .kind = "seSparse",
    .map = sesparse_map,
    .check = sesparse_check,
    .close = sesparse_close,
};

static int check_use(const struct vmdk_extent_args *args, struct pl_err *e)
{
    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a seSparse extent");
    if (!args->writable)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED, "seSparse extents are only read");
    return pl_hint(e, "write to an overlay: platter create -f qcow2 -b IMAGE -F vmdk OVERLAY");
}

int vmdk_sesparse_open(const struct vmdk_extent_args *args, struct vmdk_extent *out,
                       struct pl_err *e)
{
    const uint32_t cache_bytes = args->cache_bytes ? args->cache_bytes : CACHE_BYTES;
    struct sesparse *se;

    if (check_use(args, e) < 0)
        return -1;
    se = calloc(1, sizeof *se);
    if (!se)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    pl_lock_init(&se->lock);
    se->file = args->file;
    if (sesparse_read_headers(se->file, args->size, &se->layout, e) < 0 ||
        pl_table_cache_create(se->file, SLICE, PL_MAX(cache_bytes / SLICE, SLOTS_MIN), &se->cache,
                              e) < 0) {
        sesparse_close(se);
        return -1;
    }
    *out = (struct vmdk_extent){
        .ops = &sesparse_ops,
        .state = se,
        .size = se->layout.size,
        .granule = (uint32_t)SESPARSE_GRAIN,
        .has_zeroed = true,
        .file = args->file,
    };
    return 0;
}
