/* test_compare.c - which differences between two disks count, and where the first one is. */
#include "tests/unit/engine/disks.h"

#include <stdatomic.h>

#define MIB (1u << 20)

static struct pl_compare_result compare(const char *a, const char *a_format, const char *b,
                                        const char *b_format, bool strict, unsigned workers)
{
    const struct pl_compare_options options = { .strict = strict, .workers = workers };
    char *path_a = test_tmp(a), *path_b = test_tmp(b);
    struct pl_image *first = open_disk(path_a, a_format, false);
    struct pl_image *second = open_disk(path_b, b_format, false);
    struct pl_compare_result result;

    OK(pl_compare(first, second, &options, &result, &e));
    OK(pl_close(first, &e));
    OK(pl_close(second, &e));
    free(path_a);
    free(path_b);
    return result;
}

static void write_raw(const char *name, const uint8_t *bytes, size_t len)
{
    char *path = test_tmp(name);

    write_file(path, bytes, len);
    free(path);
}

static void the_first_difference_is_found_whatever_the_threads(void **state)
{
    static const size_t places[] = { 0, 1, 4095, MIB - 1, MIB, 3 * MIB + 77, 5 * MIB + 512 };
    const size_t len = 5 * MIB + 513;
    uint8_t *bytes = mixed_content(len, 1);

    (void)state;
    write_raw("a", bytes, len);
    for (size_t i = PL_COUNT(places); i-- > 0;) { /* later ones stay different */
        bytes[places[i]] ^= 1;
        write_raw("b", bytes, len);
        for (unsigned workers = 1; workers <= 6; workers += 5) {
            const struct pl_compare_result r = compare("a", "raw", "b", "raw", false, workers);

            assert_false(r.equal);
            assert_int_equal(r.offset, places[i]);
        }
    }
    free(bytes);
}

static void a_longer_disk_is_equal_when_the_rest_is_zeros(void **state)
{
    uint8_t *bytes = mixed_content(4 * MIB, 1);
    struct pl_compare_result r;

    (void)state;
    memset(bytes + MIB + 300, 0, 3 * MIB - 300);
    write_raw("short", bytes, MIB + 300);
    write_raw("long", bytes, 4 * MIB);
    r = compare("short", "raw", "long", "raw", false, 2);
    assert_true(r.equal && r.sizes_differ);
    r = compare("long", "raw", "short", "raw", false, 2);
    assert_true(r.equal && r.sizes_differ);
    r = compare("long", "raw", "short", "raw", true, 2);
    assert_true(!r.equal && r.sizes_differ);
    bytes[4 * MIB - 1] = 1;
    write_raw("long", bytes, 4 * MIB);
    r = compare("short", "raw", "long", "raw", false, 2);
    assert_false(r.equal);
    assert_int_equal(r.offset, 4 * MIB - 1);
    free(bytes);
}

static void formats_and_holes_do_not_matter_unless_strict(void **state)
{
    char *path = test_tmp("image");
    uint8_t *zeros = calloc(1, 2 * MIB);
    struct pl_compare_result r;
    struct pl_image *img;

    (void)state;
    write_raw("zeros", zeros, 2 * MIB);
    create_disk(path, "qcow2", 2 * MIB, "", NULL);
    r = compare("zeros", "raw", "image", NULL, false, 2);
    assert_true(r.equal && !r.sizes_differ);
    img = open_disk(path, NULL, true);
    OK(pl_write(img, 65536, zeros, 65536, &e));
    OK(pl_close(img, &e));
    free(path);
    path = test_tmp("empty");
    create_disk(path, "qcow2", 2 * MIB, "", NULL);
    assert_true(compare("empty", NULL, "image", NULL, false, 2).equal);
    r = compare("empty", NULL, "image", NULL, true, 2);
    assert_true(!r.equal && r.allocation_differs && r.offset == 65536);
    free(path);
    free(zeros);
}

static void disks_without_bytes_are_equal(void **state)
{
    (void)state;
    write_raw("none", (const uint8_t *)"", 0);
    assert_true(compare("none", "raw", "none", "raw", false, 2).equal);
    write_raw("one", (const uint8_t *)"x", 1);
    assert_false(compare("none", "raw", "one", "raw", false, 2).equal);
}

/* False the first time, which is asked for the common length. */
static bool the_second_time(void *ctx)
{
    atomic_uint *calls = ctx;

    return atomic_fetch_add(calls, 1) > 0;
}

/* The rest of a longer disk may be most of the work. */
static void comparing_can_be_cancelled_also_behind_the_common_length(void **state)
{
    atomic_uint calls = 0;
    const struct pl_report report = { .ctx = &calls, .cancelled = the_second_time };
    const struct pl_compare_options options = { .workers = 1, .report = &report };
    uint8_t *bytes = mixed_content(MIB, 1);
    char *short_path = test_tmp("short"), *long_path = test_tmp("long");
    struct pl_compare_result result;
    struct pl_image *a, *b;

    (void)state;
    memset(bytes, 0, MIB);
    bytes[MIB - 1] = 1;
    write_file(long_path, bytes, MIB);
    write_file(short_path, bytes, 0);
    a = open_disk(short_path, "raw", false);
    b = open_disk(long_path, "raw", false);
    FAILS(PL_E_CANCELLED, "", pl_compare(a, b, &options, &result, &e));
    OK(pl_close(a, &e));
    OK(pl_close(b, &e));
    free(short_path);
    free(long_path);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_difference_is_found_whatever_the_threads),
        cmocka_unit_test(a_longer_disk_is_equal_when_the_rest_is_zeros),
        cmocka_unit_test(formats_and_holes_do_not_matter_unless_strict),
        cmocka_unit_test(disks_without_bytes_are_equal),
        cmocka_unit_test(comparing_can_be_cancelled_also_behind_the_common_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
