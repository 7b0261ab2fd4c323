/* test_names.c - second names of files, marks and notes; new files in the place of a held one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "core/storage/names.h"
#include "core/storage/opener.h"
#include "core/storage/output.h"
#include "tests/support/calls.h"
#include "tests/support/env.h"

static struct pl_storage *make_file(const char *path, const char *text)
{
    static const struct pl_opener opener;
    FILE *file = fopen(path, "w");
    struct pl_storage *st;

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    OK(pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    return st;
}

static void holds(const char *path, const char *text)
{
    char found[100] = "";
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(found, text);
}

static void a_file_has_two_names(void **state)
{
    PL_FREE char *one = test_tmp("one"), *two = test_tmp("two"), *three = test_tmp("three");
    struct pl_storage *st = make_file(one, "content");
    struct pl_name_facts a, b;

    (void)state;
    OK(pl_name_add(st, two, &e));
    assert_true(pl_name_look(one, &a) && pl_name_look(two, &b));
    assert_true(a.regular && a.links == 2);
    assert_int_equal(a.id.inode, b.id.inode);
    FAILS(PL_E_EXISTS, "giving", pl_name_add(st, two, &e));
    OK(pl_name_remove(one, &e));
    assert_false(pl_name_look(one, &a));
    holds(two, "content");
    FAILS(PL_E_NOT_FOUND, "removing it", pl_name_remove(one, &e));
    OK(pl_storage_close(st, &e));
    st = make_file(one, "another");
    OK(pl_name_change(two, one, &e)); /* in its place */
    holds(one, "content");
    assert_false(pl_name_look(two, &a));
    FAILS(PL_E_NOT_FOUND, "", pl_name_change(two, three, &e));
    OK(pl_storage_close(st, &e));
    unlink(one);
}

static void a_link_is_looked_at_not_followed(void **state)
{
    PL_FREE char *link = test_tmp("link");
    struct pl_name_facts facts;

    (void)state;
    assert_int_equal(symlink("/etc/passwd", link), 0);
    assert_true(pl_name_look(link, &facts));
    assert_false(facts.regular);
    FAILS(PL_E_SYS, "", pl_name_mark(link, "text", &e));
    assert_null(pl_name_marked(link));
    unlink(link);
}

static void a_mark_is_a_whole_line_or_none(void **state)
{
    PL_FREE char *mark = test_tmp("mark");
    PL_FREE char *line = NULL;
    char text[PL_MARK_MAX + 1];
    FILE *file;

    (void)state;
    assert_null(pl_name_marked(mark));
    OK(pl_name_mark(mark, NULL, &e));
    assert_null(pl_name_marked(mark));
    OK(pl_name_mark(mark, "a rather long line", &e));
    OK(pl_name_mark(mark, "short", &e));
    line = pl_name_marked(mark);
    assert_string_equal(line, "short");
    memset(text, 'x', PL_MARK_MAX);
    text[PL_MARK_MAX] = '\0';
    FAILS(PL_E_LIMIT, "too long", pl_name_mark(mark, text, &e));
    file = fopen(mark, "w");
    fputs("no end", file);
    fclose(file);
    assert_null(pl_name_marked(mark));
    unlink(mark);
}

static void dates_and_notes_stay_with_the_file(void **state)
{
    PL_FREE char *path = test_tmp("file");
    struct pl_storage *st = make_file(path, "content");
    struct pl_name_facts facts;
    char note[20];

    (void)state;
    pl_name_set_date(path, 1234567890, 987654321);
    assert_true(pl_name_look(path, &facts));
    assert_int_equal(facts.date_sec, 1234567890);
    assert_int_equal(facts.date_nsec, 987654321);
    assert_false(pl_name_note(path, "key", note, sizeof note));
    if (pl_name_set_note(path, "key", "text")) { /* not every file system keeps them */
        assert_true(pl_name_note(path, "key", note, sizeof note));
        assert_string_equal(note, "text");
        assert_true(pl_name_set_note(path, "key", NULL));
        assert_false(pl_name_note(path, "key", note, sizeof note));
        assert_true(pl_name_set_note(path, "key", NULL));
    }
    OK(pl_storage_close(st, &e));
    unlink(path);
}

/* The older file is locked by who replaces it, and by nobody else. */
static void a_held_file_is_replaced(void **state)
{
    PL_FREE char *path = test_tmp("disk"), *kept = test_tmp("kept");
    struct pl_storage *st = make_file(path, "old");
    struct pl_output *output, *second;
    struct stat status;

    (void)state;
    assert_int_equal(chmod(path, 0640), 0);
    FAILS(PL_E_LOCKED, "in use", pl_output_begin(path, &second, &e));
    OK(pl_output_begin_over(st, &output, &e));
    OK(pl_storage_write(pl_output_storage(output), 0, "new", 3, &e));
    OK(pl_name_add(st, kept, &e));
    holds(path, "old");
    OK(pl_output_finish(output, &e));
    holds(path, "new");
    holds(kept, "old");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    FAILS(PL_E_INVALID, "another file", pl_output_begin_over(st, &output, &e));
    OK(pl_storage_close(st, &e));
    unlink(path);
    unlink(kept);
}

static void a_copy_is_as_private_as_its_original(void **state)
{
    PL_FREE char *path = test_tmp("disk"), *copy = test_tmp("copy");
    struct pl_storage *st = make_file(path, "old");
    struct pl_output *output;
    struct stat status;

    (void)state;
    assert_int_equal(chmod(path, 0600), 0);
    OK(pl_output_begin_like(copy, st, &output, &e));
    OK(pl_storage_write(pl_output_storage(output), 0, "copy", 4, &e));
    assert_int_equal(access(copy, F_OK), -1);
    OK(pl_output_finish(output, &e));
    holds(copy, "copy");
    assert_int_equal(stat(copy, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    FAILS(PL_E_EXISTS, "creating it", pl_output_begin_like(copy, st, &output, &e));
    OK(pl_storage_close(st, &e));
    unlink(path);
    unlink(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_two_names),
        cmocka_unit_test(a_link_is_looked_at_not_followed),
        cmocka_unit_test(a_mark_is_a_whole_line_or_none),
        cmocka_unit_test(dates_and_notes_stay_with_the_file),
        cmocka_unit_test(a_held_file_is_replaced),
        cmocka_unit_test(a_copy_is_as_private_as_its_original),
    };

    return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
