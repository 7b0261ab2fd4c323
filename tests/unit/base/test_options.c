#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/options.h"

static struct pl_options *parse(const char *text)
{
    struct pl_options *options = pl_options_new();
    struct pl_err e;

    assert_non_null(options);
    assert_int_equal(pl_options_add(options, text, &e), 0);
    return options;
}

static void lists_split_at_single_commas(void **state)
{
    static const struct {
        const char *list, *key, *value; /* value null: the key is absent */
    } row[] = {
        { "a=1", "a", "1" },          { "a=1,b=2", "b", "2" },    { "a=1,b=2,", "b", "2" },
        { "a=x,,y,b=2", "a", "x,y" }, { "a=x,,y,b=2", "b", "2" }, { "a=,,", "a", "," },
        { "a=,b=2", "a", "" },        { "a=b=c", "a", "b=c" },    { "a", "a", "on" },
        { "a,b=2", "a", "on" },       { "a=1,a=2", "a", "2" },    { "a=1", "b", NULL },
        { "ab=1", "a", NULL },        { "", "a", NULL },
    };
    struct pl_options *options;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        options = parse(row[i].list);
        if (row[i].value)
            assert_string_equal(pl_options_text(options, row[i].key), row[i].value);
        else
            assert_null(pl_options_text(options, row[i].key));
        pl_options_free(options);
    }
}

static void a_list_without_a_name_is_refused(void **state)
{
    static const char *const bad[] = { "=1", ",a=1", "a=1,=2", "a,,b", "," };
    struct pl_err e = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pl_options *options = pl_options_new();

        assert_int_equal(pl_options_add(options, bad[i], &e), -1);
        assert_int_equal(e.kind, PL_E_INVALID);
        pl_options_free(options);
    }
}

static void a_later_value_replaces_an_earlier_one(void **state)
{
    struct pl_options *options = parse("a=1,b=2");
    struct pl_err e;

    (void)state;
    assert_int_equal(pl_options_add(options, "a=3", &e), 0);
    assert_int_equal(pl_options_set(options, "b", "x=,y", &e), 0);
    assert_string_equal(pl_options_text(options, "a"), "3");
    assert_string_equal(pl_options_text(options, "b"), "x=,y");
    pl_options_free(options);
}

static void getters_read_their_type(void **state)
{
    static const char *const names[] = { "sparse", "flat", NULL };
    struct pl_options *options = parse("size=64k,n=7,yes=yes,no=off,true=true,f=flat,bare");
    struct pl_err e;
    uint64_t n = 0;
    bool on = false;
    unsigned choice = 9;

    (void)state;
    assert_int_equal(pl_options_size(options, "size", &n, &e), 0);
    assert_int_equal(n, 65536);
    assert_int_equal(pl_options_number(options, "n", 0, 7, &n, &e), 0);
    assert_int_equal(n, 7);
    assert_int_equal(pl_options_bool(options, "yes", &on, &e), 0);
    assert_true(on);
    assert_int_equal(pl_options_bool(options, "no", &on, &e), 0);
    assert_false(on);
    assert_int_equal(pl_options_bool(options, "true", &on, &e), 0);
    assert_true(on);
    assert_int_equal(pl_options_choice(options, "f", names, &choice, &e), 0);
    assert_int_equal(choice, 1);
    on = false;
    assert_int_equal(pl_options_bool(options, "bare", &on, &e), 0);
    assert_true(on);
    assert_int_equal(pl_options_check_all_known(options, "vmdk", &e), 0);
    pl_options_free(options);
}

static void absent_keys_leave_the_value_alone(void **state)
{
    static const char *const names[] = { "x", NULL };
    struct pl_options *options = pl_options_new();
    struct pl_err e;
    uint64_t n = 5;
    bool on = true;
    unsigned choice = 3;

    (void)state;
    for (int with = 0; with < 2; with++) {
        const struct pl_options *o = with ? options : NULL;

        assert_int_equal(pl_options_size(o, "a", &n, &e), 0);
        assert_int_equal(pl_options_number(o, "a", 0, 1, &n, &e), 0);
        assert_int_equal(pl_options_bool(o, "a", &on, &e), 0);
        assert_int_equal(pl_options_choice(o, "a", names, &choice, &e), 0);
        assert_int_equal(pl_options_check_all_known(o, "raw", &e), 0);
    }
    assert_int_equal(n, 5);
    assert_true(on);
    assert_int_equal(choice, 3);
    pl_options_free(options);
    pl_options_free(NULL);
}

static void a_bad_value_names_the_key_and_what_is_allowed(void **state)
{
    static const char *const names[] = { "sparse", "flat", NULL };
    struct pl_options *options = parse("a=perhaps,n=70");
    struct pl_err e;
    uint64_t n;
    bool on;
    unsigned choice;

    (void)state;
    assert_int_equal(pl_options_size(options, "a", &n, &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    assert_string_equal(e.msg, "option 'a': 'perhaps' is not a size");
    assert_int_equal(pl_options_number(options, "a", 1, 9, &n, &e), -1);
    assert_string_equal(e.msg, "option 'a': 'perhaps' is not a number from 1 to 9");
    assert_int_equal(pl_options_number(options, "n", 1, 9, &n, &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    assert_string_equal(e.msg, "option 'n': '70' is not a number from 1 to 9");
    assert_int_equal(pl_options_bool(options, "a", &on, &e), -1);
    assert_string_equal(e.msg, "option 'a': 'perhaps' is neither on nor off");
    assert_int_equal(pl_options_choice(options, "a", names, &choice, &e), -1);
    assert_string_equal(e.msg, "option 'a': 'perhaps' is not one of sparse, flat");
    pl_options_free(options);
}

static void what_nobody_asked_for_is_an_error(void **state)
{
    struct pl_options *options = parse("known=1,odd=2,other=3");
    struct pl_err e;

    (void)state;
    assert_non_null(pl_options_text(options, "known"));
    assert_int_equal(pl_options_check_all_known(options, "qcow2", &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    assert_string_equal(e.msg, "format qcow2 has no option 'odd'");
    pl_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_split_at_single_commas),
        cmocka_unit_test(a_list_without_a_name_is_refused),
        cmocka_unit_test(a_later_value_replaces_an_earlier_one),
        cmocka_unit_test(getters_read_their_type),
        cmocka_unit_test(absent_keys_leave_the_value_alone),
        cmocka_unit_test(a_bad_value_names_the_key_and_what_is_allowed),
        cmocka_unit_test(what_nobody_asked_for_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
