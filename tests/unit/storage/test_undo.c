#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"
#include "tests/support/rig.h"
#include "tests/support/undo_rig.h"

#define LIMIT (4 * PL_MIB)
#define SIZE 700001u

struct files {
    struct undo_rig rig;
    uint8_t *before, *data_before;
};

static uint8_t *noise(size_t len, uint64_t seed)
{
    uint8_t *bytes = malloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(rig_random(&seed) >> 13);
    return bytes;
}

static int setup(void **state)
{
    struct files *f = calloc(1, sizeof *f);
    struct pl_storage *file, *data, *journal;

    f->before = noise(SIZE, 1);
    f->data_before = noise(SIZE, 2);
    OK(pl_memory_storage(f->before, SIZE, LIMIT, &file, &e));
    OK(pl_memory_storage(f->data_before, SIZE, LIMIT, &data, &e));
    OK(pl_memory_storage(NULL, 0, 8 * LIMIT, &journal, &e));
    undo_rig_init(&f->rig, file, data, journal);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct files *f = *state;

    undo_rig_end(&f->rig);
    free(f->before);
    free(f->data_before);
    free(f);
    return 0;
}

static bool has_bytes(struct pl_storage *st, const uint8_t *wanted)
{
    size_t len;
    PL_FREE uint8_t *bytes = undo_rig_bytes(st, &len);

    return len == SIZE && memcmp(bytes, wanted, len) == 0;
}

static bool is_as_before(const struct files *f)
{
    return has_bytes(f->rig.file, f->before) && has_bytes(f->rig.data, f->data_before);
}

/* A repair of both files: writes, zeros, another size. */
static void repair(struct files *f)
{
    struct pl_undo_outcome outcome;

    undo_rig_begin(&f->rig);
    OK(pl_storage_write(f->rig.view, 100, "repaired", 8, &e));
    OK(pl_storage_zero(f->rig.view, 5000, 300000, &e));
    OK(pl_storage_write(f->rig.data_view, SIZE - 4, "long tail", 9, &e));
    OK(pl_storage_resize(f->rig.view, SIZE / 2, &e));
    OK(undo_rig_finish(&f->rig, &outcome, &e));
    assert_true(outcome.kept);
}

static void what_a_repair_changed_is_put_back(void **state)
{
    struct files *f = *state;
    struct pl_undo_facts facts;

    repair(f);
    assert_false(is_as_before(f));
    OK(undo_rig_back(&f->rig, false, &facts, &e));
    assert_true(is_as_before(f));
    assert_int_equal(facts.files, 2);
    assert_false(facts.interrupted);
    assert_false(f->rig.exists);
}

static void what_waits_is_seen_by_readers(void **state)
{
    struct files *f = *state;
    char text[9] = { 0 };

    undo_rig_begin(&f->rig);
    OK(pl_storage_write(f->rig.view, 65532, "repaired", 8, &e));
    OK(pl_storage_read(f->rig.view, 65532, text, 8, &e));
    assert_string_equal(text, "repaired");
    OK(pl_storage_write(f->rig.view, SIZE + 10, "end", 3, &e));
    assert_int_equal(pl_storage_size(f->rig.view), SIZE + 13);
    OK(pl_storage_read(f->rig.view, SIZE, text, 8, &e));
    assert_memory_equal(text, "\0\0\0\0\0\0\0\0", 8);
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(f->rig.view, SIZE + 10, text, 4, &e));
    assert_int_equal(pl_storage_size(f->rig.file), SIZE); /* nothing but waits */
    OK(pl_storage_flush(f->rig.view, &e));
    assert_int_equal(pl_storage_size(f->rig.file), SIZE + 13);
    OK(undo_rig_finish(&f->rig, NULL, &e));
}

static void a_repair_without_changes_leaves_no_journal(void **state)
{
    struct files *f = *state;
    struct pl_undo_outcome outcome;

    undo_rig_begin(&f->rig);
    OK(pl_storage_flush(f->rig.view, &e));
    OK(undo_rig_finish(&f->rig, &outcome, &e));
    assert_false(outcome.kept);
    assert_false(f->rig.exists);
    assert_int_equal(pl_storage_size(f->rig.journal), 0);
}

static void changes_that_were_taken_back_leave_no_journal(void **state)
{
    struct files *f = *state;
    struct pl_undo_outcome outcome;

    undo_rig_begin(&f->rig);
    OK(pl_storage_write(f->rig.view, 7, "dirty", 5, &e));
    OK(pl_storage_flush(f->rig.view, &e));
    OK(pl_storage_write(f->rig.view, 7, f->before + 7, 5, &e));
    OK(undo_rig_finish(&f->rig, &outcome, &e));
    assert_false(outcome.kept);
    assert_false(f->rig.exists);
    assert_true(is_as_before(f));
}

static void discards_change_nothing(void **state)
{
    struct files *f = *state;

    undo_rig_begin(&f->rig);
    OK(pl_storage_discard(f->rig.view, 0, SIZE, &e));
    OK(undo_rig_finish(&f->rig, NULL, &e));
    assert_true(is_as_before(f));
}

static void a_later_write_is_not_taken_back(void **state)
{
    struct files *f = *state;
    struct pl_undo_facts facts;

    repair(f);
    OK(pl_storage_write(f->rig.file, 60000, "guest", 5, &e));
    FAILS(PL_E_MISMATCH, "are not what the repair left", undo_rig_back(&f->rig, true, &facts, &e));
    assert_false(is_as_before(f));
    assert_true(f->rig.exists);
}

static void a_later_size_is_not_taken_back(void **state)
{
    struct files *f = *state;
    struct pl_undo_facts facts;

    repair(f);
    OK(pl_storage_resize(f->rig.data, 2 * SIZE, &e));
    FAILS(PL_E_MISMATCH, "was written to after the repair",
          undo_rig_back(&f->rig, true, &facts, &e));
    assert_int_equal(pl_storage_size(f->rig.data), 2 * SIZE);
}

static void a_new_repair_replaces_an_old_journal_and_says_so(void **state)
{
    struct files *f = *state;
    struct pl_undo_outcome outcome;
    struct pl_undo_facts facts;

    repair(f);
    free(f->before);
    f->before = malloc(SIZE);
    OK(pl_storage_resize(f->rig.file, SIZE, &e));
    OK(pl_storage_read(f->rig.file, 0, f->before, SIZE, &e));
    OK(pl_storage_resize(f->rig.data, SIZE, &e));
    OK(pl_storage_read(f->rig.data, 0, f->data_before, SIZE, &e));
    undo_rig_begin(&f->rig);
    OK(pl_storage_write(f->rig.view, 70000, "again", 5, &e));
    OK(undo_rig_finish(&f->rig, &outcome, &e));
    assert_true(outcome.replaced);
    assert_true(f->rig.warned);
    OK(undo_rig_back(&f->rig, false, &facts, &e));
    assert_true(is_as_before(f));
    assert_int_equal(facts.ranges, 1);
}

static void a_file_that_is_no_journal_is_left_alone(void **state)
{
    struct files *f = *state;
    struct pl_undo_facts facts;

    OK(pl_storage_write(f->rig.journal, 0, "my notes", 8, &e));
    f->rig.exists = true;
    undo_rig_begin(&f->rig);
    FAILS(PL_E_EXISTS, "is no undo journal", pl_storage_write(f->rig.view, 0, "x", 1, &e));
    FAILS(PL_E_SYS, "stopped by an earlier error", pl_storage_flush(f->rig.view, &e));
    OK(undo_rig_finish(&f->rig, NULL, &e));
    assert_true(is_as_before(f));
    assert_int_equal(pl_storage_size(f->rig.journal), 8);
    FAILS(PL_E_FORMAT, "is no undo journal", undo_rig_back(&f->rig, false, &facts, &e));
}

/* More than may wait, many times over: memory is bounded, the rest goes through. */
static void many_small_changes_share_few_syncs(void **state)
{
    struct files *f = *state;
    struct pl_undo_facts facts;

    undo_rig_begin(&f->rig);
    for (unsigned i = 0; i < 4000; i++)
        OK(pl_storage_write(f->rig.view, (i * 7919u) % SIZE, "!", 1, &e));
    OK(undo_rig_finish(&f->rig, NULL, &e));
    OK(undo_rig_back(&f->rig, false, &facts, &e));
    assert_true(is_as_before(f));
    assert_int_equal(facts.ranges, pl_div_up(SIZE, 65536));
}

/* A bit of a journal that is whole is changed: it is refused, or the bit does not matter. */
static void a_damaged_journal_puts_nothing_wrong_back(void **state)
{
    struct files *f = *state;
    size_t len, after_len, data_len;
    uint64_t random = 9;
    unsigned refused = 0;

    repair(f);
    PL_FREE uint8_t *journal = undo_rig_bytes(f->rig.journal, &len);
    PL_FREE uint8_t *after = undo_rig_bytes(f->rig.file, &after_len);
    PL_FREE uint8_t *data = undo_rig_bytes(f->rig.data, &data_len);
    for (unsigned i = 0; i < 400; i++) {
        const uint64_t at = i < 64 ? i : i < 128 ? 4096 + i : rig_below(&random, len);
        const uint8_t changed = journal[at] ^ (uint8_t)(1u << (i % 8));
        struct pl_undo_facts facts;

        OK(pl_storage_write(f->rig.journal, at, &changed, 1, &e));
        if (undo_rig_back(&f->rig, false, &facts, NULL) == 0) {
            assert_true(is_as_before(f));
        } else {
            size_t now_len;
            PL_FREE uint8_t *now = undo_rig_bytes(f->rig.file, &now_len);

            refused++;
            assert_int_equal(now_len, after_len);
            assert_memory_equal(now, after, after_len);
        }
        OK(pl_storage_resize(f->rig.journal, 0, &e));
        OK(pl_storage_resize(f->rig.file, after_len, &e));
        OK(pl_storage_resize(f->rig.data, data_len, &e));
        OK(pl_storage_write(f->rig.file, 0, after, after_len, &e));
        OK(pl_storage_write(f->rig.data, 0, data, data_len, &e));
        OK(pl_storage_write(f->rig.journal, 0, journal, len, &e));
        f->rig.exists = true;
    }
    assert_true(refused > 300);
}

/* The journal gets no more room: what has no old bytes in it stays as it is. */
static void a_full_disk_stops_the_repair(void **state)
{
    struct files *f = *state;
    struct pl_storage *file, *data, *journal;
    struct pl_undo_facts facts;
    struct pl_err full = { 0 };
    int result;

    undo_rig_end(&f->rig);
    OK(pl_memory_storage(f->before, SIZE, LIMIT, &file, &e));
    OK(pl_memory_storage(f->data_before, SIZE, LIMIT, &data, &e));
    OK(pl_memory_storage(NULL, 0, 200000, &journal, &e));
    undo_rig_init(&f->rig, file, data, journal);
    undo_rig_begin(&f->rig);
    OK(pl_storage_write(f->rig.view, 0, "first", 5, &e));
    OK(pl_storage_flush(f->rig.view, &e));
    for (uint64_t at = 65536; at < SIZE; at += 65536)
        OK(pl_storage_write(f->rig.view, at, "more", 4, &e));
    result = pl_storage_flush(f->rig.view, &full);
    assert_int_equal(result, -1);
    assert_int_equal(full.kind, PL_E_NO_SPACE);
    assert_non_null(strstr(full.hint, "--no-undo"));
    (void)!undo_rig_finish(&f->rig, NULL, NULL);
    for (uint64_t at = 65536; at < SIZE; at += 65536) {
        uint8_t now[4];

        OK(pl_storage_read(f->rig.file, at, now, 4, &e));
        assert_memory_equal(now, f->before + at, 4);
    }
    OK(undo_rig_back(&f->rig, false, &facts, &e));
    assert_true(facts.interrupted);
    assert_true(is_as_before(f));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_repair_changed_is_put_back),
        TEST(what_waits_is_seen_by_readers),
        TEST(a_repair_without_changes_leaves_no_journal),
        TEST(changes_that_were_taken_back_leave_no_journal),
        TEST(discards_change_nothing),
        TEST(a_later_write_is_not_taken_back),
        TEST(a_later_size_is_not_taken_back),
        TEST(a_new_repair_replaces_an_old_journal_and_says_so),
        TEST(a_file_that_is_no_journal_is_left_alone),
        TEST(many_small_changes_share_few_syncs),
        TEST(a_damaged_journal_puts_nothing_wrong_back),
        TEST(a_full_disk_stops_the_repair),
    };

    return cmocka_run_group_tests_name("undo", tests, NULL, NULL);
}
