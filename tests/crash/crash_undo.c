/* A crash at any instant of a repair that keeps a journal, and of taking it back.
 *
 * After each cut - changes of the file and of the journal lost, torn or in another order - the
 * journal that is left, if any, brings the file back to what it was before the repair.  So it does
 * when the repair is begun again on what was left, and when taking it back crashes too.
 *
 * CRASH_SEED in the environment chooses another run. */
#include <errno.h>
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
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/rig.h"
#include "tests/support/undo_rig.h"

#define LIMIT (900 * PL_KIB)
#define JOURNAL_LIMIT (32 * PL_MIB)
#define STEPS 40u
#define CUTS 4u

struct run {
    struct undo_rig rig;
    uint8_t *before;
    size_t before_len;
    uint64_t random;
};

static uint8_t *some_bytes(size_t len, uint64_t *random)
{
    uint8_t *bytes = calloc(1, len + 1);

    for (size_t i = 0; i + 8 <= len; i += 8)
        if (i / 100000 % 3 != 1) { /* a third is zeros */
            const uint64_t n = rig_random(random);

            memcpy(bytes + i, &n, 8);
        }
    return bytes;
}

static void begin(struct run *r, uint64_t seed)
{
    struct pl_storage *file, *journal;

    *r = (struct run){ .random = seed };
    r->before_len = 300000 + rig_below(&r->random, 400000);
    r->before = some_bytes(r->before_len, &r->random);
    OK(pl_flaky_storage(r->before, r->before_len, LIMIT, &file, &e));
    OK(pl_flaky_storage(NULL, 0, JOURNAL_LIMIT, &journal, &e));
    pl_flaky_pair(file, journal);
    undo_rig_init(&r->rig, file, NULL, journal);
}

static void end(struct run *r)
{
    undo_rig_end(&r->rig);
    free(r->before);
}

/* Random changes until one fails, which must have been asked for. */
static bool work(struct undo_rig *rig, unsigned steps, uint64_t *random, bool may_fail)
{
    struct pl_err e;

    for (unsigned i = 0; i < steps; i++)
        if (undo_rig_change(rig->view, LIMIT, random, &e) < 0) {
            if (!may_fail)
                fail_msg("%s", e.msg);
            return false;
        }
    return true;
}

static void repair(struct run *r)
{
    struct pl_undo_outcome outcome;

    undo_rig_begin(&r->rig);
    work(&r->rig, STEPS, &r->random, false);
    OK(undo_rig_finish(&r->rig, &outcome, &e));
    assert_true(outcome.kept);
}

static struct pl_storage *left_of(struct pl_storage *flaky, size_t limit, uint64_t op,
                                  uint64_t seed)
{
    PL_FREE uint8_t *bytes = NULL;
    struct pl_storage *left;
    size_t len;

    pl_flaky_cut(flaky, op, seed, &bytes, &len);
    OK(pl_flaky_storage(bytes, len, limit, &left, &e));
    return left;
}

static void left_rig(struct undo_rig *rig, struct undo_rig *from, uint64_t op, uint64_t seed)
{
    struct pl_storage *file = left_of(from->file, LIMIT, op, seed);
    struct pl_storage *journal = left_of(from->journal, JOURNAL_LIMIT, op, seed * 3);

    pl_flaky_pair(file, journal);
    undo_rig_init(rig, file, NULL, journal);
    rig->exists = true;
}

static void is_as_before(const struct run *r, struct undo_rig *rig, uint64_t op, uint64_t seed)
{
    size_t len;
    PL_FREE uint8_t *bytes = undo_rig_bytes(rig->file, &len);

    if (len == r->before_len && memcmp(bytes, r->before, len) == 0)
        return;
    for (size_t i = 0; i < PL_MIN(len, r->before_len); i++)
        if (bytes[i] != r->before[i])
            fail_msg("crash after operation %llu (seed %llu): byte 0x%zx differs",
                     (unsigned long long)op, (unsigned long long)seed, i);
    fail_msg("crash after operation %llu (seed %llu): %zu bytes, not %zu", (unsigned long long)op,
             (unsigned long long)seed, len, r->before_len);
}

static void take_back(const struct run *r, struct undo_rig *rig, uint64_t op, uint64_t seed)
{
    struct pl_undo_facts facts;
    struct pl_err e;

    if (undo_rig_back(rig, false, &facts, &e) < 0)
        fail_msg("crash after operation %llu (seed %llu): %s", (unsigned long long)op,
                 (unsigned long long)seed, e.msg);
    is_as_before(r, rig, op, seed);
}

/* Taking back crashes as well: at each instant of it what is left can be taken back. */
static void crash_on_the_way_back(const struct run *r, struct undo_rig *rig, uint64_t op,
                                  uint64_t seed)
{
    uint64_t count;

    take_back(r, rig, op, seed);
    count = pl_flaky_operation_count(rig->file);
    for (uint64_t n = 0; n <= count; n++) {
        struct undo_rig left;

        left_rig(&left, rig, n, seed + n % 5);
        take_back(r, &left, n, seed + n % 5);
        undo_rig_end(&left);
    }
}

/* Another repair goes on with the journal of the one that was interrupted. */
static void repair_again(const struct run *r, struct undo_rig *rig, uint64_t op, uint64_t seed)
{
    uint64_t random = op * 31 + seed;
    struct pl_undo_outcome outcome;

    undo_rig_begin(rig);
    work(rig, 10, &random, false);
    OK(undo_rig_finish(rig, &outcome, &e));
    if (rig->exists)
        take_back(r, rig, op, seed);
    else
        is_as_before(r, rig, op, seed);
}

static void every_cut_of_a_repair_can_be_taken_back(void **state)
{
    const uint64_t first = test_number("CRASH_SEED", 1);

    (void)state;
    for (uint64_t seed = first; seed < first + 6; seed++) {
        struct run r;
        uint64_t count;

        begin(&r, seed);
        repair(&r);
        count = pl_flaky_operation_count(r.rig.file);
        for (uint64_t op = 0; op <= count; op++)
            for (uint64_t i = 0; i < CUTS; i++) {
                struct undo_rig left;

                left_rig(&left, &r.rig, op, i < 2 ? i : op * CUTS + i);
                take_back(&r, &left, op, i);
                undo_rig_end(&left);
            }
        end(&r);
    }
}

/* The journal of a repair that is over is replaced, not gone on with: before that there is one that
 * was interrupted at every instant but the last. */
static void a_repair_goes_on_after_a_crash(void **state)
{
    const uint64_t first = test_number("CRASH_SEED", 1);

    (void)state;
    for (uint64_t seed = first; seed < first + 4; seed++) {
        struct run r;
        uint64_t count;

        begin(&r, seed);
        repair(&r);
        count = pl_flaky_operation_count(r.rig.file);
        for (uint64_t op = 0; op + 1 < count; op++) {
            struct undo_rig left;

            left_rig(&left, &r.rig, op, op % 5);
            repair_again(&r, &left, op, op % 5);
            undo_rig_end(&left);
        }
        end(&r);
    }
}

static void every_cut_of_taking_back_can_be_taken_back(void **state)
{
    const uint64_t first = test_number("CRASH_SEED", 1);

    (void)state;
    for (uint64_t seed = first; seed < first + 3; seed++) {
        struct run r;
        uint64_t count;

        begin(&r, seed);
        repair(&r);
        count = pl_flaky_operation_count(r.rig.file);
        for (uint64_t op = 0; op <= count; op += op + 4 < count ? 4 : 1) {
            struct undo_rig left;

            left_rig(&left, &r.rig, op, op % 5);
            crash_on_the_way_back(&r, &left, op, op % 5);
            undo_rig_end(&left);
        }
        end(&r);
    }
}

/* Whatever change fails, nothing reaches the file whose old bytes are not safe. */
static void a_repair_that_fails_can_be_taken_back(void **state)
{
    const uint64_t seed = test_number("CRASH_SEED", 1);
    bool failed = true;

    (void)state;
    for (uint64_t at = 0; failed; at++) {
        struct run r;

        begin(&r, seed);
        pl_flaky_fail_at(r.rig.file, at, at % 2 ? EIO : ENOSPC, at % 3 == 0);
        pl_flaky_fail_at(r.rig.journal, at, at % 2 ? EIO : ENOSPC, at % 3 == 0);
        undo_rig_begin(&r.rig);
        failed = !work(&r.rig, STEPS, &r.random, true);
        if (undo_rig_finish(&r.rig, NULL, NULL) < 0)
            failed = true;
        pl_flaky_fail_at(r.rig.file, UINT64_MAX, EIO, false);
        pl_flaky_fail_at(r.rig.journal, UINT64_MAX, EIO, false);
        if (r.rig.exists)
            take_back(&r, &r.rig, at, 0);
        else
            is_as_before(&r, &r.rig, at, 0);
        end(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_of_a_repair_can_be_taken_back),
        cmocka_unit_test(a_repair_goes_on_after_a_crash),
        cmocka_unit_test(every_cut_of_taking_back_can_be_taken_back),
        cmocka_unit_test(a_repair_that_fails_can_be_taken_back),
    };

    return cmocka_run_group_tests_name("crash: undo", tests, NULL, NULL);
}
