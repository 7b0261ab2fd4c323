/* sparse_usage.c - which bytes of the file are in use: see sparse_check.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/vmdk/sparse_check.h"

#define PAGE_BITS 65536u
#define PAGE_BYTES (PAGE_BITS / 8)

/* ---- bits ---- */

int vmdk_bits_make(struct vmdk_bits *b, uint64_t bytes, uint64_t unit, struct pl_err *e)
{
    uint64_t pages;

    *b = (struct vmdk_bits){ .units = pl_div_up(bytes, unit), .unit_bits = pl_log2(unit) };
    pages = pl_div_up(b->units, PAGE_BITS);
    if (pages > SIZE_MAX / sizeof *b->page / 2)
        return pl_fail(e, PL_E_LIMIT, "a file of %" PRIu64 " bytes is too long to be checked",
                       bytes);
    b->page = calloc(pages + 1, sizeof *b->page);
    return b->page ? 0 : pl_fail(e, PL_E_NOMEM, "no memory to check %" PRIu64 " bytes", bytes);
}

void vmdk_bits_free(struct vmdk_bits *b)
{
    for (uint64_t i = 0; b->page && i * PAGE_BITS < b->units; i++)
        free(b->page[i]);
    free(b->page);
    *b = (struct vmdk_bits){ 0 };
}

static const uint8_t *page_of(const struct vmdk_bits *b, uint64_t unit)
{
    return unit < b->units ? b->page[unit / PAGE_BITS] : NULL;
}

static bool get(const struct vmdk_bits *b, uint64_t unit)
{
    const uint8_t *page = page_of(b, unit);

    return page && page[unit % PAGE_BITS / 8] >> (unit % 8) & 1;
}

int vmdk_bits_set(struct vmdk_bits *b, uint64_t off, uint64_t len, struct pl_err *e)
{
    const uint64_t end = PL_MIN(((off + len - 1) >> b->unit_bits) + 1, b->units);
    int before = 0;

    for (uint64_t i = off >> b->unit_bits; len && i < end; i++) {
        uint8_t **page = &b->page[i / PAGE_BITS], *byte;

        if (!*page && !(*page = calloc(1, PAGE_BYTES)))
            return pl_fail(e, PL_E_NOMEM, "no memory to note what is in use");
        byte = &(*page)[i % PAGE_BITS / 8];
        before |= *byte >> (i % 8) & 1;
        *byte |= (uint8_t)(1 << (i % 8));
    }
    return before;
}

bool vmdk_bits_any(const struct vmdk_bits *b, uint64_t off, uint64_t len)
{
    const uint64_t end = PL_MIN(((off + len - 1) >> b->unit_bits) + 1, b->units);

    for (uint64_t i = off >> b->unit_bits; len && i < end; i++) {
        if (!page_of(b, i))
            i |= PAGE_BITS - 1;
        else if (get(b, i))
            return true;
    }
    return false;
}

/* ---- uses ---- */

/* From `off` to the next multiple of 2^bits. */
static uint64_t rest_of(uint64_t off, unsigned bits)
{
    return (UINT64_C(1) << bits) - (off & ((UINT64_C(1) << bits) - 1));
}

/* From `off` to the end of what one page of b describes. */
static uint64_t rest_of_page(const struct vmdk_bits *b, uint64_t off)
{
    return rest_of(off, b->unit_bits + pl_log2(PAGE_BITS));
}

enum vmdk_use vmdk_use_at(const struct vmdk_check *c, uint64_t off, uint64_t *len)
{
    const struct vmdk_bits *m = &c->metadata, *g = &c->grains;
    const uint64_t unit = off >> g->unit_bits;
    const uint8_t *tables = page_of(m, off >> m->unit_bits), *grains = page_of(g, unit);

    if (!tables && !grains) {
        *len = PL_MIN(rest_of_page(m, off), rest_of_page(g, off));
        return VMDK_UNUSED;
    }
    *len = tables ? rest_of(off, m->unit_bits) : rest_of(off, g->unit_bits);
    if (!tables && unit % 8 == 0 && grains[unit % PAGE_BITS / 8] == 0xff)
        *len = PL_MIN(rest_of(off, g->unit_bits + 3), rest_of_page(m, off));
    if (tables && get(m, off >> m->unit_bits))
        return VMDK_METADATA;
    return get(g, unit) ? VMDK_GRAIN : VMDK_UNUSED;
}

uint64_t vmdk_grains_from(const struct vmdk_sparse *s)
{
    uint64_t overhead = 0;

    if (!s->cowd && !pl_mul(s->header.overHead, VMDK_SECTOR, &overhead))
        overhead = 0;
    if (overhead > s->file_end)
        overhead = 0;
    return PL_MAX(s->metadata_end, overhead);
}

/* ---- the survey ---- */

/* Notes a table; one that overlaps others cannot be mended, since nobody knows whose it is.  1: it
 * does. */
static int note_table(struct vmdk_check *c, uint64_t index, uint64_t off, struct pl_err *e)
    PL_NEEDS(&c->s->lock);
static int note_table(struct vmdk_check *c, uint64_t index, uint64_t off, struct pl_err *e)
{
    const uint64_t bytes = vmdk_table_bytes(c->s);
    const int before = vmdk_bits_set(&c->metadata, off, bytes, e);

    if (before < 0)
        return -1;
    if (before > 0)
        vmdk_found(c, VMDK_OVERLAP,
                   "grain directory entry %" PRIu64 ": the grain table at 0x%" PRIx64
                   " overlaps other tables",
                   index, off);
    c->metadata_end = PL_MAX(c->metadata_end, off + bytes);
    return before;
}

/* Adds the offsets that one table's entries have to *sum, bit by bit. */
static int add_offsets(struct vmdk_check *c, uint64_t table, uint64_t *sum, struct pl_err *e)
    PL_NEEDS(&c->s->lock);
static int add_offsets(struct vmdk_check *c, uint64_t table, uint64_t *sum, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    struct vmdk_entries io; /* not cleared: it is big */

    io.keep_lock = true;
    for (uint32_t i = 0; i < s->table_entries; i += io.count) {
        io.count = PL_MIN(s->table_entries - i, VMDK_LOOK_ENTRIES);
        if (vmdk_read_entries(c->s, s->table_cache, table + (uint64_t)i * VMDK_ENTRY_BYTES, &io,
                              e) < 0)
            return 0; /* the pass that follows tells */
        for (uint32_t k = 0; k < io.count; k++)
            if (vmdk_entry_points(s, io.entry[k]))
                *sum |= vmdk_entry_offset(io.entry[k]);
    }
    return 0;
}

static int survey_tables(struct vmdk_check *c, uint64_t *sum, struct pl_err *e)
    PL_NEEDS(&c->s->lock);
static int survey_tables(struct vmdk_check *c, uint64_t *sum, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;

    for (unsigned copy = 0; copy < VMDK_COPIES; copy++)
        for (uint64_t i = 0; s->directory[copy] && i < s->directory_entries; i++) {
            uint64_t table;
            int before;

            if (vmdk_find_table(c->s, copy, i, true, &table, NULL) < 0 || !table)
                continue; /* the pass that follows tells */
            before = note_table(c, i, table, e);
            if (before < 0 || (!before && add_offsets(c, table, sum, e) < 0))
                return -1;
        }
    return 0;
}

int vmdk_survey(struct vmdk_check *c, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    const uint64_t directory_bytes = s->directory_entries * VMDK_ENTRY_BYTES;
    const uint64_t all = s->file_end + s->grain_size;
    uint64_t sum = s->compressed ? VMDK_SECTOR : s->grain_size;

    if (vmdk_bits_make(&c->metadata, all, VMDK_SECTOR, e) < 0 ||
        vmdk_bits_make(&c->walked, all, VMDK_SECTOR, e) < 0 ||
        vmdk_bits_set(&c->metadata, 0, s->metadata_end, e) < 0)
        return -1;
    c->metadata_end = s->metadata_end;
    for (unsigned copy = 0; copy < VMDK_COPIES; copy++) {
        if (vmdk_bits_set(&c->metadata, s->directory[copy],
                          s->directory[copy] ? directory_bytes : 0, e) < 0)
            return -1;
        c->metadata_end =
            PL_MAX(c->metadata_end, s->directory[copy] ? s->directory[copy] + directory_bytes : 0);
    }
    if (survey_tables(c, &sum, e) < 0)
        return -1;
    return vmdk_bits_make(&c->grains, all, sum & -sum, e);
}
