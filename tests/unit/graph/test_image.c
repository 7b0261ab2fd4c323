/* test_image.c - images and their chains: what a guest reads, writes and is refused. */
#include "tests/unit/engine/disks.h"

#include "core/graph/node.h"

#include <stdio.h>

#define CLUSTER 65536u

/* A qcow2 image called `name` over `parent` (null: none) whose bytes [from, to) are `byte`. */
static void make_layer(const char *name, const char *parent, uint64_t size, uint64_t from,
                       uint64_t to, uint8_t byte)
{
    char *path = test_tmp(name);
    uint8_t *bytes = malloc(to - from + 1);
    struct pl_image *img;

    memset(bytes, byte, to - from);
    create_disk(path, "qcow2", size, "", parent);
    img = open_disk(path, "qcow2", true);
    OK(pl_write(img, from, bytes, to - from, &e));
    OK(pl_close(img, &e));
    free(bytes);
    free(path);
}

/* The byte that the guest sees at `at`; all `len` from there on are the same. */
static int byte_at(struct pl_image *img, uint64_t at, size_t len)
{
    uint8_t *bytes = malloc(len);
    int first;

    OK(pl_read(img, at, bytes, len, &e));
    first = bytes[0];
    for (size_t i = 0; i < len; i++)
        assert_int_equal(bytes[i], first);
    free(bytes);
    return first;
}

static void a_chain_reads_through_shorter_and_longer_parents(void **state)
{
    char *path = test_tmp("young");
    struct pl_image *img;

    (void)state;
    make_layer("old", NULL, 10 * CLUSTER, 0, 10 * CLUSTER, 1);
    make_layer("short", "old", 3 * CLUSTER - 512, CLUSTER, 2 * CLUSTER, 2);
    make_layer("young", "short", 8 * CLUSTER, 6 * CLUSTER + 100, 6 * CLUSTER + 200, 3);
    img = open_disk(path, NULL, false);
    assert_int_equal(byte_at(img, 0, CLUSTER), 1);
    assert_int_equal(byte_at(img, CLUSTER, CLUSTER), 2);
    assert_int_equal(byte_at(img, 2 * CLUSTER, CLUSTER - 512), 1);
    /* `short` ends here: what `old` has behind is not seen */
    assert_int_equal(byte_at(img, 3 * CLUSTER - 512, 3 * CLUSTER + 612), 0);
    assert_int_equal(byte_at(img, 6 * CLUSTER + 100, 100), 3);
    assert_int_equal(byte_at(img, 6 * CLUSTER + 200, 2 * CLUSTER - 200), 0);
    assert_string_equal(pl_parent_name(img), "short");
    assert_non_null(pl_parent(pl_parent(img)));
    assert_null(pl_parent(pl_parent(pl_parent(img))));
    OK(pl_close(img, &e));
    free(path);
}

static void a_chain_without_end_is_refused(void **state)
{
    char *a = test_tmp("loop-a"), *b = test_tmp("loop-b"), *c = test_tmp("loop-c");
    struct pl_image *img;

    (void)state;
    make_layer("loop-c", NULL, CLUSTER, 0, 512, 1);
    make_layer("loop-b", "loop-c", CLUSTER, 0, 512, 1);
    make_layer("loop-a", "loop-b", CLUSTER, 0, 512, 1);
    assert_int_equal(rename(a, c), 0); /* c names b, which names c */
    FAILS(PL_E_CORRUPT, "already in the chain", pl_open(c, NULL, &img, &e));
    FAILS(PL_E_CORRUPT, "already in the chain", pl_open(b, NULL, &img, &e));
    free(a);
    free(b);
    free(c);
}

static void a_chain_of_200_images_opens_and_one_more_does_not(void **state)
{
    char name[16], parent[16];
    struct pl_image *img;
    char *path;

    (void)state;
    for (unsigned i = 0; i <= PL_CHAIN_MAX; i++) {
        const struct pl_open_options alone = { .writable = true, .no_parent = true };
        struct pl_create_options create = { .format = "qcow2",
                                            .size = CLUSTER,
                                            .size_given = true,
                                            .parent = i ? parent : NULL,
                                            .parent_format = "qcow2",
                                            .unsafe_parent = true };

        snprintf(name, sizeof name, "deep%u", i);
        path = test_tmp(name);
        OK(pl_create(path, &create, &e));
        if (i == 0) {
            OK(pl_open(path, &alone, &img, &e));
            OK(pl_write(img, 5, "x", 1, &e));
            OK(pl_close(img, &e));
        }
        if (i == PL_CHAIN_MAX - 1) {
            img = open_disk(path, NULL, false);
            assert_int_equal(byte_at(img, 5, 1), 'x');
            OK(pl_close(img, &e));
        }
        if (i == PL_CHAIN_MAX)
            FAILS(PL_E_LIMIT, "deeper than 200", pl_open(path, NULL, &img, &e));
        free(path);
        memcpy(parent, name, sizeof parent);
    }
}

static void a_guessed_raw_image_does_not_become_another_format(void **state)
{
    char *path = test_tmp("disk");
    const struct pl_open_options guessed = { .writable = true };
    uint8_t zeros[8192] = { 0 };
    struct pl_image *img;

    (void)state;
    write_file(path, zeros, sizeof zeros);
    OK(pl_open(path, &guessed, &img, &e));
    assert_true(pl_format_guessed(img));
    FAILS(PL_E_POLICY, "look like qcow", pl_write(img, 0, "QFI\xfb\0\0\0\3", 8, &e));
    OK(pl_write(img, 2, "I\xfb\0\0\0\3", 6, &e)); /* harmless without its beginning, ... */
    FAILS(PL_E_POLICY, "look like qcow",
          pl_write(img, 0, "QF", 2, &e)); /* ... which must not come */
    assert_int_equal(byte_at(img, 0, 2), 0);
    OK(pl_write(img, 4096, "QFI\xfb\0\0\0\3", 8, &e));
    OK(pl_close(img, &e));
    img = open_disk(path, "raw", true);
    OK(pl_write(img, 0, "QF", 2, &e));
    OK(pl_close(img, &e));
    free(path);
}

static void nothing_changes_an_image_that_is_open_for_reading(void **state)
{
    char *path = test_tmp("readonly");
    struct pl_check_result result;
    struct pl_image *img;

    (void)state;
    make_layer("readonly", NULL, CLUSTER, 0, 512, 1);
    img = open_disk(path, NULL, false);
    FAILS(PL_E_INVALID, "reading only", pl_write(img, 0, "x", 1, &e));
    FAILS(PL_E_INVALID, "reading only", pl_zero(img, 0, 512, true, &e));
    FAILS(PL_E_INVALID, "reading only", pl_discard(img, 0, 512, &e));
    FAILS(PL_E_INVALID, "reading only", pl_resize(img, 2 * CLUSTER, false, 0, &e));
    FAILS(PL_E_INVALID, "reading only", pl_check(img, PL_REPAIR_LEAKS, NULL, &result, &e));
    OK(pl_check(img, PL_REPAIR_NONE, NULL, &result, &e));
    OK(pl_flush(img, &e));
    OK(pl_close(img, &e));
    free(path);
}

static void ranges_outside_the_disk_are_refused(void **state)
{
    static const struct {
        uint64_t at, len;
    } rows[] = { { CLUSTER, 1 },
                 { CLUSTER - 1, 2 },
                 { 0, CLUSTER + 1 },
                 { UINT64_MAX, 1 },
                 { UINT64_MAX - 1, 2 } };
    char *path = test_tmp("small");
    uint8_t byte[2 * CLUSTER] = { 0 };
    struct pl_run run;
    struct pl_image *img;

    (void)state;
    make_layer("small", NULL, CLUSTER, 0, 512, 1);
    img = open_disk(path, NULL, true);
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        FAILS(PL_E_LIMIT, "outside", pl_read(img, rows[i].at, byte, rows[i].len, &e));
        FAILS(PL_E_LIMIT, "outside", pl_write(img, rows[i].at, byte, rows[i].len, &e));
        FAILS(PL_E_LIMIT, "outside", pl_zero(img, rows[i].at, rows[i].len, true, &e));
        FAILS(PL_E_LIMIT, "outside", pl_discard(img, rows[i].at, rows[i].len, &e));
        FAILS(PL_E_LIMIT, "outside", pl_map(img, rows[i].at, rows[i].len, &run, &e));
    }
    FAILS(PL_E_INVALID, "no bytes", pl_map(img, 0, 0, &run, &e));
    OK(pl_read(img, CLUSTER, byte, 0, &e));
    OK(pl_write(img, CLUSTER, byte, 0, &e));
    OK(pl_zero(img, CLUSTER, 0, true, &e));
    OK(pl_close(img, &e));
    free(path);
}

static void growing_shows_zeros_whatever_was_there(void **state)
{
    char *path = test_tmp("grows");
    struct pl_image *img;

    (void)state;
    make_layer("long", NULL, 10 * CLUSTER, 0, 10 * CLUSTER, 1);
    make_layer("grows", "long", 4 * CLUSTER, 3 * CLUSTER, 4 * CLUSTER, 2);
    img = open_disk(path, NULL, true);
    OK(pl_resize(img, 3 * CLUSTER + 512, true, 0, &e));
    FAILS(PL_E_INVALID, "less than", pl_resize(img, 512, false, 0, &e));
    OK(pl_resize(img, 12 * CLUSTER, false, 0, &e));
    assert_int_equal(pl_size(img), 12 * CLUSTER);
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(byte_at(img, 2 * CLUSTER, CLUSTER), 1);
        assert_int_equal(byte_at(img, 3 * CLUSTER, 512), 2);
        assert_int_equal(byte_at(img, 3 * CLUSTER + 512, 9 * CLUSTER - 512), 0);
        OK(pl_close(img, &e));
        img = open_disk(path, NULL, true);
    }
    OK(pl_close(img, &e));
    free(path);
}

static void a_map_joins_what_belongs_together(void **state)
{
    char *path = test_tmp("mapped");
    struct pl_image *img;
    struct pl_run run;

    (void)state;
    make_layer("under", NULL, 40 * CLUSTER, 20 * CLUSTER, 22 * CLUSTER, 1);
    make_layer("mapped", "under", 40 * CLUSTER, 2 * CLUSTER, 10 * CLUSTER, 2);
    img = open_disk(path, NULL, true);
    OK(pl_zero(img, 12 * CLUSTER, 4 * CLUSTER, true, &e));

    OK(pl_map(img, 0, 40 * CLUSTER, &run, &e)); /* nobody says anything */
    assert_int_equal(run.len, 2 * CLUSTER);
    assert_true(run.zero && !run.present && !run.data);
    OK(pl_map(img, 2 * CLUSTER, 38 * CLUSTER, &run, &e));
    assert_int_equal(run.len, 8 * CLUSTER);
    assert_true(run.data && run.present && run.has_offset && run.depth == 0);
    assert_string_equal(run.file, path);
    OK(pl_map(img, 3 * CLUSTER + 5, CLUSTER, &run, &e)); /* no more than was asked for */
    assert_int_equal(run.len, CLUSTER);
    OK(pl_map(img, 12 * CLUSTER, 28 * CLUSTER, &run, &e));
    assert_int_equal(run.len, 4 * CLUSTER);
    assert_true(run.zero && run.present && run.depth == 0);
    OK(pl_map(img, 20 * CLUSTER, 20 * CLUSTER, &run, &e));
    assert_int_equal(run.len, 2 * CLUSTER);
    assert_true(run.data && run.depth == 1);
    OK(pl_close(img, &e));
    free(path);
}

/* Writes, zeros and discards that do not fit clusters keep the bytes around them. */
static void parts_of_clusters_keep_their_other_bytes(void **state)
{
    const size_t size = 6 * CLUSTER;
    char *base = test_tmp("parts-base"), *path = test_tmp("parts");
    uint8_t *bytes = mixed_content(size, 2), *data = malloc(size);
    struct pl_image *img;

    (void)state;
    fill_pattern(data, 0, size, 8);
    write_file(base, bytes, size);
    create_disk(path, "qcow2", size, "", "parts-base");
    img = open_disk(path, NULL, true);
    OK(pl_write(img, 100, data, 50, &e));
    memcpy(bytes + 100, data, 50);
    OK(pl_write(img, CLUSTER - 7, data, 2 * CLUSTER, &e));
    memcpy(bytes + CLUSTER - 7, data, 2 * CLUSTER);
    OK(pl_zero(img, 2 * CLUSTER + 9, 2 * CLUSTER, true, &e));
    memset(bytes + 2 * CLUSTER + 9, 0, 2 * CLUSTER);
    OK(pl_zero(img, 5 * CLUSTER - 3, 5, false, &e));
    memset(bytes + 5 * CLUSTER - 3, 0, 5);
    OK(pl_discard(img, 1, CLUSTER - 2, &e)); /* no whole cluster: nothing */
    OK(pl_close(img, &e));
    shows(path, "qcow2", bytes, size);
    free(base);
    free(path);
    free(bytes);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_reads_through_shorter_and_longer_parents),
        cmocka_unit_test(a_chain_without_end_is_refused),
        cmocka_unit_test(a_chain_of_200_images_opens_and_one_more_does_not),
        cmocka_unit_test(a_guessed_raw_image_does_not_become_another_format),
        cmocka_unit_test(nothing_changes_an_image_that_is_open_for_reading),
        cmocka_unit_test(ranges_outside_the_disk_are_refused),
        cmocka_unit_test(growing_shows_zeros_whatever_was_there),
        cmocka_unit_test(a_map_joins_what_belongs_together),
        cmocka_unit_test(parts_of_clusters_keep_their_other_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
