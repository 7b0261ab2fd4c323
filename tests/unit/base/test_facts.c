#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/facts.h"

static void members_keep_their_order_names_and_values(void **state)
{
    struct pl_fact *root = pl_facts_new();
    struct pl_fact *list, *f;

    (void)state;
    assert_int_equal(root->type, PL_FACT_OBJECT);
    assert_null(root->child);
    pl_facts_number(root, "size", UINT64_MAX);
    pl_facts_bool(root, "dirty", true);
    pl_facts_text(root, "creator", "some tool");
    list = pl_facts_list(root, "extents");
    pl_facts_number(list, NULL, 1);
    pl_facts_text(pl_facts_object(list, NULL), "file", "a.vmdk");

    f = root->child;
    assert_string_equal(f->name, "size");
    assert_int_equal(f->type, PL_FACT_NUMBER);
    assert_true(f->number == UINT64_MAX);
    f = f->next;
    assert_string_equal(f->name, "dirty");
    assert_int_equal(f->type, PL_FACT_BOOL);
    assert_int_equal(f->number, 1);
    f = f->next;
    assert_int_equal(f->type, PL_FACT_TEXT);
    assert_string_equal(f->text, "some tool");
    f = f->next;
    assert_ptr_equal(f, list);
    assert_null(f->next);
    f = list->child;
    assert_null(f->name);
    assert_int_equal(f->number, 1);
    f = f->next;
    assert_int_equal(f->type, PL_FACT_OBJECT);
    assert_string_equal(f->child->text, "a.vmdk");
    pl_facts_free(root);
}

static void what_could_not_be_made_takes_no_members(void **state)
{
    (void)state;
    assert_null(pl_facts_number(NULL, "a", 1));
    assert_null(pl_facts_bool(NULL, "a", true));
    assert_null(pl_facts_text(NULL, "a", "b"));
    assert_null(pl_facts_list(pl_facts_object(NULL, "a"), "b"));
    pl_facts_free(NULL);
}

static void long_lists_build_in_linear_time(void **state)
{
    struct pl_fact *root = pl_facts_new();
    struct pl_fact *list = pl_facts_list(root, "snapshots");
    uint64_t count = 0;

    (void)state;
    for (unsigned i = 0; i < 300000; i++)
        assert_non_null(pl_facts_number(list, NULL, i));
    for (const struct pl_fact *f = list->child; f; f = f->next)
        assert_int_equal(f->number, count++);
    assert_int_equal(count, 300000);
    pl_facts_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_keep_their_order_names_and_values),
        cmocka_unit_test(what_could_not_be_made_takes_no_members),
        cmocka_unit_test(long_lists_build_in_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
