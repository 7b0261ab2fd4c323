/* test_commit_rebase.c - merging and moving chains through the library: who stops it, what is told,
 * and that the number of threads does not matter.  What the program does is in tests/cli. */
#include "tests/unit/engine/disks.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#define MIB (1u << 20)
#define SIZE (8u * MIB)

struct chain {
    char *base, *child, *other;
    uint8_t *base_bytes, *child_bytes, *other_bytes;
};

/* base.raw <- child.qcow2, of which every second MiB is its own; other.raw beside them. */
static struct chain begin(void)
{
    struct chain c = {
        .base = test_tmp("base.raw"),
        .child = test_tmp("child.qcow2"),
        .other = test_tmp("other.raw"),
        .base_bytes = mixed_content(SIZE, 1),
        .child_bytes = mixed_content(SIZE, 1),
        .other_bytes = mixed_content(SIZE, 7),
    };
    struct pl_image *img;

    write_file(c.base, c.base_bytes, SIZE);
    write_file(c.other, c.other_bytes, SIZE);
    create_disk(c.child, "qcow2", SIZE, "cluster_size=4k", "base.raw");
    img = open_disk(c.child, "qcow2", true);
    for (size_t at = MIB; at < SIZE; at += 2 * MIB) {
        fill_pattern(c.child_bytes + at, at, MIB, at == 3 * MIB ? 0 : 5);
        OK(pl_write(img, at, c.child_bytes + at, MIB, &e));
    }
    OK(pl_close(img, &e));
    return c;
}

static void end(struct chain *c)
{
    remove(c->child);
    free(c->base);
    free(c->child);
    free(c->other);
    free(c->base_bytes);
    free(c->child_bytes);
    free(c->other_bytes);
}

/* Asks to stop at the n-th question. */
struct stop {
    atomic_uint questions;
    unsigned at;
};

static bool is_stopped(void *ctx)
{
    struct stop *stop = ctx;

    return atomic_fetch_add(&stop->questions, 1) >= stop->at;
}

static void a_commit_that_is_stopped_anywhere_is_finished_later(void **state)
{
    bool stopped = true;

    (void)state;
    for (unsigned n = 0; stopped; n += 3) {
        struct stop stop = { .at = n };
        const struct pl_report report = { .ctx = &stop, .cancelled = is_stopped };
        struct pl_commit_options options = { .workers = 2, .report = &report };
        struct pl_commit_result result;
        struct chain c = begin();
        struct pl_err why = { 0 };

        stopped = pl_commit(c.child, &options, &result, &why) < 0;
        if (stopped) {
            assert_int_equal(why.kind, PL_E_CANCELLED);
            assert_null(result.base);
            shows(c.child, "qcow2", c.child_bytes, SIZE);
            options.report = NULL;
            OK(pl_commit(c.child, &options, &result, &e));
        }
        assert_true(result.emptied && !result.grown);
        free(result.base);
        shows(c.child, "qcow2", c.child_bytes, SIZE);
        shows(c.base, "raw", c.child_bytes, SIZE);
        end(&c);
    }
}

static void a_rebase_that_is_stopped_anywhere_is_finished_later(void **state)
{
    bool stopped = true;

    (void)state;
    for (unsigned n = 0; stopped; n += 3) {
        struct stop stop = { .at = n };
        const struct pl_report report = { .ctx = &stop, .cancelled = is_stopped };
        struct pl_rebase_options options = {
            .parent = "other.raw", .parent_format = "raw", .workers = 2, .report = &report
        };
        struct pl_rebase_result result;
        struct chain c = begin();
        struct pl_err why = { 0 };

        stopped = pl_rebase(c.child, &options, &result, &why) < 0;
        if (stopped) {
            assert_int_equal(why.kind, PL_E_CANCELLED);
            shows(c.child, "qcow2", c.child_bytes, SIZE);
            options.report = NULL;
            OK(pl_rebase(c.child, &options, &result, &e));
        }
        assert_string_equal(result.parent_format, "raw");
        write_file(c.base, "", 0);
        shows(c.child, "qcow2", c.child_bytes, SIZE);
        end(&c);
    }
}

static void the_number_of_threads_does_not_matter(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 9; workers += 4) {
        const struct pl_rebase_options rebase = { .parent = "", .workers = workers };
        const struct pl_commit_options commit = { .workers = workers, .keep = true };
        struct pl_commit_result committed;
        struct pl_rebase_result rebased;
        struct chain c = begin();

        OK(pl_commit(c.child, &commit, &committed, &e));
        assert_false(committed.emptied);
        assert_int_equal(committed.copied + committed.zero, SIZE / 2);
        assert_string_equal(committed.base, c.base);
        assert_string_equal(committed.format, "raw");
        free(committed.base);
        shows(c.base, "raw", c.child_bytes, SIZE);
        OK(pl_rebase(c.child, &rebase, &rebased, &e));
        assert_string_equal(rebased.parent_format, "");
        write_file(c.base, "", 0);
        shows(c.child, "qcow2", c.child_bytes, SIZE);
        end(&c);
    }
}

static void what_both_chains_have_alike_is_not_copied(void **state)
{
    struct chain c = begin();
    const struct pl_rebase_options options = { .parent = "other.raw", .parent_format = "raw" };
    struct pl_rebase_result result;

    (void)state;
    memcpy(c.other_bytes, c.base_bytes, SIZE);
    c.other_bytes[2 * MIB + 5] ^= 1;
    write_file(c.other, c.other_bytes, SIZE);
    OK(pl_rebase(c.child, &options, &result, &e));
    assert_int_equal(result.copied, 4096);
    assert_int_equal(result.zero, 0);
    shows(c.child, "qcow2", c.child_bytes, SIZE);
    end(&c);
}

/* Of what was made ahead of the writes nothing is left, also after a stop. */
static void a_file_that_grew_has_no_room_behind_its_end(void **state)
{
    (void)state;
    for (unsigned at = 4; at <= 64; at += 60) {
        struct stop stop = { .at = at };
        const struct pl_report report = { .ctx = &stop, .cancelled = is_stopped };
        const struct pl_rebase_options options = { .parent = "", .workers = 1, .report = &report };
        struct pl_rebase_result result;
        struct chain c = begin();
        struct pl_err why;
        struct stat stat;

        assert_int_equal(pl_rebase(c.child, &options, &result, &why) < 0, at == 4);
        assert_true(result.copied > 0);
        assert_int_equal(lstat(c.child, &stat), 0);
        assert_in_range(stat.st_blocks * 512, 0, stat.st_size + MIB / 4);
        end(&c);
    }
}

static void zeros_over_no_parent_stay_zeros_over_one(void **state)
{
    static const char *const kinds[] = { "", "compat=0.10", "cluster_size=16k,extended_l2=on" };
    struct chain c = begin();

    (void)state;
    memset(c.child_bytes, 0, SIZE);
    for (size_t i = 0; i < PL_COUNT(kinds); i++) {
        const struct pl_rebase_options options = { .parent = "other.raw", .parent_format = "raw" };
        struct pl_rebase_result result;

        create_disk(c.child, "qcow2", SIZE, kinds[i], NULL);
        OK(pl_rebase(c.child, &options, &result, &e));
        assert_true(result.zero > 0);
        shows(c.child, "qcow2", c.child_bytes, SIZE);
    }
    end(&c);
}

static void count_warning(void *ctx, const char *message)
{
    unsigned *count = ctx;

    *count += strstr(message, "were not looked for") != NULL;
}

static void a_folder_too_full_to_look_through_is_told(void **state)
{
    unsigned warnings = 0;
    const struct pl_report report = { .ctx = &warnings, .warn = count_warning };
    const struct pl_commit_options options = { .report = &report };
    struct pl_commit_result result;
    struct chain c = begin();

    (void)state;
    for (unsigned i = 0; i < 1100; i++) {
        char name[32], *path;

        snprintf(name, sizeof name, "crowd%u", i);
        path = test_tmp(name);
        write_file(path, "", 0);
        free(path);
    }
    OK(pl_commit(c.child, &options, &result, &e));
    assert_int_equal(warnings, 1);
    free(result.base);
    shows(c.base, "raw", c.child_bytes, SIZE);
    end(&c);
}

static void an_image_forgets_whole_granules_alone(void **state)
{
    struct chain c = begin();
    struct pl_image *img = open_disk(c.child, "qcow2", true);

    (void)state;
    OK(pl_forget(img, MIB + 1, 8191, &e)); /* of two clusters only the second wholly */
    OK(pl_close(img, &e));
    memcpy(c.child_bytes + MIB + 4096, c.base_bytes + MIB + 4096, 4096);
    shows(c.child, "qcow2", c.child_bytes, SIZE);
    img = open_disk(c.child, "qcow2", false);
    FAILS(PL_E_INVALID, "reading only", pl_forget(img, 0, MIB, &e));
    OK(pl_close(img, &e));
    img = open_disk(c.base, "raw", true);
    FAILS(PL_E_UNSUPPORTED, "emptying", pl_forget(img, 0, MIB, &e));
    OK(pl_close(img, &e));
    end(&c);
}

static void an_image_names_another_parent(void **state)
{
    const struct pl_parent_ref other = { .name = "other.raw", .format = "raw" }, none = { 0 };
    struct chain c = begin();
    struct pl_image *img = open_disk(c.child, "qcow2", false);

    (void)state;
    FAILS(PL_E_INVALID, "reading only", pl_set_parent(img, &other, &e));
    OK(pl_close(img, &e));
    img = open_disk(c.base, "raw", true);
    FAILS(PL_E_UNSUPPORTED, "another backing file", pl_set_parent(img, &other, &e));
    OK(pl_close(img, &e));
    img = open_disk(c.child, "qcow2", true);
    OK(pl_set_parent(img, &other, &e));
    assert_string_equal(pl_parent_name(img), "other.raw");
    OK(pl_set_parent(img, &none, &e));
    assert_null(pl_parent_name(img));
    assert_null(pl_parent_format(img));
    OK(pl_close(img, &e));
    end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_that_is_stopped_anywhere_is_finished_later),
        cmocka_unit_test(a_rebase_that_is_stopped_anywhere_is_finished_later),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
        cmocka_unit_test(what_both_chains_have_alike_is_not_copied),
        cmocka_unit_test(a_file_that_grew_has_no_room_behind_its_end),
        cmocka_unit_test(zeros_over_no_parent_stay_zeros_over_one),
        cmocka_unit_test(an_image_forgets_whole_granules_alone),
        cmocka_unit_test(an_image_names_another_parent),
        cmocka_unit_test(a_folder_too_full_to_look_through_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
