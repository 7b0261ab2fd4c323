/* stream_write.c - the writer of a new streamOptimized file (layout.h).
 *
 * Grains come once, in guest order; each gets the room behind the one before.  The first grain that
 * belongs to another grain table lets the table of those before it be written, so what is kept in
 * memory is one table, and the directory.  Everything is written front to back, so a pipe will do:
 * there the caller has written all earlier grains when the table's turn comes.  That holds as long
 * as a table's grains are a multiple of the piece of the disk that the caller places at once,
 * hence GRAIN_MIN_ON_PIPE; it is checked all the same.
 *
 * The same grains give the same bytes.  What is written cannot be read back before it is complete;
 * the file is then opened anew. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/codec/codec.h"
#include "formats/vmdk/extent.h"
#include "formats/vmdk/layout.h"

/* Bytes, powers of two.  The specification wants more than 4 KiB.  On a pipe: a table's 512 grains
 * fill the largest pieces (of 8 MiB, the largest grain of a source) that are placed at once. */
#define GRAIN_MIN (8 * PL_KIB)
#define GRAIN_MAX (8 * PL_MIB)
#define GRAIN_MIN_ON_PIPE (16 * PL_KIB)

/* Our own limits: a disk of 256 TiB with the usual grains of 64 KiB; a descriptor that no reader
 * takes for something else. */
#define DIRECTORY_MAX (32 * PL_MIB)
#define DESCRIPTOR_MAX PL_MIB

/* All of it belongs to the one writer; flush touches nothing but the file. */
struct stream {
    struct pl_storage *file; /* the core's */
    struct vmdk_header header;
    uint64_t size, grain_size;
    uint64_t grains_done; /* the next grain is this one or a later one */
    uint64_t end;         /* byte offset of what comes next in the file */
    uint64_t table;       /* which grain table the entries below belong to */
    bool has_entries;     /* it has a grain */
    bool finished, gap;   /* gap: room was given back, the stream cannot become whole */
    uint8_t table_bytes[VMDK_SECTOR + VMDK_STREAM_TABLE_BYTES]; /* its marker, its entries */
    uint64_t directory_bytes;                                   /* without the padding */
    uint8_t *directory; /* its marker, its entries, and behind them room for the footer */
};

/* ---- header ---- */

static int check_new(struct pl_storage *file, const struct vmdk_sparse_new *what, struct pl_err *e)
{
    const uint64_t grain = what->grain_size;

    if (!pl_is_pow2(grain) || grain < GRAIN_MIN || grain > GRAIN_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "grain size: %" PRIu64 " is not a power of two from %" PRIu64 " to %" PRIu64
                       " bytes",
                       grain, GRAIN_MIN, GRAIN_MAX);
    if (file->sequential && grain < GRAIN_MIN_ON_PIPE) {
        pl_fail(e, PL_E_UNSUPPORTED, "a pipe takes no grains of %" PRIu64 " bytes", grain);
        return pl_hint(e, "choose grains of %" PRIu64 " bytes or more, or write to a file",
                       GRAIN_MIN_ON_PIPE);
    }
    if (file->device)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "a streamOptimized file ends with its footer, which would not be found on a "
                       "block device");
    if (what->size > PL_OFFSET_MAX - GRAIN_MAX ||
        pl_div_up(what->size, grain * VMDK_TABLE_ENTRIES) > DIRECTORY_MAX / 4) {
        pl_fail(e, PL_E_LIMIT,
                "a disk of %" PRIu64 " bytes in grains of %" PRIu64
                " bytes needs a directory of more than %" PRIu64 " MiB",
                what->size, grain, DIRECTORY_MAX / PL_MIB);
        return pl_hint(e, "choose larger grains");
    }
    if (what->descriptor && strlen(what->descriptor) > DESCRIPTOR_MAX)
        return pl_fail(e, PL_E_LIMIT, "descriptor: %zu bytes are more than the limit of %" PRIu64,
                       strlen(what->descriptor), DESCRIPTOR_MAX);
    return 0;
}

/* `what` was checked. */
static struct vmdk_header header_of(const struct vmdk_sparse_new *what)
{
    struct vmdk_header header = {
        .magicNumber = VMDK_MAGIC,
        .version = VMDK_STREAM_VERSION,
        .flags = VMDK_STREAM_FLAGS,
        .capacity = pl_div_up(what->size, VMDK_SECTOR),
        .grainSize = what->grain_size / VMDK_SECTOR,
        .numGTEsPerGT = VMDK_TABLE_ENTRIES,
        .gdOffset = VMDK_GD_AT_END,
        .compressAlgorithm = VMDK_COMPRESSION_DEFLATE,
    };

    memcpy(header.newline_test, VMDK_NEWLINE_TEST, sizeof header.newline_test);
    if (what->descriptor) {
        header.descriptorOffset = VMDK_DESCRIPTOR_OFFSET;
        header.descriptorSize =
            PL_MAX(VMDK_DESCRIPTOR_SECTORS, pl_div_up(strlen(what->descriptor), VMDK_SECTOR));
    }
    header.overHead = pl_round_up(1 + header.descriptorSize, VMDK_STREAM_OVERHEAD_UNIT);
    return header;
}

int vmdk_stream_create(struct pl_storage *file, const struct vmdk_sparse_new *what,
                       struct pl_err *e)
{
    struct vmdk_header header;
    PL_FREE uint8_t *bytes = NULL;
    size_t len;

    if (check_new(file, what, e) < 0)
        return -1;
    header = header_of(what);
    len = header.overHead * VMDK_SECTOR;
    bytes = calloc(1, len);
    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for a header of %zu bytes", len);
    pl_fields_encode(vmdk_header_fields, &header, bytes, len);
    if (what->descriptor)
        memcpy(bytes + header.descriptorOffset * VMDK_SECTOR, what->descriptor,
               strlen(what->descriptor));
    return pl_storage_write(file, 0, bytes, len, e) < 0 ? pl_within(e, "header") : 0;
}

/* ---- tables ---- */

static void set_marker(uint8_t *sector, uint64_t bytes_behind, enum vmdk_marker type)
{
    store_le64(sector, bytes_behind / VMDK_SECTOR);
    store_le32(sector + VMDK_MARKER_TYPE_AT, type);
}

/* On a pipe what lies before must have passed: the gap would be filled with zeros. */
static int check_position(const struct stream *s, struct pl_err *e)
{
    const uint64_t size = s->file->sequential ? pl_storage_size(s->file) : s->end;

    if (size != s->end)
        return pl_fail(e, PL_E_INVALID,
                       "grain table %" PRIu64 ": its grains up to 0x%" PRIx64
                       " are not written yet, only up to 0x%" PRIx64,
                       s->table, s->end, size);
    return 0;
}

/* Entries have 32 bits. */
static int check_end(uint64_t end, struct pl_err *e)
{
    if (end / VMDK_SECTOR <= UINT32_MAX)
        return 0;
    pl_fail(e, PL_E_LIMIT, "a streamOptimized file cannot be larger than 2 TiB");
    return pl_hint(e, "another format can hold it: qcow2, vmdk with more than one extent");
}

/* Writes the table of the grains so far, if there are any. */
static int write_table(struct stream *s, struct pl_err *e)
{
    if (!s->has_entries)
        return 0;
    if (check_position(s, e) < 0 || check_end(s->end + VMDK_SECTOR, e) < 0)
        return -1;
    if (pl_storage_write(s->file, s->end, s->table_bytes, sizeof s->table_bytes, e) < 0)
        return pl_within(e, "grain table %" PRIu64, s->table);
    store_le32(s->directory + VMDK_SECTOR + 4 * s->table, (uint32_t)(s->end / VMDK_SECTOR) + 1);
    s->end += sizeof s->table_bytes;
    memset(s->table_bytes + VMDK_SECTOR, 0, VMDK_STREAM_TABLE_BYTES);
    s->has_entries = false;
    return 0;
}

/* ---- the slots ---- */

static int check_order(const struct stream *s, uint64_t at, uint32_t packed_len, struct pl_err *e)
{
    if (s->finished)
        return pl_fail(e, PL_E_INVALID, "grain at 0x%" PRIx64 ": the stream is complete", at);
    if (at % s->grain_size || at >= s->size || at / s->grain_size < s->grains_done)
        return pl_fail(e, PL_E_INVALID,
                       "grain at 0x%" PRIx64 ": a stream of grains of 0x%" PRIx64
                       " bytes is at 0x%" PRIx64 " of 0x%" PRIx64 " and takes them in order",
                       at, s->grain_size, s->grains_done * s->grain_size, s->size);
    /* QEMU reads two grains' worth of bytes to get marker and stream */
    if (packed_len == 0 || packed_len > 2 * s->grain_size - VMDK_GRAIN_MARKER_BYTES)
        return pl_fail(e, PL_E_INVALID,
                       "grain at 0x%" PRIx64 ": no grain of 0x%" PRIx64
                       " bytes is packed to %" PRIu32,
                       at, s->grain_size, packed_len);
    return 0;
}

static int stream_allocate_packed(void *state, uint64_t at, uint32_t packed_len,
                                  struct pl_place *out, struct pl_err *e)
{
    struct stream *s = state;
    const uint64_t grain = at / s->grain_size;
    const uint64_t index = grain % VMDK_TABLE_ENTRIES;

    if (check_order(s, at, packed_len, e) < 0)
        return -1;
    if (grain / VMDK_TABLE_ENTRIES != s->table && write_table(s, e) < 0)
        return -1;
    s->table = grain / VMDK_TABLE_ENTRIES;
    if (check_end(s->end, e) < 0)
        return -1;
    *out = (struct pl_place){
        .at = at,
        .len = PL_MIN(s->grain_size, s->size - at),
        .st = s->file,
        .off = s->end,
        .fresh = true,
        .packed_len = packed_len,
    };
    store_le64(out->head, at / VMDK_SECTOR);
    store_le32(out->head + VMDK_GRAIN_MARKER_SIZE_AT, packed_len);
    store_le32(s->table_bytes + VMDK_SECTOR + 4 * index, (uint32_t)(s->end / VMDK_SECTOR));
    s->has_entries = true;
    s->grains_done = grain + 1;
    s->end += pl_round_up((uint64_t)VMDK_GRAIN_MARKER_BYTES + packed_len, VMDK_SECTOR);
    return 0;
}

/* The entry was made with the room: its table may have to be written before this is called. */
static int stream_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    (void)state;
    (void)place;
    (void)e;
    return 0;
}

static void stream_cancel(void *state, const struct pl_place *place)
{
    struct stream *s = state;

    (void)place;
    s->gap = true;
}

/* The directory, the footer and the end of the stream, in one write. */
static int write_end(struct stream *s, struct pl_err *e)
{
    const uint64_t padded = pl_round_up(s->directory_bytes, VMDK_SECTOR);
    uint8_t *footer = s->directory + VMDK_SECTOR + padded;
    const size_t len = 4 * (size_t)VMDK_SECTOR + padded;
    struct vmdk_header header = s->header;

    header.gdOffset = s->end / VMDK_SECTOR + 1;
    set_marker(s->directory, padded, VMDK_MARKER_GRAIN_DIRECTORY);
    set_marker(footer, VMDK_SECTOR, VMDK_MARKER_FOOTER);
    pl_fields_encode(vmdk_header_fields, &header, footer + VMDK_SECTOR, VMDK_SECTOR);
    if (check_position(s, e) < 0)
        return -1;
    if (pl_storage_write(s->file, s->end, s->directory, len, e) < 0)
        return pl_within(e, "grain directory");
    s->end += len;
    return 0;
}

static int stream_finish(void *state, struct pl_err *e)
{
    struct stream *s = state;

    if (s->finished)
        return 0;
    if (s->gap)
        return pl_fail(e, PL_E_INVALID, "a grain could not be written: the stream has a gap");
    if (write_table(s, e) < 0 || write_end(s, e) < 0)
        return -1;
    s->finished = true;
    /* readers look for the footer at the very end */
    return pl_storage_size(s->file) == s->end ? 0 : pl_storage_resize(s->file, s->end, e);
}

static int stream_flush(void *state, struct pl_err *e)
{
    struct stream *s = state;

    return pl_storage_flush(s->file, e);
}

static int stream_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out,
                      struct pl_err *e)
{
    (void)state;
    (void)len;
    (void)out;
    return pl_fail(e, PL_E_UNSUPPORTED,
                   "reading at 0x%" PRIx64 ": a streamOptimized file that is being written cannot "
                   "be read",
                   at);
}

static void stream_close(void *state)
{
    struct stream *s = state;

    free(s->directory);
    free(s);
}

static const struct vmdk_extent_ops stream_ops = {
    .kind = "stream",
    .map = stream_map,
    .allocate_packed = stream_allocate_packed,
    .link = stream_link,
    .cancel = stream_cancel,
    .flush = stream_flush,
    .finish = stream_finish,
    .close = stream_close,
};

/* Nothing follows the header and the descriptor yet. */
static int check_untouched(struct pl_storage *file, const struct vmdk_sparse_new *what,
                           struct pl_err *e)
{
    const uint64_t wanted = header_of(what).overHead * VMDK_SECTOR;
    const uint64_t size = pl_storage_size(file);

    if (size != wanted)
        return pl_fail(e, PL_E_INVALID, "a new stream has 0x%" PRIx64 " bytes, this one 0x%" PRIx64,
                       wanted, size);
    return 0;
}

int vmdk_stream_open_new(struct pl_storage *file, const struct vmdk_sparse_new *what,
                         struct vmdk_extent *out, struct pl_err *e)
{
    struct stream *s;

    if (check_new(file, what, e) < 0 || check_untouched(file, what, e) < 0)
        return -1;
    s = calloc(1, sizeof *s);
    if (!s)
        return pl_fail(e, PL_E_NOMEM, "no memory to write a stream");
    s->file = file;
    s->header = header_of(what);
    s->size = what->size;
    s->grain_size = what->grain_size;
    s->end = s->header.overHead * VMDK_SECTOR;
    s->directory_bytes = 4 * pl_div_up(what->size, what->grain_size * VMDK_TABLE_ENTRIES);
    s->directory = calloc(1, 4 * VMDK_SECTOR + pl_round_up(s->directory_bytes, VMDK_SECTOR));
    if (!s->directory) {
        free(s);
        return pl_fail(e, PL_E_NOMEM, "no memory for a directory of %" PRIu64 " bytes",
                       4 * pl_div_up(what->size, what->grain_size * VMDK_TABLE_ENTRIES));
    }
    set_marker(s->table_bytes, VMDK_STREAM_TABLE_BYTES, VMDK_MARKER_GRAIN_TABLE);
    *out = (struct vmdk_extent){
        .ops = &stream_ops,
        .state = s,
        .size = what->size,
        .granule = (uint32_t)what->grain_size,
        .codec = &pl_codec_zlib,
        .unit_len = (uint32_t)what->grain_size,
        .packed_head = VMDK_GRAIN_MARKER_BYTES,
        .packed_align = VMDK_SECTOR,
        .packed_only = true,
        .file = file,
    };
    return 0;
}
