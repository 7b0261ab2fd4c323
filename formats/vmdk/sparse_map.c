/* sparse_map.c - runs of guest bytes.
 *
 * Entries are copied under the lock and decoded without it.  One call covers what one grain table
 * says of grains that follow each other in the file, or any number of grains without entries. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/codec/codec.h"
#include "formats/vmdk/sparse.h"

static int bad_packed(uint32_t entry, uint64_t grain, struct pl_err *e)
{
    return pl_within(e, "compressed grain %" PRIu64 " at 0x%" PRIx64, grain,
                     vmdk_entry_offset(entry));
}

int vmdk_packed_place(const struct vmdk_sparse *s, uint32_t entry, uint64_t grain, uint64_t *off,
                      uint32_t *len, struct pl_err *e)
{
    const uint32_t head = s->markers ? VMDK_GRAIN_MARKER_BYTES : VMDK_GRAIN_SIZE_BYTES;
    const uint64_t first_sector = grain * (s->grain_size / VMDK_SECTOR);
    uint8_t raw[VMDK_GRAIN_MARKER_BYTES];

    *off = vmdk_entry_offset(entry) + head;
    if (pl_storage_read(s->file, *off - head, raw, head, e) < 0)
        return bad_packed(entry, grain, e);
    if (s->markers && load_le64(raw) != first_sector) {
        pl_fail(e, PL_E_CORRUPT, "its marker says sector %" PRIu64 " instead of %" PRIu64,
                load_le64(raw), first_sector);
        return bad_packed(entry, grain, e);
    }
    *len = load_le32(s->markers ? raw + VMDK_GRAIN_MARKER_SIZE_AT : raw);
    /* What cannot be packed becomes a little larger, never twice as large. */
    if (*len == 0 || *len > 2 * (uint64_t)s->grain_size + VMDK_SECTOR ||
        !pl_inside(*off, *len, pl_storage_size(s->file))) {
        pl_fail(e, PL_E_CORRUPT,
                "%" PRIu32 " bytes of compressed data in a file of 0x%" PRIx64 " bytes", *len,
                pl_storage_size(s->file));
        return bad_packed(entry, grain, e);
    }
    return 0;
}

/* The last grain may unpack to no more than the disk has of it: some tools pad it, some do not. */
static int set_packed(struct vmdk_sparse *s, uint32_t entry, uint64_t grain, struct pl_extent *out,
                      struct pl_err *e)
{
    out->state = PL_PACKED;
    out->st = s->file;
    out->codec = &pl_codec_zlib;
    out->unit_at = grain << s->grain_bits;
    out->unit_len = vmdk_grain_len(s, grain);
    return vmdk_packed_place(s, entry, grain, &out->off, &out->packed_len, e);
}

/* How many entries, the first included, continue its run. */
static uint32_t same_run(const struct vmdk_sparse *s, const struct vmdk_entries *look,
                         uint64_t grain, uint64_t file_end)
{
    const uint32_t first = look->entry[0];
    const bool points = vmdk_entry_points(s, first);
    const uint32_t sectors = s->grain_size / VMDK_SECTOR;
    uint32_t i = 1;

    while (i < look->count &&
           look->entry[i] == (points ? (uint64_t)first + (uint64_t)i * sectors : first) &&
           (!points || vmdk_check_entry(s, look->entry[i], grain + i, file_end, NULL) == 0))
        i++;
    return i;
}

/* The run of whole grains that begins with look->entry[0]. */
static int set_run(struct vmdk_sparse *s, const struct vmdk_entries *look, uint64_t grain,
                   uint64_t file_end, struct pl_extent *out, struct pl_err *e)
{
    const uint32_t entry = look->entry[0];

    out->len = s->grain_size;
    if (vmdk_entry_points(s, entry)) {
        if (vmdk_check_entry(s, entry, grain, file_end, e) < 0)
            return -1;
        if (s->compressed)
            return set_packed(s, entry, grain, out, e);
        out->state = PL_DATA;
        out->st = s->file;
        out->off = vmdk_entry_offset(entry);
    } else if (entry == VMDK_ENTRY_ZEROED) {
        out->state = PL_ZERO;
    }
    out->len = (uint64_t)same_run(s, look, grain, file_end) << s->grain_bits;
    return 0;
}

static int look_at(struct vmdk_sparse *s, uint64_t grain, struct vmdk_entries *look,
                   uint64_t *file_end, struct pl_err *e)
{
    PL_LOCKED(&s->lock);
    if (vmdk_look(s, grain, look, e) < 0)
        return -1;
    *file_end = s->file_end;
    return 0;
}

/* Where a run without entries, which ends with its grain table, ends: the table's end or that of
 * others like it. */
static uint64_t empty_end(struct vmdk_sparse *s, uint64_t grain, uint64_t last)
{
    const uint64_t next = (grain >> s->table_bits) + 1, last_table = last >> s->table_bits;
    const uint64_t more = next <= last_table ? vmdk_empty_tables(s, next, last_table) : 0;

    return (next + more) << s->table_bits << s->grain_bits;
}

int vmdk_sparse_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    struct vmdk_sparse *s = state;
    const uint64_t grain = at >> s->grain_bits, last = (at + len - 1) >> s->grain_bits;
    const uint32_t inside = (uint32_t)(at & (s->grain_size - 1));
    const uint32_t wanted = (uint32_t)PL_MIN(last - grain + 1, VMDK_LOOK_ENTRIES);
    struct vmdk_entries look; /* not cleared: it is big */
    uint64_t file_end, end;

    *out = (struct pl_extent){ .state = PL_PARENT };
    look.count = wanted;
    look.keep_lock = false;
    if (look_at(s, grain, &look, &file_end, e) < 0)
        return -1;
    if (look.count > 0 && set_run(s, &look, grain, file_end, out, e) < 0)
        return -1;
    end = (grain << s->grain_bits) + out->len;
    if (look.count == 0 || (out->state == PL_PARENT && (end & (vmdk_table_span(s) - 1)) == 0))
        end = empty_end(s, grain, last);
    if (out->state == PL_DATA)
        out->off += inside;
    out->len = PL_MIN(len, end - at);
    return 0;
}
