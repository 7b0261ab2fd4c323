#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#include "core/base/checked.h"
#include "tests/unit/storage/storages.h"

#define TMPFS 0x01021994

static int setup(void **state)
{
    *state = new_file("file");
    return 0;
}

static int teardown(void **state)
{
    return pl_storage_close(*state, NULL);
}

static void what_is_written_is_read(void **state)
{
    struct pl_storage *st = *state;

    write_pattern(st, 1000, 5000, 1);
    assert_true(reads_as(st, 1000, 5000, 1));
    assert_true(reads_as(st, 0, 1000, ZEROS));
    assert_int_equal(pl_storage_size(st), 6000);
}

static void a_read_past_the_end_says_where_it_ends(void **state)
{
    struct pl_storage *st = *state;
    struct pl_err err;
    uint8_t buf[512];

    OK(pl_storage_resize(st, 4096, &e));
    FAILS(PL_E_CORRUPT, "[0xf00, +0x200) is past the end of the file (0x1000)",
          pl_storage_read(st, 0xf00, buf, sizeof buf, &e));
    FAILS(PL_E_CORRUPT, "/file: ", pl_storage_read(st, UINT64_MAX - 5, buf, sizeof buf, &e));
    assert_int_equal(pl_storage_read(st, UINT64_MAX - 5, buf, sizeof buf, &err), -1);
    assert_non_null(strstr(err.hint, "incomplete"));
    OK(pl_storage_read(st, 4096, buf, 0, &e));
}

static void a_padded_read_gives_zeros_past_the_end(void **state)
{
    struct pl_storage *st = *state;
    uint8_t buf[512], wanted[512] = { 0 };

    write_pattern(st, 0, 700, 2);
    pattern(wanted, 600, 100, 2);
    memset(buf, 0xff, sizeof buf);
    OK(pl_storage_read_padded(st, 600, buf, sizeof buf, &e));
    assert_memory_equal(buf, wanted, sizeof buf);
    OK(pl_storage_read_padded(st, UINT64_MAX - 2, buf, sizeof buf, &e));
    assert_int_equal(buf[0] | buf[511], 0);
}

static void changes_are_refused_where_they_cannot_be(void **state)
{
    struct pl_storage *st = *state, *reader;
    const uint64_t far = PL_OFFSET_MAX;

    OK(pl_file_storage(open(st->path, O_RDONLY), st->path, false, &reader, &e));
    FAILS(PL_E_INVALID, "reading only", pl_storage_write(reader, 0, "x", 1, &e));
    FAILS(PL_E_INVALID, "reading only", pl_storage_zero(reader, 0, 1, &e));
    FAILS(PL_E_INVALID, "reading only", pl_storage_resize(reader, 1, &e));
    FAILS(PL_E_INVALID, "reading only", pl_storage_copy(reader, 0, st, 0, 1, &e));
    FAILS(PL_E_LIMIT, "beyond", pl_storage_write(st, far, "x", 1, &e));
    FAILS(PL_E_LIMIT, "beyond", pl_storage_zero(st, 10, UINT64_MAX, &e));
    assert_true(pl_storage_same(st, reader));
    pl_storage_close(reader, NULL);
}

/* Ranges zeroed in a file of 64 KiB, aligned and not. */
static const struct range {
    const char *name;
    uint64_t off, len;
} zeroed[] = {
    { "zeroing whole blocks", 8192, 16384 },
    { "zeroing an unaligned range", 5000, 20000 },
    { "zeroing less than a block", 5000, 100 },
    { "zeroing across the end", 60000, 20000 },
    { "zeroing from the end on", 65536, 8192 },
    { "zeroing beyond the end", 100000, 10000 },
    { "zeroing nothing", 5000, 0 },
};

static void check_zeroed(void **state)
{
    const struct range *r = *state;
    struct pl_storage *st = new_file("zeroed");
    const uint64_t end = r->off + r->len;
    const uint64_t before = PL_MIN(r->off, 65536);

    write_pattern(st, 0, 65536, 3);
    OK(pl_storage_zero(st, r->off, r->len, &e));
    assert_int_equal(pl_storage_size(st), PL_MAX(end, 65536));
    assert_true(reads_as(st, 0, before, 3));
    assert_true(reads_as(st, before, end > before ? end - before : 0, ZEROS));
    if (end < 65536)
        assert_true(reads_as(st, end, 65536 - end, 3));
    pl_storage_close(st, NULL);
}

static void zeroed_and_discarded_blocks_are_given_back(void **state)
{
    struct pl_storage *st = *state;
    uint64_t full, len = PL_MIB;
    bool hole;

    write_pattern(st, 0, PL_MIB, 4);
    OK(pl_storage_flush(st, &e));
    full = pl_storage_disk_usage(st);
    assert_true(full >= PL_MIB);
    OK(pl_storage_zero(st, 0, PL_MIB / 2, &e));
    OK(pl_storage_map(st, 0, &len, &hole, &e));
    if (!hole)
        TEST_SKIP("this file system punches no holes");
    assert_int_equal(len, PL_MIB / 2);
    OK(pl_storage_discard(st, PL_MIB / 2, PL_GIB, &e));
    assert_int_equal(pl_storage_size(st), PL_MIB);
    assert_true(pl_storage_disk_usage(st) < full / 4);
}

static void the_map_tells_data_from_holes(void **state)
{
    struct pl_storage *st = *state;
    static const struct {
        uint64_t off, len, run;
        bool hole;
    } rows[] = {
        { 0, 1024 * 1024, 64 * 1024, false },         { 4096, 100, 100, false },
        { 64 * 1024, 512 * 1024, 448 * 1024, true },  { 64 * 1024 + 5, 10, 10, true },
        { 576 * 1024, 448 * 1024, 448 * 1024, true }, { 512 * 1024, 65536, 65536, false },
    };
    bool hole;

    write_pattern(st, 0, 64 * 1024, 5);
    write_pattern(st, 512 * 1024, 64 * 1024, 5);
    OK(pl_storage_resize(st, 1024 * 1024, &e));
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        uint64_t len = rows[i].len;

        OK(pl_storage_map(st, rows[i].off, &len, &hole, &e));
        if (i == 2 && !hole)
            TEST_SKIP("this file system shows no holes");
        assert_int_equal(hole, rows[i].hole);
        assert_int_equal(len, rows[i].run);
    }
}

static void the_map_of_a_range_outside_is_refused(void **state)
{
    uint64_t len = 2, none = 0;
    bool hole;

    OK(pl_storage_resize(*state, 4096, &e));
    FAILS(PL_E_INVALID, "not a range", pl_storage_map(*state, 4095, &len, &hole, &e));
    FAILS(PL_E_INVALID, "not a range", pl_storage_map(*state, 0, &none, &hole, &e));
}

static void room_is_reserved_around_what_is_there(void **state)
{
    struct pl_storage *st = *state;

    write_pattern(st, 4096, 4096, 6);
    OK(pl_storage_preallocate(st, 0, 2 * PL_MIB, PL_PREALLOC_FALLOC, &e));
    assert_int_equal(pl_storage_size(st), 2 * PL_MIB);
    assert_true(pl_storage_disk_usage(st) >= 2 * PL_MIB);
    assert_true(reads_as(st, 0, 4096, ZEROS));
    assert_true(reads_as(st, 4096, 4096, 6));
    OK(pl_storage_preallocate(st, 0, 8192, PL_PREALLOC_METADATA, &e));
    assert_true(reads_as(st, 4096, 4096, 6));
    OK(pl_storage_preallocate(st, 0, 8192, PL_PREALLOC_FULL, &e));
    assert_true(reads_as(st, 0, 8192, ZEROS));
    OK(pl_storage_preallocate(st, 0, 3 * PL_MIB, PL_PREALLOC_OFF, &e));
    assert_int_equal(pl_storage_size(st), 3 * PL_MIB);
}

static void room_made_ahead_goes_with_the_next_resize(void **state)
{
    struct pl_storage *st = *state;

    pl_storage_reserve_ahead(st, 0, 4 * PL_MIB);
    assert_int_equal(pl_storage_size(st), 0);
    if (pl_storage_disk_usage(st) == 0)
        TEST_SKIP("this file system reserves nothing");
    write_pattern(st, 0, 8192, 7);
    OK(pl_storage_resize(st, 8192, &e));
    OK(pl_storage_flush(st, &e));
    assert_true(pl_storage_disk_usage(st) <= 65536);
    assert_true(reads_as(st, 0, 8192, 7));
}

static void a_full_disk_is_told_as_such(void **state)
{
    struct pl_storage *st = *state;
    struct rlimit old, small;
    uint8_t buf[8192] = { 1 };
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){ 5000, old.rlim_max };
    setrlimit(RLIMIT_FSIZE, &small);
    /* the first 5000 bytes are a short write, the rest fails */
    FAILS(PL_E_NO_SPACE, "writing", pl_storage_write(st, 0, buf, sizeof buf, &e));
    FAILS(PL_E_NO_SPACE, "writing", pl_storage_zero(st, 8192, 8192, &e));
    FAILS(PL_E_NO_SPACE, "size", pl_storage_resize(st, 8192, &e));
    FAILS(PL_E_NO_SPACE, "reserving", pl_storage_preallocate(st, 0, 65536, PL_PREALLOC_FALLOC, &e));
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(pl_storage_size(st), 5000);
}

static size_t resident_pages(struct pl_storage *st, size_t len)
{
    static unsigned char page[16384];
    size_t pages = 0;
    void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, pl_file_descriptor(st), 0);

    assert_true(map != MAP_FAILED && len / 4096 <= sizeof page);
    assert_int_equal(mincore(map, len, page), 0);
    for (size_t i = 0; i < len / 4096; i++)
        pages += page[i] & 1;
    munmap(map, len);
    return pages;
}

static void settled_ranges_leave_the_page_cache(void **state)
{
    struct pl_storage *st = *state;
    struct statfs fs;

    assert_int_equal(fstatfs(pl_file_descriptor(st), &fs), 0);
    if (fs.f_type == TMPFS)
        TEST_SKIP("a file in memory does not leave it");
    for (uint64_t off = 0; off < 64 * PL_MIB; off += PL_MIB) {
        write_pattern(st, off, PL_MIB, 9);
        pl_storage_settle(st, off, PL_MIB);
    }
    assert_true(resident_pages(st, 64 * PL_MIB) * 4096 <= 32 * PL_MIB);
    OK(pl_storage_flush(st, &e));
    assert_true(reads_as(st, 0, 64 * PL_MIB, 9));
}

static void a_folder_is_no_storage(void **state)
{
    struct pl_storage *st;

    (void)state;
    FAILS(PL_E_INVALID, "a folder",
          pl_file_storage(open(".", O_RDONLY | O_DIRECTORY), "here", false, &st, &e));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    struct CMUnitTest zero_tests[PL_COUNT(zeroed)];
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read),
        TEST(a_read_past_the_end_says_where_it_ends),
        TEST(a_padded_read_gives_zeros_past_the_end),
        TEST(changes_are_refused_where_they_cannot_be),
        TEST(zeroed_and_discarded_blocks_are_given_back),
        TEST(the_map_tells_data_from_holes),
        TEST(the_map_of_a_range_outside_is_refused),
        TEST(room_is_reserved_around_what_is_there),
        TEST(room_made_ahead_goes_with_the_next_resize),
        TEST(a_full_disk_is_told_as_such),
        TEST(settled_ranges_leave_the_page_cache),
        cmocka_unit_test(a_folder_is_no_storage),
    };
    int failed;

    for (size_t i = 0; i < PL_COUNT(zeroed); i++)
        zero_tests[i] = (struct CMUnitTest){ .name = zeroed[i].name,
                                             .test_func = check_zeroed,
                                             .initial_state = (void *)&zeroed[i] };
    failed = cmocka_run_group_tests_name("zeroing a file", zero_tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
