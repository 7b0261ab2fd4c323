/* sparse_header.c - the headers of sparse extents, and the footer that stands in for one.
 *
 * What is checked here is what the numbers mean by themselves; whether directories and descriptor
 * lie inside the file is checked where they are used. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/vmdk/sparse.h"

/* Zeros that some tools and transfers leave behind the end-of-stream marker. */
#define PADDING_MAX (64 * PL_KIB)

#define FIELD(type, at, name) PL_FIELD(struct vmdk_header, type, at, name)

const struct pl_field vmdk_header_fields[] = {
    FIELD(PL_LE32, 0, magicNumber),
    FIELD(PL_LE32, 4, version),
    FIELD(PL_LE32, 8, flags),
    FIELD(PL_LE64, 12, capacity),
    FIELD(PL_LE64, 20, grainSize),
    FIELD(PL_LE64, 28, descriptorOffset),
    FIELD(PL_LE64, 36, descriptorSize),
    FIELD(PL_LE32, 44, numGTEsPerGT),
    FIELD(PL_LE64, 48, rgdOffset),
    FIELD(PL_LE64, 56, gdOffset),
    FIELD(PL_LE64, 64, overHead),
    FIELD(PL_U8, 72, uncleanShutdown),
    FIELD(PL_BYTES, 73, newline_test),
    FIELD(PL_LE16, 77, compressAlgorithm),
    { 0 },
};

#undef FIELD
#define FIELD(type, at, name) PL_FIELD(struct vmdk_cowd_header, type, at, name)

const struct pl_field vmdk_cowd_header_fields[] = {
    FIELD(PL_LE32, 0, magicNumber),
    FIELD(PL_LE32, 4, version),
    FIELD(PL_LE32, 8, flags),
    FIELD(PL_LE32, 12, numSectors),
    FIELD(PL_LE32, 16, grainSize),
    FIELD(PL_LE32, 20, gdOffset),
    FIELD(PL_LE32, 24, numGDEntries),
    FIELD(PL_LE32, 28, freeSector),
    FIELD(PL_LE32, 32, cylinders),
    FIELD(PL_LE32, 36, heads),
    FIELD(PL_LE32, 40, sectors),
    FIELD(PL_LE32, VMDK_COWD_UNCLEAN_AT, uncleanShutdown),
    { 0 },
};

int vmdk_read_magic(struct pl_storage *file, uint32_t *magic, struct pl_err *e)
{
    uint8_t raw[4];

    *magic = 0;
    if (pl_storage_size(file) < sizeof raw)
        return 0;
    if (pl_storage_read(file, 0, raw, sizeof raw, e) < 0)
        return -1;
    *magic = load_le32(raw);
    return 0;
}

static int read_raw(struct pl_storage *file, uint8_t *raw, size_t len, struct pl_err *e)
{
    if (pl_storage_size(file) < len)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: the file ends inside it, after %" PRIu64 " of %zu bytes",
                       pl_storage_size(file), len);
    return pl_storage_read(file, 0, raw, len, e) < 0 ? pl_within(e, "header") : 0;
}

static int check_newlines(const struct vmdk_header *h, struct pl_err *e)
{
    const uint8_t *c = h->newline_test;

    if (!(h->flags & VMDK_FLAG_NEWLINE_TEST) ||
        !memcmp(c, VMDK_NEWLINE_TEST, sizeof h->newline_test))
        return 0;
    pl_fail(e, PL_E_CORRUPT,
            "header: the newline test reads %02x %02x %02x %02x instead of 0a 20 0d 0a: the file "
            "was transferred as text",
            c[0], c[1], c[2], c[3]);
    return pl_hint(e, "every newline byte in it may be damaged: copy it again, in binary mode");
}

static int check_grain_size(uint64_t sectors, uint64_t max, struct pl_err *e)
{
    if (!pl_is_pow2(sectors) || sectors > max)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: grainSize of %" PRIu64 " sectors is no power of two from 1 to "
                       "%" PRIu64,
                       sectors, max);
    return 0;
}

static int check_compression(const struct vmdk_header *h, struct pl_err *e)
{
    const bool flag = h->flags & VMDK_FLAG_COMPRESSED;

    if (h->compressAlgorithm > VMDK_COMPRESSION_DEFLATE)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: unknown compressAlgorithm %" PRIu16,
                       h->compressAlgorithm);
    if (flag != (h->compressAlgorithm == VMDK_COMPRESSION_DEFLATE))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: compressAlgorithm is %" PRIu16 ", but the flag for compressed "
                       "grains is %s (flags 0x%" PRIx32 ")",
                       h->compressAlgorithm, flag ? "set" : "not set", h->flags);
    if (!flag && h->flags & VMDK_FLAG_MARKERS)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "header: markers beside grains that are not compressed (flags 0x%" PRIx32
                       ")",
                       h->flags);
    return check_grain_size(h->grainSize, flag ? VMDK_PACKED_SECTORS_MAX : VMDK_GRAIN_SECTORS_MAX,
                            e);
}

static int check_header(const struct vmdk_header *h, struct pl_err *e)
{
    if (h->magicNumber != VMDK_MAGIC)
        return pl_fail(e, PL_E_FORMAT, "not a hosted sparse extent (magic 0x%08" PRIx32 ")",
                       h->magicNumber);
    if (h->version < 1 || h->version > VMDK_VERSION_MAX)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: version %" PRIu32 " is not from 1 to %d",
                       h->version, VMDK_VERSION_MAX);
    if (check_newlines(h, e) < 0)
        return -1;
    if (h->flags & VMDK_FLAGS_UNKNOWN)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "header: unknown flags 0x%" PRIx32 " that change how grains are read",
                       h->flags & VMDK_FLAGS_UNKNOWN);
    if (check_compression(h, e) < 0)
        return -1;
    if (!pl_is_pow2(h->numGTEsPerGT) || h->numGTEsPerGT < VMDK_TABLE_ENTRIES_MIN ||
        h->numGTEsPerGT > VMDK_TABLE_ENTRIES_MAX)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: numGTEsPerGT %" PRIu32 " is no power of two from %u to %u",
                       h->numGTEsPerGT, VMDK_TABLE_ENTRIES_MIN, VMDK_TABLE_ENTRIES_MAX);
    if (h->capacity > (PL_OFFSET_MAX - VMDK_GRAIN_SECTORS_MAX * VMDK_SECTOR) / VMDK_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "header: a capacity of %" PRIu64 " sectors is too big",
                       h->capacity);
    return 0;
}

/* ---- the footer ---- */

/* Byte offset of the last sector that is not all zeros: the footer, since only the end-of-stream
 * marker, a sector of zeros, and padding come behind it. */
static int find_footer(struct pl_storage *file, uint64_t *off, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(file);
    const uint64_t end = pl_round_up(size, VMDK_SECTOR);
    const uint64_t from = end > PADDING_MAX ? end - PADDING_MAX : 0;
    PL_FREE uint8_t *tail = malloc(PADDING_MAX);

    if (!tail)
        return pl_fail(e, PL_E_NOMEM, "footer: no memory to look for it");
    if (pl_storage_read_padded(file, from, tail, end - from, e) < 0)
        return pl_within(e, "footer");
    for (uint64_t at = end - from; at >= VMDK_SECTOR; at -= VMDK_SECTOR) {
        const uint8_t *sector = tail + (at - VMDK_SECTOR);

        if (pl_is_zero(sector, VMDK_SECTOR))
            continue;
        *off = from + (at - VMDK_SECTOR);
        if (load_le32(sector) == VMDK_MAGIC && *off >= 2 * VMDK_SECTOR)
            return 0;
        break;
    }
    pl_fail(e, PL_E_CORRUPT,
            "footer: the header says that the grain directory's place is told at the end of the "
            "file (0x%" PRIx64 "), but there is no footer",
            size);
    return pl_hint(e, "the file may be incomplete; compare its size with the original");
}

static int refuse_second_footer(uint64_t first, uint64_t second, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT, "footer: there are two, at 0x%" PRIx64 " and at 0x%" PRIx64,
                   first, second);
}

/* A stream ends once: no footer and end of stream lie in front of the footer's marker. */
static int check_only_footer(struct pl_storage *file, uint64_t footer, struct pl_err *e)
{
    const uint64_t before = 3 * VMDK_SECTOR;
    uint8_t raw[2 * VMDK_SECTOR];

    if (footer < before + VMDK_SECTOR)
        return 0;
    if (pl_storage_read(file, footer - before, raw, sizeof raw, e) < 0)
        return pl_within(e, "footer");
    if (load_le32(raw) == VMDK_MAGIC && pl_is_zero(raw + VMDK_SECTOR, VMDK_SECTOR))
        return refuse_second_footer(footer - before, footer, e);
    return 0;
}

/* The sector in front of a footer says that one follows. */
static int check_footer_marker(struct pl_storage *file, uint64_t footer, struct pl_err *e)
{
    uint8_t raw[VMDK_SECTOR];
    uint64_t sectors;
    uint32_t size, type;

    if (pl_storage_read(file, footer - sizeof raw, raw, sizeof raw, e) < 0)
        return pl_within(e, "footer's marker");
    sectors = load_le64(raw);
    size = load_le32(raw + VMDK_MARKER_SIZE_AT);
    type = load_le32(raw + VMDK_MARKER_TYPE_AT);
    if (sectors == 1 && size == 0 && type == VMDK_MARKER_FOOTER)
        return check_only_footer(file, footer, e);
    if (load_le32(raw) == VMDK_MAGIC)
        return refuse_second_footer(footer - VMDK_SECTOR, footer, e);
    return pl_fail(e, PL_E_CORRUPT,
                   "footer at 0x%" PRIx64 ": the marker in front of it says %" PRIu64
                   " sectors, size %" PRIu32 ", type %" PRIu32 " instead of 1, 0, %d",
                   footer, sectors, size, type, VMDK_MARKER_FOOTER);
}

/* A field that a footer repeats. */
static int same_field(const char *name, uint64_t header, uint64_t footer, struct pl_err *e)
{
    if (header == footer)
        return 0;
    return pl_fail(e, PL_E_CORRUPT, "footer: %s is %" PRIu64 ", in the header %" PRIu64, name,
                   footer, header);
}

static int check_footer(const struct vmdk_header *h, const struct vmdk_header *f, struct pl_err *e)
{
    if (check_header(f, e) < 0)
        return pl_within(e, "footer");
    if (same_field("version", h->version, f->version, e) < 0 ||
        same_field("flags", h->flags, f->flags, e) < 0 ||
        same_field("capacity", h->capacity, f->capacity, e) < 0 ||
        same_field("grainSize", h->grainSize, f->grainSize, e) < 0 ||
        same_field("descriptorOffset", h->descriptorOffset, f->descriptorOffset, e) < 0 ||
        same_field("descriptorSize", h->descriptorSize, f->descriptorSize, e) < 0 ||
        same_field("numGTEsPerGT", h->numGTEsPerGT, f->numGTEsPerGT, e) < 0)
        return -1;
    if (f->gdOffset == VMDK_GD_AT_END)
        return pl_fail(e, PL_E_CORRUPT,
                       "footer: it says, as the header does, that the grain directory's place is "
                       "told in the footer");
    return 0;
}

static int read_footer(struct pl_storage *file, struct vmdk_header *h, struct pl_err *e)
{
    uint8_t raw[VMDK_HEADER_BYTES];
    struct vmdk_header footer;
    uint64_t off = 0;

    if (find_footer(file, &off, e) < 0)
        return -1;
    if (pl_storage_read_padded(file, off, raw, sizeof raw, e) < 0)
        return pl_within(e, "footer");
    pl_fields_decode(vmdk_header_fields, raw, sizeof raw, &footer);
    if (check_footer_marker(file, off, e) < 0 || check_footer(h, &footer, e) < 0)
        return -1;
    *h = footer;
    return 0;
}

int vmdk_read_first_header(struct pl_storage *file, struct vmdk_header *out, struct pl_err *e)
{
    uint8_t raw[VMDK_HEADER_BYTES];

    if (read_raw(file, raw, sizeof raw, e) < 0)
        return -1;
    pl_fields_decode(vmdk_header_fields, raw, sizeof raw, out);
    return check_header(out, e);
}

int vmdk_read_header(struct pl_storage *file, struct vmdk_header *out, struct pl_err *e)
{
    if (vmdk_read_first_header(file, out, e) < 0)
        return -1;
    return out->gdOffset == VMDK_GD_AT_END ? read_footer(file, out, e) : 0;
}

/* ---- COWD ---- */

static int check_cowd(const struct vmdk_cowd_header *h, struct pl_err *e)
{
    uint64_t span;

    if (h->magicNumber != VMDK_COWD_MAGIC)
        return pl_fail(e, PL_E_FORMAT, "not a COWD extent (magic 0x%08" PRIx32 ")", h->magicNumber);
    if (h->version != VMDK_COWD_VERSION)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: version %" PRIu32 " is not %d", h->version,
                       VMDK_COWD_VERSION);
    if (check_grain_size(h->grainSize, VMDK_GRAIN_SECTORS_MAX, e) < 0)
        return -1;
    span = (uint64_t)h->grainSize * VMDK_COWD_TABLE_ENTRIES;
    if (h->numGDEntries < pl_div_up(h->numSectors, span))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: numGDEntries is %" PRIu32 ", but %" PRIu32 " sectors need %" PRIu64,
                       h->numGDEntries, h->numSectors, pl_div_up(h->numSectors, span));
    return 0;
}

int vmdk_read_cowd_header(struct pl_storage *file, struct vmdk_cowd_header *out, struct pl_err *e)
{
    uint8_t raw[VMDK_COWD_HEADER_BYTES];

    if (read_raw(file, raw, sizeof raw, e) < 0)
        return -1;
    pl_fields_decode(vmdk_cowd_header_fields, raw, sizeof raw, out);
    return check_cowd(out, e);
}
