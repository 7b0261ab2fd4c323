#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/err.h"

static void a_failure_says_kind_and_message_and_clears_the_hint(void **state)
{
    struct pl_err e = { .kind = PL_E_SYS, .sys = 5, .hint = "old" };

    (void)state;
    assert_int_equal(pl_fail(&e, PL_E_CORRUPT, "entry %d is %#x", 3, 0x1ff), -1);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    assert_int_equal(e.sys, 0);
    assert_string_equal(e.msg, "entry 3 is 0x1ff");
    assert_string_equal(e.hint, "");
}

static void nobody_need_listen(void **state)
{
    (void)state;
    assert_int_equal(pl_fail(NULL, PL_E_CORRUPT, "x"), -1);
    assert_int_equal(pl_fail_sys(NULL, EIO, "x"), -1);
    assert_int_equal(pl_within(NULL, "x"), -1);
    assert_int_equal(pl_hint(NULL, "x"), -1);
}

static void layers_put_their_place_in_front(void **state)
{
    struct pl_err e;

    (void)state;
    pl_fail(&e, PL_E_LIMIT, "too big");
    pl_hint(&e, "try %s", "less");
    assert_int_equal(pl_within(&e, "entry %d", 7), -1);
    assert_int_equal(pl_within(&e, "disk.vhd"), -1);
    assert_int_equal(e.kind, PL_E_LIMIT);
    assert_string_equal(e.msg, "disk.vhd: entry 7: too big");
    assert_string_equal(e.hint, "try less");
}

static void a_place_is_said_once(void **state)
{
    struct pl_err e;

    (void)state;
    pl_fail(&e, PL_E_SYS, "disk.vhd: reading");
    pl_within(&e, "%s", "disk.vhd");
    assert_string_equal(e.msg, "disk.vhd: reading");
    pl_within(&e, "disk");
    assert_string_equal(e.msg, "disk: disk.vhd: reading");
}

static void a_message_may_quote_itself(void **state)
{
    struct pl_err e;

    (void)state;
    pl_fail(&e, PL_E_LIMIT, "inner");
    pl_fail(&e, PL_E_CORRUPT, "[%s]", e.msg);
    assert_string_equal(e.msg, "[inner]");
    pl_hint(&e, "a");
    pl_hint(&e, "%sb", e.hint);
    assert_string_equal(e.hint, "ab");
}

static void long_text_is_cut_at_the_end(void **state)
{
    struct pl_err e;
    char text[1000];

    (void)state;
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    pl_fail(&e, PL_E_INVALID, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    pl_within(&e, "there");
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_memory_equal(e.msg, "there: aaaa", 11);
    pl_within(&e, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    pl_hint(&e, "%s", text);
    assert_int_equal(strlen(e.hint), sizeof e.hint - 1);
    pl_fail_sys(&e, EIO, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_int_equal(e.sys, EIO);
}

static void system_errors_get_a_kind_and_their_text(void **state)
{
    static const struct {
        int sys;
        enum pl_kind kind;
    } row[] = {
        { ENOSPC, PL_E_NO_SPACE },  { EDQUOT, PL_E_NO_SPACE }, { EFBIG, PL_E_NO_SPACE },
        { ENOENT, PL_E_NOT_FOUND }, { EEXIST, PL_E_EXISTS },   { ENOMEM, PL_E_NOMEM },
        { EIO, PL_E_SYS },          { EACCES, PL_E_SYS },
    };
    struct pl_err e;

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(row); i++) {
        assert_int_equal(pl_fail_sys(&e, row[i].sys, "write at %d", 512), -1);
        assert_int_equal(e.kind, row[i].kind);
        assert_int_equal(e.sys, row[i].sys);
        assert_memory_equal(e.msg, "write at 512: ", 14);
        assert_string_equal(e.msg + 14, strerror(row[i].sys));
        assert_int_equal(e.hint[0] != '\0', row[i].kind == PL_E_NO_SPACE);
    }
}

static void every_kind_has_its_own_name(void **state)
{
    (void)state;
    for (unsigned a = 0; a <= PL_E_MISMATCH; a++) {
        assert_string_not_equal(pl_kind_name(a), "unknown");
        for (unsigned b = 0; b < a; b++)
            assert_string_not_equal(pl_kind_name(a), pl_kind_name(b));
    }
    assert_string_equal(pl_kind_name(PL_E_NOT_FOUND), "not-found");
    assert_string_equal(pl_kind_name(PL_E_MISMATCH + 1), "unknown");
    assert_string_equal(pl_kind_name((enum pl_kind) - 1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_says_kind_and_message_and_clears_the_hint),
        cmocka_unit_test(nobody_need_listen),
        cmocka_unit_test(layers_put_their_place_in_front),
        cmocka_unit_test(a_place_is_said_once),
        cmocka_unit_test(a_message_may_quote_itself),
        cmocka_unit_test(long_text_is_cut_at_the_end),
        cmocka_unit_test(system_errors_get_a_kind_and_their_text),
        cmocka_unit_test(every_kind_has_its_own_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
