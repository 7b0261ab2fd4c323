/* sparse_create.c - a new, empty extent, laid out as VMware's tools do.
 *
 * Hosted: header, 20 sectors for the descriptor (none in an extent of a split disk), redundant
 * directory, its tables, directory, tables, zeros up to a whole grain.  All tables exist, and are
 * holes of the file as long as they are empty.
 * COWD: header, directory; tables come when they are needed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/sparse.h"

#define GRAIN_MIN (4 * PL_KIB)
#define GRAIN_MAX (8 * PL_MIB)
#define DIRECTORY_BUFFER 65536u /* bytes of a directory encoded at once */
#define COWD_HEADS 16u
#define COWD_SECTORS 63u

struct vmdk_tables vmdk_tables_for(uint64_t bytes, uint64_t grain_size, uint32_t table_entries)
{
    const uint64_t tables = pl_div_up(bytes, grain_size * table_entries);

    return (struct vmdk_tables){
        .tables = tables,
        .directory_sectors = pl_div_up(tables * VMDK_ENTRY_BYTES, VMDK_SECTOR),
        .table_sectors = table_entries * VMDK_ENTRY_BYTES / VMDK_SECTOR,
    };
}

uint64_t vmdk_tables_sectors(const struct vmdk_tables *t)
{
    return t->directory_sectors + t->tables * t->table_sectors;
}

int vmdk_write_directory(struct pl_storage *file, uint64_t off, const struct vmdk_tables *t,
                         uint64_t table_sector, struct pl_err *e)
{
    const uint64_t bytes = t->directory_sectors * VMDK_SECTOR;
    PL_FREE uint8_t *raw = malloc(DIRECTORY_BUFFER);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory to write a grain directory");
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t n = PL_MIN(bytes - done, DIRECTORY_BUFFER);

        memset(raw, 0, n);
        for (uint64_t i = 0; i < n / VMDK_ENTRY_BYTES; i++) {
            const uint64_t index = done / VMDK_ENTRY_BYTES + i;

            if (index < t->tables)
                store_le32(raw + VMDK_ENTRY_BYTES * i,
                           (uint32_t)(table_sector + index * t->table_sectors));
        }
        if (pl_storage_write(file, off + done, raw, n, e) < 0)
            return pl_within(e, "grain directory");
        done += n;
    }
    return 0;
}

static int check_new(const struct vmdk_sparse_new *what, struct pl_err *e)
{
    const uint64_t min = what->cowd ? VMDK_SECTOR : GRAIN_MIN;

    if (what->size % VMDK_SECTOR)
        return pl_fail(e, PL_E_INVALID, "a size of %" PRIu64 " bytes is no multiple of 512",
                       what->size);
    if (!pl_is_pow2(what->grain_size) || what->grain_size < min || what->grain_size > GRAIN_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "a grain of %" PRIu64 " bytes is no power of two from %" PRIu64
                       " to %" PRIu64,
                       what->grain_size, min, GRAIN_MAX);
    if (what->cowd && what->size / VMDK_SECTOR > UINT32_MAX)
        return pl_fail(e, PL_E_LIMIT, "a COWD extent of %" PRIu64 " bytes: the most is 2 TiB",
                       what->size);
    if (what->size > PL_OFFSET_MAX - GRAIN_MAX || vmdk_sparse_overhead(what) > VMDK_FILE_MAX / 2) {
        pl_fail(e, PL_E_LIMIT,
                "an extent of %" PRIu64 " bytes needs tables that leave no room in a file of 2 TiB",
                what->size);
        return pl_hint(e, "use larger grains");
    }
    return 0;
}

/* ---- hosted ---- */

static uint64_t descriptor_sectors(const struct vmdk_sparse_new *what)
{
    if (!what->descriptor)
        return 0;
    return PL_MAX(pl_div_up(strlen(what->descriptor), VMDK_SECTOR), VMDK_DESCRIPTOR_SECTORS);
}

static struct vmdk_header new_header(const struct vmdk_sparse_new *what)
{
    const struct vmdk_tables t = vmdk_tables_for(what->size, what->grain_size, VMDK_TABLE_ENTRIES);
    struct vmdk_header h = {
        .magicNumber = VMDK_MAGIC,
        .version = what->zeroed_grain ? 2 : 1,
        .flags = VMDK_FLAG_NEWLINE_TEST | VMDK_FLAG_REDUNDANT |
                 (what->zeroed_grain ? VMDK_FLAG_ZEROED_GRAIN : 0),
        .capacity = what->size / VMDK_SECTOR,
        .grainSize = what->grain_size / VMDK_SECTOR,
        .descriptorOffset = what->descriptor ? VMDK_DESCRIPTOR_OFFSET : 0,
        .descriptorSize = descriptor_sectors(what),
        .numGTEsPerGT = VMDK_TABLE_ENTRIES,
    };

    memcpy(h.newline_test, VMDK_NEWLINE_TEST, sizeof h.newline_test);
    h.rgdOffset = 1 + h.descriptorSize;
    h.gdOffset = h.rgdOffset + vmdk_tables_sectors(&t);
    h.overHead = pl_round_up(h.gdOffset + vmdk_tables_sectors(&t), h.grainSize);
    return h;
}

static int create_hosted(struct pl_storage *file, const struct vmdk_sparse_new *what,
                         struct pl_err *e)
{
    const struct vmdk_tables t = vmdk_tables_for(what->size, what->grain_size, VMDK_TABLE_ENTRIES);
    const struct vmdk_header h = new_header(what);
    uint8_t raw[VMDK_HEADER_BYTES] = { 0 };

    if (pl_storage_zero(file, 0, h.overHead * VMDK_SECTOR, e) < 0 ||
        (what->descriptor && pl_storage_write(file, h.descriptorOffset * VMDK_SECTOR,
                                              what->descriptor, strlen(what->descriptor), e) < 0) ||
        vmdk_write_directory(file, h.rgdOffset * VMDK_SECTOR, &t, h.rgdOffset + t.directory_sectors,
                             e) < 0 ||
        vmdk_write_directory(file, h.gdOffset * VMDK_SECTOR, &t, h.gdOffset + t.directory_sectors,
                             e) < 0)
        return -1;
    pl_fields_encode(vmdk_header_fields, &h, raw, sizeof raw);
    return pl_storage_write(file, 0, raw, sizeof raw, e);
}

/* ---- COWD ---- */

static int create_cowd(struct pl_storage *file, const struct vmdk_sparse_new *what,
                       struct pl_err *e)
{
    const struct vmdk_tables t =
        vmdk_tables_for(what->size, what->grain_size, VMDK_COWD_TABLE_ENTRIES);
    const uint32_t sectors = (uint32_t)(what->size / VMDK_SECTOR);
    const struct vmdk_cowd_header h = {
        .magicNumber = VMDK_COWD_MAGIC,
        .version = VMDK_COWD_VERSION,
        .flags = VMDK_COWD_FLAGS,
        .numSectors = sectors,
        .grainSize = (uint32_t)(what->grain_size / VMDK_SECTOR),
        .gdOffset = VMDK_COWD_GD_OFFSET,
        .numGDEntries = (uint32_t)t.tables,
        .freeSector = (uint32_t)(VMDK_COWD_GD_OFFSET + t.directory_sectors),
        .cylinders = sectors / (COWD_HEADS * COWD_SECTORS),
        .heads = COWD_HEADS,
        .sectors = COWD_SECTORS,
    };
    uint8_t raw[VMDK_COWD_HEADER_BYTES] = { 0 };

    if (pl_storage_zero(file, 0, (uint64_t)h.freeSector * VMDK_SECTOR, e) < 0)
        return -1;
    pl_fields_encode(vmdk_cowd_header_fields, &h, raw, sizeof raw);
    return pl_storage_write(file, 0, raw, sizeof raw, e);
}

int vmdk_sparse_create(struct pl_storage *file, const struct vmdk_sparse_new *what,
                       struct pl_err *e)
{
    if (check_new(what, e) < 0)
        return -1;
    return what->cowd ? create_cowd(file, what, e) : create_hosted(file, what, e);
}

uint64_t vmdk_sparse_overhead(const struct vmdk_sparse_new *what)
{
    const struct vmdk_tables t = vmdk_tables_for(
        what->size, what->grain_size, what->cowd ? VMDK_COWD_TABLE_ENTRIES : VMDK_TABLE_ENTRIES);

    if (what->cowd)
        return VMDK_COWD_HEADER_BYTES + vmdk_tables_sectors(&t) * VMDK_SECTOR;
    return new_header(what).overHead * VMDK_SECTOR;
}
