/* A new streamOptimized file is what VMware's tools write and others read, on files and pipes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "core/codec/codec.h"
#include "core/storage/descriptor.h"
#include "core/storage/file.h"
#include "formats/vmdk/extent.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/unit/formats/vmdk/stream_walk.h"

#define GRAIN UINT32_C(65536)
#define HEADER (128 * 512)
#define DISK_MAX (160 * PL_MIB)

/* A disk to write: which of its grains hold data (which then follows from their number). */
struct disk {
    uint64_t size, grain;
    uint64_t seed;
    unsigned one_in; /* about one grain in that many holds data; 0: none */
};

struct writer {
    struct disk disk;
    struct pl_storage *file;
    struct vmdk_extent x;
    struct pl_codec_state *codec;
    uint8_t *unit, *piece;
};

static bool has_data(const struct disk *d, uint64_t grain)
{
    const uint64_t mixed = (grain + d->seed) * UINT64_C(0x9e3779b97f4a7c15);

    return d->one_in && (mixed >> 40) % d->one_in == 0;
}

/* Half text, half noise, a little different each time. */
static void fill_grain(const struct disk *d, uint64_t grain, uint8_t *unit)
{
    uint64_t random = grain * 2654435761u + d->seed + 1;

    memset(unit, 0, d->grain);
    for (size_t i = 0; i < d->grain / 2; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        unit[i] = i % 3 ? (uint8_t)('a' + i / 3 % 20) : (uint8_t)(random >> 56);
    }
    unit[0] |= 1;
}

static const char descriptor_format[] =
    "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
    "createType=\"streamOptimized\"\n\n# Extent description\nRDONLY %" PRIu64
    " SPARSE \"stream.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n"
    "ddb.virtualHWVersion = \"4\"\n";

static void open_writer(struct writer *w, const struct disk *d, struct pl_storage *file)
{
    char text[400];
    const struct vmdk_sparse_new what = { .size = d->size,
                                          .grain_size = d->grain,
                                          .descriptor = text };

    snprintf(text, sizeof text, descriptor_format, d->size / 512);
    *w = (struct writer){ .disk = *d, .file = file };
    w->unit = calloc(1, d->grain);
    w->piece = calloc(1, pl_pack_bound(&pl_codec_zlib, d->grain) + 1024);
    OK(vmdk_stream_create(file, &what, &e));
    OK(vmdk_stream_open_new(file, &what, &w->x, &e));
    OK(pl_codec_open(&pl_codec_zlib, 0, &w->codec, &e));
}

static void close_writer(struct writer *w)
{
    w->x.ops->close(w->x.state);
    pl_codec_close(w->codec);
    free(w->unit);
    free(w->piece);
}

/* Packs a grain into w->piece behind room for the marker; its packed length. */
static uint32_t pack_grain(struct writer *w, uint64_t grain)
{
    size_t len = pl_pack_bound(&pl_codec_zlib, w->disk.grain);

    fill_grain(&w->disk, grain, w->unit);
    memset(w->piece, 0, len + 1024);
    OK(pl_pack(w->codec, w->unit, w->disk.grain, w->piece + w->x.packed_head, &len, &e));
    return (uint32_t)len;
}

/* As the core does: marker, stream, zeros. */
static void write_grain(struct writer *w, const struct pl_place *place)
{
    const uint64_t len = pl_round_up(w->x.packed_head + place->packed_len, w->x.packed_align);

    assert_int_equal(pack_grain(w, place->at / w->disk.grain), place->packed_len);
    memcpy(w->piece, place->head, w->x.packed_head);
    OK(pl_storage_write(place->st, place->off, w->piece, len, &e));
}

/* All grains of [first, last): first room for all of them, then the bytes, in order or reversed. */
static void write_window(struct writer *w, uint64_t first, uint64_t last, bool reversed)
{
    struct pl_place *places = calloc(last - first, sizeof *places);
    size_t count = 0;

    for (uint64_t g = first; g < last; g++) {
        struct pl_place *place = &places[count];

        if (!has_data(&w->disk, g))
            continue;
        OK(w->x.ops->allocate_packed(w->x.state, g * w->disk.grain, pack_grain(w, g), place, &e));
        assert_true(place->fresh && place->st == w->file && place->at == g * w->disk.grain);
        OK(w->x.ops->link(w->x.state, place, &e));
        count++;
    }
    for (size_t i = 0; i < count; i++)
        write_grain(w, &places[reversed ? count - 1 - i : i]);
    free(places);
}

static void write_disk(const struct disk *d, struct pl_storage *file, uint64_t window,
                       bool reversed)
{
    const uint64_t grains = pl_div_up(d->size, d->grain);
    const uint64_t step = PL_MAX(window, d->grain) / d->grain;
    struct writer w;

    open_writer(&w, d, file);
    for (uint64_t g = 0; g < grains; g += step)
        write_window(&w, g, PL_MIN(g + step, grains), reversed);
    OK(w.x.ops->finish(w.x.state, &e));
    OK(w.x.ops->flush(w.x.state, &e));
    close_writer(&w);
}

static struct pl_storage *big_memory(void)
{
    struct pl_storage *st;

    OK(pl_memory_storage(NULL, 0, DISK_MAX, &st, &e));
    return st;
}

static uint8_t *all_bytes(struct pl_storage *st, uint64_t *len)
{
    uint8_t *bytes;

    *len = pl_storage_size(st);
    bytes = malloc(*len + 1);
    OK(pl_storage_read(st, 0, bytes, *len, &e));
    return bytes;
}

/* The strict reader finds the disk and nothing else. */
static void assert_holds(const struct disk *d, const uint8_t *file, uint64_t len)
{
    struct stream_walk walk = { .size = d->size, .grain = d->grain };
    uint8_t *unit = malloc(d->grain);
    uint64_t data = 0;

    walk_stream(&walk, file, len);
    for (uint64_t g = 0; g * d->grain < d->size; g++) {
        if (!has_data(d, g)) {
            assert_int_equal(walk.entries[g], 0);
            continue;
        }
        data++;
        fill_grain(d, g, unit);
        assert_memory_equal(walk.disk + g * d->grain, unit, d->grain);
    }
    assert_int_equal(walk.grains, data);
    free(unit);
    free(walk.disk);
    free(walk.entries);
}

static const struct disk disks[] = {
    { 0, GRAIN, 0, 1 },                     /* nothing at all */
    { 512, GRAIN, 0, 1 },                   /* less than a grain */
    { 3 * PL_MIB, GRAIN, 0, 0 },            /* empty */
    { 3 * PL_MIB, GRAIN, 5, 2 },            /* one table */
    { 6292992, GRAIN, 5, 2 },               /* no whole number of grains */
    { 8 * PL_MIB, 16384, 1, 1 },            /* a table exactly, full */
    { 8 * PL_MIB + 16384, 16384, 1, 1 },    /* and one grain of the next */
    { 4096 * PL_MIB / 32, GRAIN, 9, 300 },  /* tables without grains between others */
    { 9 * PL_MIB, 8192, 2, 3 },             /* the smallest grains, several tables */
    { 20 * PL_MIB, 16384, 4, 5 },           /* the smallest ones on a pipe */
    { 24 * PL_MIB, 8 * 1024 * 1024, 1, 2 }, /* the largest */
};

static void a_strict_reader_finds_every_grain(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PL_COUNT(disks); i++) {
        struct pl_storage *file = big_memory();
        uint64_t len;
        uint8_t *bytes;

        write_disk(&disks[i], file, PL_MIB, i % 2);
        bytes = all_bytes(file, &len);
        assert_holds(&disks[i], bytes, len);
        free(bytes);
        pl_storage_close(file, NULL);
    }
}

static void the_bytes_do_not_depend_on_how_they_were_written(void **state)
{
    struct pl_storage *one = big_memory(), *other = big_memory();
    uint64_t one_len, other_len;
    uint8_t *one_bytes, *other_bytes;

    (void)state;
    write_disk(&disks[8], one, 8192, false);
    write_disk(&disks[8], other, 4 * PL_MIB, true);
    one_bytes = all_bytes(one, &one_len);
    other_bytes = all_bytes(other, &other_len);
    assert_int_equal(one_len, other_len);
    assert_memory_equal(one_bytes, other_bytes, one_len);
    free(one_bytes);
    free(other_bytes);
    pl_storage_close(one, NULL);
    pl_storage_close(other, NULL);
}

/* A descriptor that is only appended to, as standard output may be. */
static struct pl_storage *pipe_into(const char *path)
{
    struct pl_storage *st;
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    OK(pl_pipe_storage(fd, path, true, &st, &e));
    return st;
}

static void a_pipe_gets_the_same_bytes_as_a_file(void **state)
{
    char *path = test_tmp("piped");

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(disks); i++) {
        struct pl_storage *file, *pipe, *back;
        uint64_t len, piped_len;
        uint8_t *bytes, *piped;

        if (disks[i].grain < 16384)
            continue;
        file = big_memory();
        write_disk(&disks[i], file, PL_MIB, true);
        pipe = pipe_into(path);
        write_disk(&disks[i], pipe, i % 2 ? PL_MIB : 8 * PL_MIB, false);
        OK(pl_storage_close(pipe, &e));
        OK(pl_file_storage(open(path, O_RDONLY), path, false, &back, &e));
        bytes = all_bytes(file, &len);
        piped = all_bytes(back, &piped_len);
        assert_int_equal(len, piped_len);
        assert_memory_equal(bytes, piped, len);
        free(bytes);
        free(piped);
        pl_storage_close(file, NULL);
        pl_storage_close(back, NULL);
    }
    free(path);
}

static void a_pipe_is_not_overtaken_by_a_table(void **state)
{
    const struct disk disk = { 64 * PL_MIB, GRAIN, 0, 1 };
    char *path = test_tmp("overtaken");
    struct pl_storage *pipe = pipe_into(path);
    struct pl_place place;
    struct writer w;

    (void)state;
    open_writer(&w, &disk, pipe);
    OK(w.x.ops->allocate_packed(w.x.state, 0, 100, &place, &e)); /* and not written */
    FAILS(PL_E_INVALID, "not written yet",
          w.x.ops->allocate_packed(w.x.state, 32 * PL_MIB, 100, &place, &e));
    FAILS(PL_E_INVALID, "not written yet", w.x.ops->finish(w.x.state, &e));
    close_writer(&w);
    pl_storage_close(pipe, NULL);
    free(path);
}

static void grains_come_once_and_in_order(void **state)
{
    const struct disk disk = { 3 * PL_MIB, GRAIN, 0, 1 };
    struct pl_storage *file = memory();
    struct pl_place place;
    struct writer w;

    (void)state;
    open_writer(&w, &disk, file);
    OK(w.x.ops->allocate_packed(w.x.state, 2 * GRAIN, 100, &place, &e));
    assert_int_equal(place.off, HEADER);
    assert_int_equal(load_le64(place.head), 2 * GRAIN / 512);
    assert_int_equal(load_le32(place.head + 8), 100);
    FAILS(PL_E_INVALID, "in order", w.x.ops->allocate_packed(w.x.state, GRAIN, 9, &place, &e));
    FAILS(PL_E_INVALID, "in order", w.x.ops->allocate_packed(w.x.state, 2 * GRAIN, 9, &place, &e));
    FAILS(PL_E_INVALID, "in order", w.x.ops->allocate_packed(w.x.state, 200000, 9, &place, &e));
    FAILS(PL_E_INVALID, "in order", w.x.ops->allocate_packed(w.x.state, 3 * PL_MIB, 9, &place, &e));
    FAILS(PL_E_INVALID, "packed", w.x.ops->allocate_packed(w.x.state, 5 * GRAIN, 0, &place, &e));
    FAILS(PL_E_INVALID, "packed",
          w.x.ops->allocate_packed(w.x.state, 5 * GRAIN, 2 * GRAIN, &place, &e));
    OK(w.x.ops->allocate_packed(w.x.state, 3 * GRAIN, 501, &place, &e));
    assert_int_equal(place.off, HEADER + 512);
    OK(w.x.ops->allocate_packed(w.x.state, 4 * GRAIN, 100, &place, &e));
    assert_int_equal(place.off, HEADER + 512 + 1024);
    close_writer(&w);
    pl_storage_close(file, NULL);
}

static void a_complete_stream_takes_nothing_more(void **state)
{
    struct pl_storage *file = memory();
    struct pl_place place;
    struct writer w;
    uint64_t size;

    (void)state;
    open_writer(&w, &disks[3], file);
    OK(w.x.ops->finish(w.x.state, &e));
    size = pl_storage_size(file);
    FAILS(PL_E_INVALID, "complete", w.x.ops->allocate_packed(w.x.state, 0, 9, &place, &e));
    OK(w.x.ops->finish(w.x.state, &e));
    assert_int_equal(pl_storage_size(file), size);
    close_writer(&w);
    pl_storage_close(file, NULL);
}

static void a_grain_that_was_not_written_leaves_no_stream(void **state)
{
    struct pl_storage *file = memory();
    struct pl_place place;
    struct writer w;

    (void)state;
    open_writer(&w, &disks[3], file);
    OK(w.x.ops->allocate_packed(w.x.state, 0, 9, &place, &e));
    w.x.ops->cancel(w.x.state, &place);
    FAILS(PL_E_INVALID, "gap", w.x.ops->finish(w.x.state, &e));
    close_writer(&w);
    pl_storage_close(file, NULL);
}

static void it_is_not_read_while_it_is_written(void **state)
{
    struct pl_storage *file = memory();
    struct pl_extent extent;
    struct writer w;

    (void)state;
    open_writer(&w, &disks[3], file);
    assert_true(w.x.packed_only && w.x.unit_len == GRAIN && w.x.codec == &pl_codec_zlib);
    FAILS(PL_E_UNSUPPORTED, "cannot be read", w.x.ops->map(w.x.state, 0, GRAIN, &extent, &e));
    close_writer(&w);
    pl_storage_close(file, NULL);
}

static void only_a_new_file_is_opened(void **state)
{
    const struct vmdk_sparse_new what = { .size = PL_MIB, .grain_size = GRAIN };
    struct pl_storage *file = memory();
    struct vmdk_extent x;

    (void)state;
    FAILS(PL_E_INVALID, "new stream", vmdk_stream_open_new(file, &what, &x, &e));
    OK(vmdk_stream_create(file, &what, &e));
    OK(pl_storage_resize(file, HEADER + 1, &e));
    FAILS(PL_E_INVALID, "new stream", vmdk_stream_open_new(file, &what, &x, &e));
    pl_storage_close(file, NULL);
}

static void a_long_descriptor_gets_more_room(void **state)
{
    const size_t lengths[] = { 0, 1, 20 * 512, 20 * 512 + 1, 127 * 512, 127 * 512 + 1, 1 << 20 };
    char *text = calloc(1, (1 << 20) + 2);

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(lengths); i++) {
        const struct vmdk_sparse_new what = { .size = PL_MIB,
                                              .grain_size = GRAIN,
                                              .descriptor = text };
        struct pl_storage *file = memory();
        uint64_t len;
        uint8_t *bytes;

        memset(text, 'x', lengths[i]);
        OK(vmdk_stream_create(file, &what, &e));
        bytes = all_bytes(file, &len);
        assert_int_equal(load_le64(bytes + 28), 1);
        assert_int_equal(load_le64(bytes + 36), PL_MAX(20, (lengths[i] + 511) / 512));
        assert_int_equal(len, 512 * load_le64(bytes + 64));
        assert_true(load_le64(bytes + 64) >= 1 + load_le64(bytes + 36));
        assert_memory_equal(bytes + 512, text, lengths[i]);
        assert_true(pl_is_zero(bytes + 512 + lengths[i], len - 512 - lengths[i]));
        free(bytes);
        pl_storage_close(file, NULL);
    }
    free(text);
}

static void what_the_format_cannot_hold_is_refused(void **state)
{
    struct vmdk_sparse_new what = { .size = PL_MIB, .grain_size = 4096 };
    char *path = test_tmp("refused"), *text = calloc(1, (1 << 20) + 2);
    struct pl_storage *file = memory(), *pipe = pipe_into(path);

    (void)state;
    FAILS(PL_E_INVALID, "power of two", vmdk_stream_create(file, &what, &e));
    what.grain_size = 3 * GRAIN;
    FAILS(PL_E_INVALID, "power of two", vmdk_stream_create(file, &what, &e));
    what.grain_size = 16 * PL_MIB;
    FAILS(PL_E_INVALID, "power of two", vmdk_stream_create(file, &what, &e));
    what.grain_size = 8192;
    FAILS(PL_E_UNSUPPORTED, "pipe", vmdk_stream_create(pipe, &what, &e));
    what.size = 512 * 8192 * (UINT64_C(8) << 20) + 512;
    FAILS(PL_E_LIMIT, "directory", vmdk_stream_create(file, &what, &e));
    what.size = UINT64_MAX;
    FAILS(PL_E_LIMIT, "directory", vmdk_stream_create(file, &what, &e));
    what.size = PL_MIB;
    what.descriptor = memset(text, 'x', (1 << 20) + 1);
    FAILS(PL_E_LIMIT, "descriptor", vmdk_stream_create(file, &what, &e));
    file->device = true;
    what.descriptor = NULL;
    FAILS(PL_E_UNSUPPORTED, "block device", vmdk_stream_create(file, &what, &e));
    pl_storage_close(file, NULL);
    pl_storage_close(pipe, NULL);
    free(text);
    free(path);
}

/* Sector numbers have 32 bits.  Nothing but the tables is written here. */
static void a_file_ends_at_2_tib(void **state)
{
    const struct vmdk_sparse_new what = { .size = 4 * PL_TIB, .grain_size = 8 * PL_MIB };
    char *path = test_tmp("large");
    struct pl_storage *file;
    struct vmdk_extent x;
    struct pl_place place;
    struct pl_err error = { 0 };
    uint64_t grain = 0, last = 0;

    (void)state;
    OK(pl_file_storage(open(path, O_RDWR | O_CREAT, 0600), path, true, &file, &e));
    OK(vmdk_stream_create(file, &what, &e));
    OK(vmdk_stream_open_new(file, &what, &x, &e));
    while (x.ops->allocate_packed(x.state, grain * 8 * PL_MIB, 8 * PL_MIB, &place, &error) == 0) {
        last = place.off;
        grain++;
    }
    assert_int_equal(error.kind, PL_E_LIMIT);
    assert_non_null(strstr(error.msg, "2 TiB"));
    assert_true(last < 2 * PL_TIB && last > 2 * PL_TIB - 9 * PL_MIB);
    x.ops->close(x.state);
    pl_storage_close(file, NULL);
    unlink(path);
    free(path);
}

/* A failing write is an error of the call, not a stream with a hole. */
static void a_full_disk_is_an_error(void **state)
{
    const struct vmdk_sparse_new what = { .size = 64 * PL_MIB, .grain_size = GRAIN };
    struct pl_storage *file;
    struct vmdk_extent x;
    struct pl_place place;

    (void)state;
    OK(pl_memory_storage(NULL, 0, HEADER + 1024, &file, &e));
    OK(vmdk_stream_create(file, &what, &e));
    OK(vmdk_stream_open_new(file, &what, &x, &e));
    OK(x.ops->allocate_packed(x.state, 0, 100, &place, &e));
    FAILS(PL_E_NO_SPACE, "grain table 0",
          x.ops->allocate_packed(x.state, 32 * PL_MIB, 100, &place, &e));
    FAILS(PL_E_NO_SPACE, "grain table 0", x.ops->finish(x.state, &e));
    x.ops->close(x.state);
    pl_storage_close(file, NULL);
}

static void write_raw(const struct disk *d, const char *path)
{
    FILE *raw = fopen(path, "w");
    uint8_t *unit = calloc(1, d->grain);

    assert_non_null(raw);
    for (uint64_t at = 0; at < d->size; at += d->grain) {
        const size_t len = (size_t)PL_MIN(d->grain, d->size - at);

        if (has_data(d, at / d->grain))
            fill_grain(d, at / d->grain, unit);
        else
            memset(unit, 0, d->grain);
        assert_int_equal(fwrite(unit, 1, len, raw), len);
    }
    fclose(raw);
    free(unit);
}

static void other_programs_read_it(void **state)
{
    char *vmdk = test_tmp("stream.vmdk"), *raw = test_tmp("raw"), *read = test_tmp("read");

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    for (unsigned i = 2; i < PL_COUNT(disks); i++) {
        struct pl_storage *file;
        const int fd = open(vmdk, O_RDWR | O_CREAT | O_TRUNC, 0600);

        OK(pl_file_storage(fd, vmdk, true, &file, &e));
        write_disk(&disks[i], file, PL_MIB, true);
        OK(pl_storage_close(file, &e));
        write_raw(&disks[i], raw);
        assert_int_equal(run_quietly("qemu-img check -f vmdk %s", vmdk), 0);
        assert_int_equal(run_quietly("qemu-img convert -f vmdk -O raw %s %s", vmdk, read), 0);
        assert_int_equal(run_quietly("cmp %s %s", raw, read), 0);
        if (has_program("vmdkinfo"))
            assert_int_equal(run_quietly("vmdkinfo %s", vmdk), 0);
    }
    free(vmdk);
    free(raw);
    free(read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_strict_reader_finds_every_grain),
        cmocka_unit_test(the_bytes_do_not_depend_on_how_they_were_written),
        cmocka_unit_test(a_pipe_gets_the_same_bytes_as_a_file),
        cmocka_unit_test(a_pipe_is_not_overtaken_by_a_table),
        cmocka_unit_test(grains_come_once_and_in_order),
        cmocka_unit_test(a_complete_stream_takes_nothing_more),
        cmocka_unit_test(a_grain_that_was_not_written_leaves_no_stream),
        cmocka_unit_test(it_is_not_read_while_it_is_written),
        cmocka_unit_test(only_a_new_file_is_opened),
        cmocka_unit_test(a_long_descriptor_gets_more_room),
        cmocka_unit_test(what_the_format_cannot_hold_is_refused),
        cmocka_unit_test(a_file_ends_at_2_tib),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(other_programs_read_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
