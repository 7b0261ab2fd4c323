/* sesparse_header.c - the two headers of a seSparse extent (sesparse_layout.h).
 *
 * The format is known from files, not from a specification, so whatever is not as in all files seen
 * so far is refused.  So is a file whose journal waits to be replayed: its tables are not the
 * newest. */
#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/zero.h"
#include "formats/vmdk/sesparse.h"

#define FIELD(at, name) PL_FIELD(struct sesparse_const_header, PL_LE64, at, name)

static const struct pl_field const_header_fields[] = {
    FIELD(0, magic),
    FIELD(8, version),
    FIELD(16, capacity),
    FIELD(24, grain_size),
    FIELD(32, grain_table_size),
    FIELD(40, flags),
    FIELD(48, reserved1),
    FIELD(56, reserved2),
    FIELD(64, reserved3),
    FIELD(72, reserved4),
    FIELD(80, volatile_header_offset),
    FIELD(88, volatile_header_size),
    FIELD(96, journal_header_offset),
    FIELD(104, journal_header_size),
    FIELD(112, journal_offset),
    FIELD(120, journal_size),
    FIELD(128, grain_dir_offset),
    FIELD(136, grain_dir_size),
    FIELD(144, grain_tables_offset),
    FIELD(152, grain_tables_size),
    FIELD(160, free_bitmap_offset),
    FIELD(168, free_bitmap_size),
    FIELD(176, backmap_offset),
    FIELD(184, backmap_size),
    FIELD(192, grains_offset),
    FIELD(200, grains_size),
    { 0 },
};

#undef FIELD
#define FIELD(at, name) PL_FIELD(struct sesparse_volatile_header, PL_LE64, at, name)

static const struct pl_field volatile_header_fields[] = {
    FIELD(0, magic),
    FIELD(8, free_gt_number),
    FIELD(16, next_txn_seq_number),
    FIELD(24, replay_journal),
    { 0 },
};

/* Byte offset of `sector`, of which `count` more follow inside the file. */
static int place_of(struct pl_storage *file, const char *what, uint64_t sector, uint64_t count,
                    uint64_t *off, struct pl_err *e)
{
    const uint64_t sectors = pl_storage_size(file) / SESPARSE_SECTOR;

    if (!pl_inside(sector, count, sectors))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: %s at sector 0x%" PRIx64 ", 0x%" PRIx64
                       " sectors, is past the end of the file (0x%" PRIx64 " sectors)",
                       what, sector, count, sectors);
    *off = sector * SESPARSE_SECTOR;
    return 0;
}

/* One of the two headers. */
struct kind {
    const char *name;
    uint64_t magic;
    enum pl_kind not_it; /* the error where the magic is another */
    const struct pl_field *fields;
};

static const struct kind const_header = { "header", SESPARSE_CONST_MAGIC, PL_E_FORMAT,
                                          const_header_fields };
static const struct kind volatile_header = { "volatile header", SESPARSE_VOLATILE_MAGIC,
                                             PL_E_CORRUPT, volatile_header_fields };

static int read_header(struct pl_storage *file, uint64_t off, const struct kind *kind, void *header,
                       struct pl_err *e)
{
    const size_t end = pl_fields_end(kind->fields);
    uint8_t raw[SESPARSE_HEADER_BYTES];

    if (pl_storage_read(file, off, raw, sizeof raw, e) < 0)
        return pl_within(e, "%s", kind->name);
    if (load_le64(raw) != kind->magic)
        return pl_fail(e, kind->not_it,
                       "%s of a seSparse extent at 0x%" PRIx64 ": it begins with 0x%" PRIx64
                       ", not with 0x%" PRIx64,
                       kind->name, off, load_le64(raw), kind->magic);
    if (!pl_is_zero(raw + end, sizeof raw - end))
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%s at 0x%" PRIx64 ": it has more fields than are known", kind->name, off);
    pl_fields_decode(kind->fields, raw, sizeof raw, header);
    return 0;
}

static int check_field(const char *field, uint64_t value, uint64_t known, struct pl_err *e)
{
    if (value != known)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "header: %s 0x%" PRIx64 " is not known, only 0x%" PRIx64, field, value,
                       known);
    return 0;
}

static int check_const_header(const struct sesparse_const_header *h, struct pl_err *e)
{
    if (check_field("version", h->version, SESPARSE_VERSION, e) < 0 ||
        check_field("grain size", h->grain_size, SESPARSE_GRAIN_SECTORS, e) < 0 ||
        check_field("grain table size", h->grain_table_size, SESPARSE_TABLE_SECTORS, e) < 0 ||
        check_field("flags", h->flags, 0, e) < 0)
        return -1;
    if (check_field("reserved field 1", h->reserved1, 0, e) < 0 ||
        check_field("reserved field 2", h->reserved2, 0, e) < 0 ||
        check_field("reserved field 3", h->reserved3, 0, e) < 0 ||
        check_field("reserved field 4", h->reserved4, 0, e) < 0)
        return -1;
    if (h->capacity > PL_OFFSET_MAX / SESPARSE_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "header: a capacity of %" PRIu64 " sectors is too big",
                       h->capacity);
    return 0;
}

static int check_journal(struct pl_storage *file, const struct sesparse_const_header *h,
                         struct pl_err *e)
{
    struct sesparse_volatile_header now = { 0 };
    uint64_t off = 0;

    if (place_of(file, "volatile header", h->volatile_header_offset, 1, &off, e) < 0 ||
        read_header(file, off, &volatile_header, &now, e) < 0)
        return -1;
    if (now.replay_journal == 0)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED,
            "the disk was not closed properly: its newest changes are in a journal that only ESXi "
            "can replay");
    return pl_hint(e, "let ESXi open the disk once (vmkfstools -i SOURCE TARGET copies it), then "
                      "try again");
}

/* The extent line may be shorter than the capacity, not longer; a directory that is too short would
 * leave a part of the disk without a place. */
static int set_size(struct sesparse_layout *out, const struct sesparse_const_header *h,
                    uint64_t size, struct pl_err *e)
{
    const uint64_t capacity = h->capacity * SESPARSE_SECTOR;
    uint64_t tables;

    out->size = size ? size : capacity;
    if (out->size > capacity)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: a capacity of %" PRIu64 " bytes, but the descriptor says %" PRIu64,
                       capacity, size);
    tables = pl_div_up(out->size, SESPARSE_TABLE_ENTRIES * SESPARSE_GRAIN);
    if (tables > h->grain_dir_size * (SESPARSE_SECTOR / 8)) /* inside the file: cannot wrap */
        return pl_fail(e, PL_E_CORRUPT,
                       "header: a grain directory of %" PRIu64
                       " sectors, too short for the %" PRIu64 " tables of the disk",
                       h->grain_dir_size, tables);
    return 0;
}

int sesparse_read_headers(struct pl_storage *file, uint64_t size, struct sesparse_layout *out,
                          struct pl_err *e)
{
    const uint64_t file_size = pl_storage_size(file);
    struct sesparse_const_header h = { 0 };

    if (file_size < SESPARSE_HEADER_BYTES)
        return pl_fail(e, PL_E_CORRUPT, "header: the file ends inside it, after %" PRIu64 " bytes",
                       file_size);
    if (read_header(file, 0, &const_header, &h, e) < 0)
        return -1;
    if (check_const_header(&h, e) < 0 || check_journal(file, &h, e) < 0)
        return -1;
    if (place_of(file, "grain directory", h.grain_dir_offset, h.grain_dir_size, &out->directory,
                 e) < 0 ||
        place_of(file, "grain tables", h.grain_tables_offset, 0, &out->tables, e) < 0 ||
        place_of(file, "grains", h.grains_offset, 0, &out->grains, e) < 0)
        return -1;
    /* a file may end before all of its tables were used */
    out->tables_in_file = PL_MIN(h.grain_tables_size / SESPARSE_TABLE_SECTORS,
                                 (file_size - out->tables) / SESPARSE_TABLE);
    out->grains_in_file = (file_size - out->grains) / SESPARSE_GRAIN;
    return set_size(out, &h, size, e);
}
