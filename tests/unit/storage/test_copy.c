#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "core/storage/window.h"
#include "tests/unit/storage/storages.h"

#define SOURCE_SIZE (3 * 1024 * 1024 + 777)

/* Copies out of a source of SOURCE_SIZE bytes. */
static const struct row {
    const char *name;
    uint64_t dst_off, src_off, len;
} rows[] = {
    { "aligned blocks", 8192, 4096, 65536 },
    { "blocks with a short last one", 0, 0, SOURCE_SIZE },
    { "an unaligned source", 4096, 777, 100000 },
    { "an unaligned target", 777, 4096, 100000 },
    { "one byte", 5, 9, 1 },
    { "nothing", 5, 9, 0 },
    { "a range that ends behind the source", 4096, SOURCE_SIZE - 1000, 10000 },
    { "a range wholly behind the source", 4096, SOURCE_SIZE + 5, 10000 },
    { "more than one piece of the buffer", 12345, 1, 3 * 1024 * 1024 },
};

static struct pl_storage *memory(void)
{
    struct pl_storage *st = NULL;

    OK(pl_memory_storage(NULL, 0, 16 << 20, &st, &e));
    return st;
}

/* Target bytes before the copy have pattern 1, the source pattern 2; the target is larger than
 * each copy. */
static void check_copy(const struct row *r, struct pl_storage *dst, struct pl_storage *src)
{
    const size_t size = 4 << 20;
    uint8_t *wanted = malloc(size), *found = malloc(size);

    write_pattern(src, 0, SOURCE_SIZE, 2);
    write_pattern(dst, 0, size, 1);
    pattern(wanted, 0, size, 1);
    for (uint64_t i = 0; i < r->len; i++)
        wanted[r->dst_off + i] = r->src_off + i < SOURCE_SIZE ? pattern_at(r->src_off + i, 2) : 0;
    OK(pl_storage_copy(dst, r->dst_off, src, r->src_off, r->len, &e));
    OK(pl_storage_read(dst, 0, found, size, &e));
    assert_memory_equal(found, wanted, size);
    assert_int_equal(pl_storage_size(dst), size);
    free(wanted);
    free(found);
    pl_storage_close(dst, NULL);
    pl_storage_close(src, NULL);
}

static void file_to_file(void **state)
{
    check_copy(*state, new_file("target"), new_file("source"));
}

static void memory_to_file(void **state)
{
    check_copy(*state, new_file("target"), memory());
}

static void file_to_memory(void **state)
{
    check_copy(*state, memory(), new_file("source"));
}

static void a_copy_grows_its_target(void **state)
{
    struct pl_storage *dst = new_file("target"), *src = new_file("source");

    (void)state;
    write_pattern(src, 0, 10000, 2);
    OK(pl_storage_copy(dst, 0, src, 0, 10000, &e));
    assert_int_equal(pl_storage_size(dst), 10000);
    assert_true(reads_as(dst, 0, 10000, 2));
    OK(pl_storage_copy(dst, 10000, src, 10000, 5000, &e));
    assert_int_equal(pl_storage_size(dst), 15000);
    assert_true(reads_as(dst, 10000, 5000, ZEROS));
    pl_storage_close(dst, NULL);
    pl_storage_close(src, NULL);
}

static void a_copy_within_one_file(void **state)
{
    struct pl_storage *st = new_file("target");
    uint8_t *found = malloc(65536), *wanted = malloc(65536);

    (void)state;
    write_pattern(st, 0, 65536, 2);
    pattern(wanted, 0, 65536, 2);
    OK(pl_storage_copy(st, 131072, st, 0, 65536, &e));
    OK(pl_storage_read(st, 131072, found, 65536, &e));
    assert_memory_equal(found, wanted, 65536);
    free(found);
    free(wanted);
    pl_storage_close(st, NULL);
}

static void a_copy_between_windows_stays_in_them(void **state)
{
    struct pl_storage *dst = new_file("target"), *src = new_file("source"), *to, *from;

    (void)state;
    write_pattern(src, 0, 65536, 2);
    write_pattern(dst, 0, 65536, 1);
    OK(pl_window_storage(src, 8192, 8192, &from, &e));
    OK(pl_window_storage(dst, 8192, 16384, &to, &e));
    OK(pl_storage_copy(to, 0, from, 0, 12288, &e));
    assert_true(reads_as(dst, 0, 8192, 1));
    assert_true(reads_as(dst, 8192, 8192, 2));
    assert_true(reads_as(dst, 16384, 4096, ZEROS));
    assert_true(reads_as(dst, 20480, 45056, 1));
    FAILS(PL_E_NO_SPACE, "past the end", pl_storage_copy(to, 12288, from, 0, 8192, &e));
    assert_true(reads_as(dst, 20480, 45056, 1));
    pl_storage_close(to, NULL);
    pl_storage_close(from, NULL);
    pl_storage_close(dst, NULL);
    pl_storage_close(src, NULL);
}

static int copy_all(const char *group, CMUnitTestFunction test)
{
    struct CMUnitTest tests[PL_COUNT(rows)];

    for (size_t i = 0; i < PL_COUNT(rows); i++)
        tests[i] = (struct CMUnitTest){ .name = rows[i].name,
                                        .test_func = test,
                                        .initial_state = (void *)&rows[i] };
    return _cmocka_run_group_tests(group, tests, PL_COUNT(rows), NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_grows_its_target),
        cmocka_unit_test(a_copy_within_one_file),
        cmocka_unit_test(a_copy_between_windows_stays_in_them),
    };

    return copy_all("file to file", file_to_file) + copy_all("memory to file", memory_to_file) +
           copy_all("file to memory", file_to_memory) +
           cmocka_run_group_tests_name("copies", tests, NULL, NULL);
}
