/* Each change of the file fails once, or from then on: the image that is left opens, is sound, and
 * holds what the last flush promised or something newer. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "tests/support/flaky.h"
#include "tests/unit/formats/vhdx/edit.h"

#define BLOCKS 4u
#define SIZE (BLOCKS * PL_MIB)
#define OPERATIONS_MAX 200u

/* The number that each block was last told to hold, and the one that a flush made safe. */
struct told {
    uint8_t last[BLOCKS], safe[BLOCKS];
    bool failed;
};

static bool write_block(struct rig *rig, struct told *t, unsigned block, uint8_t value)
{
    uint8_t bytes[4096];

    memset(bytes, value, sizeof bytes);
    t->last[block] = value;
    if (rig_write(rig, block * PL_MIB + 8192, bytes, sizeof bytes, NULL) < 0)
        t->failed = true;
    return !t->failed;
}

static void flush(struct rig *rig, struct told *t)
{
    if (pl_vhdx.flush(rig->layer.state, NULL) < 0)
        t->failed = true;
    else if (!t->failed)
        memcpy(t->safe, t->last, sizeof t->safe);
}

/* Grows and shrinks, writes, moves blocks; goes on after a failure as an application would. */
static void work(struct rig *rig, struct told *t)
{
    uint64_t freed;

    for (uint8_t i = 0; i < 6; i++) {
        write_block(rig, t, i % BLOCKS, (uint8_t)(10 + i));
        if (i % 2)
            flush(rig, t);
    }
    if (rig_resize(rig, 2 * SIZE, PL_PREALLOC_OFF, NULL) < 0 ||
        pl_vhdx.discard(rig->layer.state, SIZE, SIZE, NULL) < 0 ||
        pl_vhdx.compact(rig->layer.state, NULL, &freed, NULL) < 0)
        t->failed = true;
    write_block(rig, t, 1, 30);
    flush(rig, t);
    if (pl_vhdx.seal(rig->layer.state, NULL) < 0)
        t->failed = true;
}

/* Opens what is left, for reading or writing. */
static void look(struct pl_storage *st, const struct told *t, const char *options, bool writable)
{
    struct rig rig = { .driver = &pl_vhdx, .st = st, .read_only = !writable };
    const uint8_t parent[512] = { 0 };
    struct pl_check_result result;

    if (strstr(options, "2M"))
        rig.parent = parent;
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint8_t byte;

        OK(rig_read(&rig, i * PL_MIB + 8192, &byte, 1, &e));
        assert_in_range(byte, t->safe[i], t->last[i]);
    }
    rig_close(&rig);
}

static bool run(const char *options, uint64_t n, bool for_ever)
{
    const uint8_t parent[512] = { 0 };
    struct told t = { .failed = false };
    struct rig rig = new_rig(options, SIZE, strstr(options, "2M") ? parent : NULL, 0);
    const size_t len = pl_storage_size(rig.st);
    PL_FREE uint8_t *bytes = malloc(len);

    OK(pl_storage_read(rig.st, 0, bytes, len, &e));
    pl_storage_close(rig.st, NULL);
    OK(pl_flaky_storage(bytes, len, 64 * PL_MIB, &rig.st, &e));
    OK(rig_open(&rig, &e));
    pl_flaky_fail_at(rig.st, n, EIO, for_ever);
    work(&rig, &t);
    rig_close(&rig);
    pl_flaky_fail_at(rig.st, UINT64_MAX, 0, false);
    look(rig.st, &t, options, false);
    look(rig.st, &t, options, true);
    pl_storage_close(rig.st, NULL);
    return t.failed;
}

static void every_failure_leaves_a_sound_image(void **state)
{
    const char *options = *state;

    for (unsigned n = 0; n < OPERATIONS_MAX; n++) {
        const bool once = run(options, n, false), ever = run(options, n, true);

        if (!once && !ever)
            return; /* n is past the last change */
    }
    fail_msg("more than %u changes", OPERATIONS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { .name = "dynamic",
          .test_func = every_failure_leaves_a_sound_image,
          .initial_state = (void *)"block_size=1M" },
        { .name = "over a parent",
          .test_func = every_failure_leaves_a_sound_image,
          .initial_state = (void *)"block_size=2M" },
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
