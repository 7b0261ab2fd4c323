/* stream_walk.h - a strict reader of streamOptimized files, apart from the project's own: from
 * front to back by the markers, as a tool does that gets the file through a pipe, and then by the
 * directory, as one that has it on disk.  Both must give the same grains.  cmocka.h comes first. */
#ifndef TESTS_UNIT_FORMATS_VMDK_STREAM_WALK_H
#define TESTS_UNIT_FORMATS_VMDK_STREAM_WALK_H

#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/zero.h"

struct stream_walk {
    const uint8_t *file;
    uint64_t len, at;        /* bytes of the file; of them behind us */
    uint64_t grain, size;    /* bytes of a grain, of the disk */
    uint8_t *disk;           /* whole grains: what the markers say */
    uint32_t *entries;       /* a grain each: the sector of its marker, 0: none */
    uint64_t grains, tables; /* seen */
    uint64_t next_lba;
};

static inline const uint8_t *walk_sectors(struct stream_walk *w, uint64_t sectors)
{
    const uint8_t *bytes = w->file + w->at;

    assert_true(pl_inside(w->at, 512 * sectors, w->len));
    w->at += 512 * sectors;
    return bytes;
}

static inline void walk_grain(struct stream_walk *w)
{
    const uint64_t start = w->at;
    const uint64_t lba = load_le64(w->file + start);
    const uint32_t packed = load_le32(w->file + start + 8);
    const uint64_t sectors = pl_div_up(12 + (uint64_t)packed, 512);
    uint8_t *to = w->disk + 512 * lba;
    uLongf len = w->grain;

    assert_true(lba >= w->next_lba && 512 * lba < w->size && 512 * lba % w->grain == 0);
    w->next_lba = lba + w->grain / 512;
    walk_sectors(w, sectors);
    assert_true(pl_is_zero(w->file + start + 12 + packed, 512 * sectors - 12 - packed));
    assert_int_equal(uncompress(to, &len, w->file + start + 12, packed), Z_OK);
    assert_int_equal(len, w->grain);
    assert_false(pl_is_zero(to, w->grain));
    w->entries[512 * lba / w->grain] = (uint32_t)(start / 512);
    w->grains++;
}

/* The table of the grains just seen, which has some and all of them. */
static inline void walk_table(struct stream_walk *w, uint64_t sectors)
{
    const uint8_t *table = walk_sectors(w, sectors);
    const uint64_t first = (w->next_lba * 512 / w->grain - 1) / 512 * 512;

    assert_int_equal(sectors, 4);
    assert_false(pl_is_zero(table, 2048));
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(load_le32(table + 4 * i), w->entries[first + i]);
    w->tables++;
}

static inline void walk_directory(struct stream_walk *w, const uint8_t *directory, uint64_t sectors)
{
    const uint64_t count = pl_div_up(w->size, 512 * w->grain);
    uint64_t tables = 0;

    assert_int_equal(sectors, pl_div_up(4 * count, 512));
    assert_true(pl_is_zero(directory + 4 * count, 512 * sectors - 4 * count));
    for (uint64_t t = 0; t < count; t++) {
        const uint64_t at = load_le32(directory + 4 * t) * UINT64_C(512);

        tables += at != 0;
        for (unsigned i = 0; i < 512; i++)
            assert_int_equal(at ? load_le32(w->file + at + 4 * i) : 0, w->entries[512 * t + i]);
    }
    assert_int_equal(tables, w->tables);
}

/* The header again but for where the directory is; then the end of the stream, and nothing. */
static inline void walk_end(struct stream_walk *w, uint64_t directory)
{
    const uint8_t *footer, *end;
    uint8_t wanted[512];

    assert_int_equal(load_le64(w->file + w->at), 1);
    assert_int_equal(load_le32(w->file + w->at + 12), 3);
    walk_sectors(w, 1);
    footer = walk_sectors(w, 1);
    end = walk_sectors(w, 1);
    memcpy(wanted, w->file, 512);
    assert_true(load_le64(wanted + 56) == UINT64_MAX);
    store_le64(wanted + 56, directory / 512);
    assert_memory_equal(footer, wanted, 512);
    assert_true(pl_is_zero(end, 512));
    assert_int_equal(w->at, w->len);
}

static inline void walk_header(struct stream_walk *w)
{
    const uint8_t *h = w->file;
    static const uint8_t rest[] = { 0, '\n', ' ', '\r', '\n', 1, 0 };

    assert_true(w->len >= 512);
    assert_memory_equal(h, "KDMV", 4);
    assert_int_equal(load_le32(h + 4), 3);
    assert_int_equal(load_le32(h + 8), 0x30001);
    assert_int_equal(load_le64(h + 12), pl_div_up(w->size, 512));
    assert_int_equal(load_le64(h + 20), w->grain / 512);
    assert_int_equal(load_le32(h + 44), 512);
    assert_int_equal(load_le64(h + 48), 0);
    assert_int_equal(load_le64(h + 64) % 128, 0);
    assert_memory_equal(h + 72, rest, sizeof rest);
    assert_true(pl_is_zero(h + 79, 512 - 79));
    walk_sectors(w, load_le64(h + 64));
}

/* Reads the whole file; w->disk and w->entries are then the caller's to free. */
static inline void walk_stream(struct stream_walk *w, const uint8_t *file, uint64_t len)
{
    const uint64_t tables = pl_div_up(w->size, 512 * w->grain);
    uint64_t sectors, directory;

    w->file = file;
    w->len = len;
    w->disk = calloc(1, pl_round_up(w->size, w->grain) + 1);
    w->entries = calloc(512 * tables + 1, sizeof *w->entries);
    walk_header(w);
    for (;;) {
        assert_true(w->at + 512 <= len);
        if (load_le32(file + w->at + 8)) {
            walk_grain(w);
            continue;
        }
        sectors = load_le64(file + w->at);
        if (load_le32(file + w->at + 12) == 2)
            break;
        assert_int_equal(load_le32(file + w->at + 12), 1);
        assert_true(pl_is_zero(file + w->at + 16, 512 - 16));
        walk_sectors(w, 1);
        walk_table(w, sectors);
    }
    walk_sectors(w, 1);
    directory = w->at;
    walk_directory(w, walk_sectors(w, sectors), sectors);
    walk_end(w, directory);
}

#endif
