#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "core/base/checked.h"
#include "core/storage/file.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

static struct pl_storage *file(const char *name)
{
    char *path = test_tmp(name);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    struct pl_storage *st;

    OK(pl_file_storage(fd, path, true, &st, &e));
    free(path);
    return st;
}

static int create(struct pl_storage *st, const char *text, uint64_t size, const char *parent,
                  struct pl_err *e)
{
    struct pl_options *options = options_of(text);
    const struct pl_create_args args = {
        .file = st, .size = size, .options = options, .parent.name = parent
    };
    const int result = pl_raw.create(&args, e);

    pl_options_free(options);
    return result;
}

static void open_it(struct pl_storage *st, struct pl_layer *layer)
{
    OK(pl_raw.open(&(struct pl_open_args){ .file = st, .writable = true }, layer, &e));
}

static void the_disk_is_the_file_to_the_byte(void **state)
{
    static const uint64_t sizes[] = { 0, 1, 511, 512, 1000, 65537 };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(sizes); i++) {
        struct pl_storage *st = file("disk.raw");
        struct pl_layer layer;

        OK(create(st, "", sizes[i], NULL, &e));
        open_it(st, &layer);
        assert_int_equal(layer.size, sizes[i]);
        assert_int_equal(layer.granule, 1);
        assert_true(layer.sparse_new);
        close_layer(&pl_raw, &layer);
        pl_storage_close(st, NULL);
    }
}

static void holes_are_zeros_in_place(void **state)
{
    struct pl_storage *st = file("disk.raw");
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    OK(create(st, "", PL_MIB, NULL, &e));
    OK(pl_storage_write(st, 512 * PL_KIB, "data", 4, &e));
    open_it(st, &layer);
    OK(pl_raw.map(layer.state, 5, PL_MIB - 5, &x, &e));
    if (x.state == PL_DATA)
        TEST_SKIP("the file system knows no holes");
    assert_int_equal(x.state, PL_ZERO);
    assert_true(x.allocated);
    assert_int_equal(x.off, 5);
    assert_int_equal(x.len, 512 * PL_KIB - 5);
    OK(pl_raw.map(layer.state, 512 * PL_KIB, 3, &x, &e));
    assert_int_equal(x.state, PL_DATA);
    assert_int_equal(x.off, 512 * PL_KIB);
    assert_int_equal(x.len, 3);
    assert_ptr_equal(x.st, st);
    close_layer(&pl_raw, &layer);
    pl_storage_close(st, NULL);
}

static void room_is_where_the_guest_says(void **state)
{
    struct pl_storage *st = file("disk.raw");
    struct pl_layer layer;
    struct pl_place place;

    (void)state;
    OK(create(st, "", PL_MIB, NULL, &e));
    open_it(st, &layer);
    OK(pl_raw.allocate(layer.state, 12345, 678, &place, &e));
    assert_int_equal(place.at, 12345);
    assert_int_equal(place.off, 12345);
    assert_int_equal(place.len, 678);
    assert_false(place.fresh);
    assert_ptr_equal(place.st, st);
    close_layer(&pl_raw, &layer);
    pl_storage_close(st, NULL);
}

static void what_is_zeroed_or_discarded_reads_as_zeros(void **state)
{
    struct pl_storage *st = file("disk.raw");
    uint8_t bytes[8192], want[8192];
    struct pl_layer layer;

    (void)state;
    memset(bytes, 7, sizeof bytes);
    memset(want, 7, sizeof want);
    memset(want + 10, 0, 5000);
    memset(want + 6000, 0, 2192);
    OK(pl_storage_write(st, 0, bytes, sizeof bytes, &e));
    open_it(st, &layer);
    assert_int_equal(pl_raw.zero(layer.state, 10, 5000, false, NULL), 1); /* keep the blocks */
    OK(pl_raw.zero(layer.state, 10, 5000, true, &e));
    OK(pl_raw.discard(layer.state, 6000, 2192, &e));
    OK(pl_storage_read(st, 0, bytes, sizeof bytes, &e));
    assert_memory_equal(bytes, want, sizeof bytes);
    assert_int_equal(pl_storage_size(st), sizeof bytes);
    OK(pl_raw.flush(layer.state, &e));
    close_layer(&pl_raw, &layer);
    pl_storage_close(st, NULL);
}

static void preallocation_takes_blocks(void **state)
{
    static const char *const rows[] = { "preallocation=falloc", "preallocation=full" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_storage *st = file("disk.raw");

        OK(create(st, "preallocation=off", PL_MIB, NULL, &e));
        assert_true(pl_storage_disk_usage(st) < PL_MIB / 2);
        OK(create(st, rows[i], PL_MIB, NULL, &e));
        assert_true(pl_storage_disk_usage(st) >= PL_MIB);
        assert_int_equal(pl_storage_size(st), PL_MIB);
        pl_storage_close(st, NULL);
    }
}

static void what_raw_cannot_hold_is_refused(void **state)
{
    struct pl_storage *st = file("disk.raw");

    (void)state;
    FAILS(PL_E_UNSUPPORTED, "backing file", create(st, "", PL_MIB, "parent", &e));
    FAILS(PL_E_INVALID, "metadata", create(st, "preallocation=metadata", PL_MIB, NULL, &e));
    pl_storage_close(st, NULL);
}

static void a_resized_disk_keeps_what_it_has(void **state)
{
    struct pl_storage *st = file("disk.raw");
    struct pl_layer layer;
    char bytes[4];

    (void)state;
    OK(pl_storage_write(st, 0, "data", 4, &e));
    open_it(st, &layer);
    OK(pl_raw.resize(layer.state, PL_MIB, false, PL_PREALLOC_FALLOC, &e));
    assert_int_equal(pl_storage_size(st), PL_MIB);
    assert_true(pl_storage_disk_usage(st) >= PL_MIB - 4096);
    FAILS(PL_E_INVALID, "less than", pl_raw.resize(layer.state, 4, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_UNSUPPORTED, "metadata",
          pl_raw.resize(layer.state, 2 * PL_MIB, false, PL_PREALLOC_METADATA, &e));
    FAILS(PL_E_INVALID, "shrinking", pl_raw.resize(layer.state, 4, true, PL_PREALLOC_FULL, &e));
    OK(pl_raw.resize(layer.state, 4, true, PL_PREALLOC_OFF, &e));
    assert_int_equal(pl_storage_size(st), 4);
    OK(pl_storage_read(st, 0, bytes, 4, &e));
    assert_memory_equal(bytes, "data", 4);
    close_layer(&pl_raw, &layer);
    pl_storage_close(st, NULL);
}

static void a_disk_that_the_host_cannot_hold_keeps_its_size(void **state)
{
    struct pl_storage *st = memory();
    struct pl_layer layer;

    (void)state;
    OK(pl_storage_resize(st, 1000, &e));
    open_it(st, &layer);
    FAILS(PL_E_NO_SPACE, "",
          pl_raw.resize(layer.state, 2 * MEMORY_LIMIT, false, PL_PREALLOC_OFF, &e));
    assert_int_equal(pl_storage_size(st), 1000);
    OK(pl_raw.resize(layer.state, 2000, false, PL_PREALLOC_OFF, &e));
    close_layer(&pl_raw, &layer);
    pl_storage_close(st, NULL);
}

static void a_device_keeps_its_size(void **state)
{
    struct pl_storage *st = memory();
    struct pl_layer layer;

    (void)state;
    OK(pl_storage_resize(st, 4096, &e));
    st->device = true;
    FAILS(PL_E_LIMIT, "4096", create(st, "", 4097, NULL, &e));
    OK(create(st, "", 1000, NULL, &e));
    open_it(st, &layer);
    assert_int_equal(layer.size, 4096);
    assert_false(layer.sparse_new);
    OK(pl_raw.resize(layer.state, 4096, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_UNSUPPORTED, "device", pl_raw.resize(layer.state, 1, true, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_UNSUPPORTED, "device", pl_raw.resize(layer.state, 8192, false, PL_PREALLOC_OFF, &e));
    close_layer(&pl_raw, &layer);
    pl_storage_close(st, NULL);
}

static void a_raw_disk_measures_as_long_as_it_is(void **state)
{
    struct pl_measure_result result;

    (void)state;
    OK(pl_raw.measure(&(struct pl_measure_args){ .size = 12345, .data_bytes = 1 }, &result, &e));
    assert_int_equal(result.required, 12345);
    assert_int_equal(result.fully_allocated, 12345);
    assert_false(result.has_bitmaps);
    assert_null(pl_raw.probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_disk_is_the_file_to_the_byte),
        cmocka_unit_test(holes_are_zeros_in_place),
        cmocka_unit_test(room_is_where_the_guest_says),
        cmocka_unit_test(what_is_zeroed_or_discarded_reads_as_zeros),
        cmocka_unit_test(preallocation_takes_blocks),
        cmocka_unit_test(what_raw_cannot_hold_is_refused),
        cmocka_unit_test(a_resized_disk_keeps_what_it_has),
        cmocka_unit_test(a_disk_that_the_host_cannot_hold_keeps_its_size),
        cmocka_unit_test(a_device_keeps_its_size),
        cmocka_unit_test(a_raw_disk_measures_as_long_as_it_is),
    };

    return cmocka_run_group_tests_name("raw", tests, NULL, NULL);
}
