/* test_tree.c - walks through folders: what is shown, in which order, and what is left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/storage/tree.h"
#include "tests/support/env.h"

static struct pl_err e;

/* What a walk showed, the root left away. */
struct seen {
    const char *root;
    char text[1000];  /* the paths, a blank behind each */
    char warned[500]; /* what was warned of last */
    unsigned stop_after, count;
    bool cancelled;
};

static int see(void *ctx, const char *path, struct pl_err *why)
{
    struct seen *seen = ctx;
    const size_t used = strlen(seen->text);

    (void)why;
    if (used + strlen(path) < sizeof seen->text)
        snprintf(seen->text + used, sizeof seen->text - used, "%s ", path + strlen(seen->root) + 1);
    return ++seen->count == seen->stop_after;
}

static void hear(void *ctx, const char *message)
{
    struct seen *seen = ctx;

    snprintf(seen->warned, sizeof seen->warned, "%s", message);
}

static bool is_cancelled(void *ctx)
{
    return ((struct seen *)ctx)->cancelled;
}

static int walk(struct seen *seen, const char *root, unsigned depth)
{
    const struct pl_report report = { .ctx = seen, .warn = hear, .cancelled = is_cancelled };
    const struct pl_tree_visit visit = { see, seen, &report };

    seen->root = root;
    return pl_tree_walk(root, depth, &visit, &e);
}

static void make_file(const char *root, const char *name)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof path, "%s/%s", root, name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert_true(fd >= 0);
    close(fd);
}

static void make_folder(const char *root, const char *name)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

/* a, b/c, b/d/e and b/d/f/g, and what is no file. */
static char *make_tree(const char *name)
{
    char *root = test_tmp(name), path[4096];

    assert_int_equal(mkdir(root, 0755), 0);
    make_folder(root, "b");
    make_folder(root, "b/d");
    make_folder(root, "b/d/f");
    make_file(root, "b/d/f/g");
    make_file(root, "b/d/e");
    make_file(root, "b/c");
    make_file(root, "a");
    make_file(root, ".hidden");
    snprintf(path, sizeof path, "%s/pipe", root);
    assert_int_equal(mkfifo(path, 0644), 0);
    snprintf(path, sizeof path, "%s/b/link", root);
    assert_int_equal(symlink(root, path), 0);
    snprintf(path, sizeof path, "%s/b/file-link", root);
    assert_int_equal(symlink("c", path), 0);
    return root;
}

static void near_files_come_first(void **state)
{
    char *root = make_tree("near");
    struct seen seen = { 0 };

    (void)state;
    assert_int_equal(walk(&seen, root, 8), 0);
    assert_string_equal(seen.text, "a b/c b/d/e b/d/f/g ");
    assert_string_equal(seen.warned, "");
    free(root);
}

static void it_goes_as_deep_as_is_said(void **state)
{
    char *root = make_tree("deep");
    struct seen seen = { 0 }, flat = { 0 };

    (void)state;
    assert_int_equal(walk(&seen, root, 2), 0);
    assert_string_equal(seen.text, "a b/c b/d/e ");
    assert_non_null(strstr(seen.warned, "2 levels"));
    assert_int_equal(walk(&flat, root, 0), 0); /* one folder is what was asked for */
    assert_string_equal(flat.text, "a ");
    assert_string_equal(flat.warned, "");
    free(root);
}

static void it_ends_when_enough_was_seen_or_it_is_told_to_stop(void **state)
{
    char *root = make_tree("enough");
    struct seen seen = { .stop_after = 2 }, stopped = { .cancelled = true };

    (void)state;
    assert_int_equal(walk(&seen, root, 8), 1);
    assert_string_equal(seen.text, "a b/c ");
    assert_int_equal(walk(&stopped, root, 8), -1);
    assert_int_equal(e.kind, PL_E_CANCELLED);
    assert_string_equal(stopped.text, "");
    free(root);
}

static void a_root_that_is_not_there_is_an_error(void **state)
{
    char *root = test_tmp("nothing");
    struct seen seen = { 0 };

    (void)state;
    assert_int_equal(walk(&seen, root, 8), -1);
    assert_int_equal(e.kind, PL_E_NOT_FOUND);
    free(root);
}

static void a_folder_that_cannot_be_read_is_passed_over(void **state)
{
    struct seen seen = { 0 };
    char *root, path[4096];

    (void)state;
    if (geteuid() == 0)
        TEST_SKIP("root may read every folder");
    root = make_tree("closed");
    snprintf(path, sizeof path, "%s/b/d", root);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(walk(&seen, root, 8), 0);
    assert_int_equal(chmod(path, 0755), 0);
    assert_string_equal(seen.text, "a b/c ");
    assert_non_null(strstr(seen.warned, "b/d"));
    free(root);
}

/* The second folder of many names is not looked at any more. */
static void there_is_a_bound(void **state)
{
    char *root = test_tmp("many"), name[32];
    struct seen seen = { 0 };

    (void)state;
    assert_int_equal(mkdir(root, 0755), 0);
    make_folder(root, "x");
    make_folder(root, "y");
    for (int i = 0; i < PL_TREE_NAMES_MAX - 2; i++) {
        snprintf(name, sizeof name, "x/%d", i);
        make_file(root, name);
    }
    make_file(root, "y/file");
    assert_int_equal(walk(&seen, root, 8), 0);
    assert_int_equal(seen.count, PL_TREE_NAMES_MAX - 2);
    assert_non_null(strstr(seen.warned, "not all were looked at"));
    make_file(root, "x/more");
    seen = (struct seen){ 0 };
    assert_int_equal(walk(&seen, root, 8), 0);
    assert_string_equal(seen.text, "y/file ");
    assert_non_null(strstr(seen.warned, "too many to look through"));
    free(root);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_files_come_first),
        cmocka_unit_test(it_goes_as_deep_as_is_said),
        cmocka_unit_test(it_ends_when_enough_was_seen_or_it_is_told_to_stop),
        cmocka_unit_test(a_root_that_is_not_there_is_an_error),
        cmocka_unit_test(a_folder_that_cannot_be_read_is_passed_over),
        cmocka_unit_test(there_is_a_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
