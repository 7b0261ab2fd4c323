#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <zlib.h>

#include "core/storage/gunzip.h"
#include "core/storage/joined.h"
#include "core/storage/memory.h"
#include "tests/unit/storage/storages.h"

static struct pl_storage *part(uint64_t off, size_t len)
{
    struct pl_storage *st;

    OK(pl_memory_storage(NULL, 0, len, &st, &e));
    if (len > 0) {
        uint8_t *bytes = malloc(len);

        pattern(bytes, off, len, 1);
        OK(pl_storage_write(st, 0, bytes, len, &e));
        free(bytes);
    }
    return st;
}

static void parts_read_as_one(void **state)
{
    struct pl_storage *parts[] = { part(0, 0),      part(0, 100),  part(100, 0),
                                   part(100, 4000), part(4100, 1), part(4101, 0) };
    struct pl_storage *st;
    uint8_t byte;

    (void)state;
    OK(pl_joined_storage(parts, 6, "all", &st, &e));
    assert_int_equal(pl_storage_size(st), 4101);
    assert_true(reads_as(st, 0, 4101, 1));
    assert_true(reads_as(st, 99, 2, 1));
    assert_true(reads_as(st, 100, 1, 1));
    assert_true(reads_as(st, 4100, 1, 1));
    FAILS(PL_E_CORRUPT, "all: ", pl_storage_read(st, 4101, &byte, 1, &e));
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(st, UINT64_MAX, &byte, 1, &e));
    FAILS(PL_E_INVALID, "", pl_storage_write(st, 0, "x", 1, &e));
    FAILS(PL_E_UNSUPPORTED, "fixed", pl_storage_resize(st, 1, &e));
    pl_storage_close(st, NULL);
}

static void holes_of_parts_show(void **state)
{
    struct pl_storage *parts[] = { new_file("one"), new_file("two") }, *st;
    uint64_t len = 200000;
    bool hole;

    (void)state;
    write_pattern(parts[0], 0, 65536, 1);
    OK(pl_storage_resize(parts[1], 1 << 20, &e));
    OK(pl_joined_storage(parts, 2, "all", &st, &e));
    OK(pl_storage_map(st, 0, &len, &hole, &e));
    assert_int_equal(len, 65536);
    assert_false(hole);
    len = 1 << 20;
    OK(pl_storage_map(st, 65536, &len, &hole, &e));
    assert_int_equal(len, 1 << 20);
    pl_storage_close(st, NULL);
}

/* Appends one gzip member of the pattern's first `len` bytes, `zeros` zeros behind them. */
static void add_member(struct pl_storage *to, size_t len, size_t zeros)
{
    uint8_t *bytes = calloc(1, len + zeros + 1), *packed = malloc(len + zeros + 4096);
    z_stream z = { 0 };

    pattern(bytes, 0, len, 1);
    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
    z.next_in = bytes;
    z.avail_in = (uInt)(len + zeros);
    z.next_out = packed;
    z.avail_out = (uInt)(len + zeros + 4096);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    OK(pl_storage_write(to, pl_storage_size(to), packed, z.total_out, &e));
    deflateEnd(&z);
    free(packed);
    free(bytes);
}

static struct pl_storage *empty(void)
{
    struct pl_storage *st;

    OK(pl_memory_storage(NULL, 0, 16 << 20, &st, &e));
    return st;
}

static void all_members_are_unpacked(void **state)
{
    struct pl_storage *packed = empty(), *st;

    (void)state;
    add_member(packed, 100000, 3000000);
    add_member(packed, 0, 0);
    add_member(packed, 500000, 0);
    OK(pl_storage_resize(packed, pl_storage_size(packed) + 700000, &e)); /* zeros */
    OK(pl_gunzip(packed, 3600000, NULL, &st, &e));
    pl_storage_close(packed, NULL);
    assert_int_equal(pl_storage_size(st), 3600000);
    assert_true(reads_as(st, 0, 100000, 1));
    assert_true(reads_as(st, 100000, 3000000, ZEROS));
    assert_true(pl_storage_disk_usage(st) < 3000000);
    FAILS(PL_E_INVALID, "", pl_storage_write(st, 0, "x", 1, &e));
    pl_storage_close(st, NULL);
}

static void what_is_too_long_or_damaged_is_refused(void **state)
{
    struct pl_storage *packed = empty(), *st;

    (void)state;
    FAILS(PL_E_CORRUPT, "cut off", pl_gunzip(packed, 100, NULL, &st, &e));
    add_member(packed, 100000, 0);
    FAILS(PL_E_LIMIT, "more than the 99999 bytes", pl_gunzip(packed, 99999, NULL, &st, &e));
    OK(pl_gunzip(packed, 100000, NULL, &st, &e));
    pl_storage_close(st, NULL);
    OK(pl_storage_write(packed, pl_storage_size(packed), "x", 1, &e));
    FAILS(PL_E_CORRUPT, "", pl_gunzip(packed, 100000, NULL, &st, &e));
    OK(pl_storage_resize(packed, 1000, &e));
    FAILS(PL_E_CORRUPT, "cut off after 1000 bytes", pl_gunzip(packed, 100000, NULL, &st, &e));
    pl_storage_close(packed, NULL);
}

static bool stop(void *ctx)
{
    (void)ctx;
    return true;
}

static void unpacking_can_be_stopped(void **state)
{
    const struct pl_report report = { .cancelled = stop };
    struct pl_storage *packed = empty(), *st;

    (void)state;
    add_member(packed, 1000, 0);
    FAILS(PL_E_CANCELLED, "", pl_gunzip(packed, 1000, &report, &st, &e));
    pl_storage_close(packed, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_read_as_one),
        cmocka_unit_test(holes_of_parts_show),
        cmocka_unit_test(all_members_are_unpacked),
        cmocka_unit_test(what_is_too_long_or_damaged_is_refused),
        cmocka_unit_test(unpacking_can_be_stopped),
    };

    return cmocka_run_group_tests_name("joined and unpacked storage", tests, NULL, NULL);
}
