#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/report.h"

struct heard {
    char warning[1000];
    uint64_t done, total;
    bool stop;
};

static void hear_warning(void *ctx, const char *message)
{
    struct heard *h = ctx;

    snprintf(h->warning, sizeof h->warning, "%s", message);
}

static void hear_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct heard *h = ctx;

    h->done = done;
    h->total = total;
}

static bool asked_to_stop(void *ctx)
{
    return ((struct heard *)ctx)->stop;
}

static void work_without_listeners_goes_on(void **state)
{
    const struct pl_report deaf = { 0 };

    (void)state;
    pl_warn(NULL, "x");
    pl_warn(&deaf, "x");
    pl_progress(NULL, 1, 2);
    pl_progress(&deaf, 1, 2);
    assert_int_equal(pl_check_cancelled(NULL, NULL), 0);
    assert_int_equal(pl_check_cancelled(&deaf, NULL), 0);
}

static void listeners_get_what_was_said(void **state)
{
    struct heard h = { .done = 0 };
    const struct pl_report report = { &h, hear_warning, hear_progress, asked_to_stop };
    struct pl_err e = { .kind = PL_OK };
    char text[800];

    (void)state;
    pl_warn(&report, "size rounded up to %d", 512);
    assert_string_equal(h.warning, "size rounded up to 512");
    memset(text, 'w', sizeof text);
    text[sizeof text - 1] = '\0';
    pl_warn(&report, "%s", text);
    assert_in_range(strlen(h.warning), 500, 799);
    pl_progress(&report, 3, 9);
    assert_int_equal(h.done, 3);
    assert_int_equal(h.total, 9);
    assert_int_equal(pl_check_cancelled(&report, &e), 0);
    assert_int_equal(e.kind, PL_OK);
    h.stop = true;
    assert_int_equal(pl_check_cancelled(&report, &e), -1);
    assert_int_equal(e.kind, PL_E_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_without_listeners_goes_on),
        cmocka_unit_test(listeners_get_what_was_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
