/* test_state_name.c - what states may be called, and which file is which disk's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/engine/state_name.h"
#include "tests/support/calls.h"

static const char *const good[] = {
    "a",
    "before-update",
    "2026-11-27_07-40-30",
    "v1.2+rc=3@home,~",
    "vor dem Update",
    "\xc3\xbc"
    "ber",
    "_x",
    "~x",
    "x-",
};

static const char *const bad[] = {
    "",        "a/b",      "/",    "..",           ".",
    ".hidden", "ends.",    " a",   "a ",           "-a",
    "a\nb",    "a\x1b[2J", "a\\b", "a:b",          "a*b",
    "a\"b",    "a'b",      "a|b",  "x.snapshot-y", "x.deleting",
};

static void good_names_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(good); i++)
        OK(pl_state_check_name(good[i], &e));
}

static void bad_names_are_refused(void **state)
{
    char name[PL_STATE_NAME_MAX + 2];

    (void)state;
    for (size_t i = 0; i < PL_COUNT(bad); i++)
        FAILS(PL_E_INVALID, "cannot be the name of a snapshot", pl_state_check_name(bad[i], &e));
    memset(name, 'n', sizeof name);
    name[PL_STATE_NAME_MAX] = '\0';
    OK(pl_state_check_name(name, &e));
    name[PL_STATE_NAME_MAX] = 'n';
    name[PL_STATE_NAME_MAX + 1] = '\0';
    FAILS(PL_E_INVALID, "longer than", pl_state_check_name(name, &e));
}

static const struct file {
    const char *disk, *name, *path, *file;
} files[] = {
    { "web.qcow2", "a", "web.snapshot-a.qcow2", "web.snapshot-a.qcow2" },
    { "/vm/web.qcow2", "a.b", "/vm/web.snapshot-a.b.qcow2", "web.snapshot-a.b.qcow2" },
    { "./disk", "a", "./disk.snapshot-a", "disk.snapshot-a" },
    { "a.b/disk", "x", "a.b/disk.snapshot-x", "disk.snapshot-x" },
    { "web.1.vmdk", "x", "web.1.snapshot-x.vmdk", "web.1.snapshot-x.vmdk" },
};

static void a_file_says_whose_state_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(files); i++) {
        char *path = pl_state_path(files[i].disk, files[i].name);
        char *name = pl_state_name_of(files[i].disk, files[i].file);
        const bool bare =
            !strchr(strrchr(files[i].disk, '/') ? strrchr(files[i].disk, '/') : files[i].disk, '.');
        char *disk, *again;

        assert_string_equal(path, files[i].path);
        assert_string_equal(name, files[i].name);
        assert_true(pl_state_disk_of(path, bare, &disk, &again));
        assert_string_equal(disk, files[i].disk);
        assert_string_equal(again, files[i].name);
        free(disk);
        free(again);
        free(path);
        free(name);
    }
}

static void other_files_are_nobodys_states(void **state)
{
    static const char *const others[] = {
        "web.qcow2",
        "web.snapshot-.qcow2",
        "web.snapshot-a.vmdk",
        "other.snapshot-a.qcow2",
        "web.snapshot-a.qcow2.deleting",
        "web.snapshot-a.snapshot-b.qcow2",
        "web.snapshot-a",
        "webX.snapshot-a.qcow2",
        "web.snapshot-..qcow2",
    };
    char *disk, *name;

    (void)state;
    for (size_t i = 0; i < PL_COUNT(others); i++)
        assert_null(pl_state_name_of("web.qcow2", others[i]));
    assert_null(pl_state_name_of("disk", "disk.snapshot-a.deleting"));
    assert_false(pl_state_disk_of("web.qcow2", false, &disk, &name));
    assert_false(pl_state_disk_of(".snapshot-a.qcow2", false, &disk, &name));
}

static void the_date_is_a_good_name(void **state)
{
    char name[32];

    (void)state;
    for (uint64_t sec = 0; sec < (UINT64_C(1) << 62); sec = sec * 3 + 1) {
        pl_state_name_by_date(sec, name);
        OK(pl_state_check_name(name, &e));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_names_pass),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(a_file_says_whose_state_it_is),
        cmocka_unit_test(other_files_are_nobodys_states),
        cmocka_unit_test(the_date_is_a_good_name),
    };

    return cmocka_run_group_tests_name("state names", tests, NULL, NULL);
}
