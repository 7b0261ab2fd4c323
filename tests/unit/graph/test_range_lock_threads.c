/* Ranges that overlap are ordered; those that do not, and readers, run at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>

#include <cmocka.h>

#include "core/graph/range_lock.h"

#define CELLS 64u
#define ROUNDS 4000u

struct shared {
    struct pl_range_lock lock;
    unsigned cell[CELLS]; /* guarded by the lock's ranges */
};

/* Adds one to a run of cells, or checks that a run is the same throughout a look. */
static void *play(void *arg)
{
    struct shared *shared = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    uintptr_t torn = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct pl_range range;
        unsigned from, to;

        seed = seed * 1103515245u + 12345u;
        from = (seed >> 8) % CELLS;
        to = from + 1 + (seed >> 16) % (CELLS - from);
        pl_range_take(&shared->lock, &range, from, to, i % 2 == 0);
        if (i % 2 == 0) {
            for (unsigned c = from; c < to; c++)
                shared->cell[c]++;
        } else {
            const unsigned seen = shared->cell[from];

            torn += seen != shared->cell[from];
        }
        pl_range_drop(&shared->lock, &range);
    }
    return (void *)torn;
}

static void overlapping_writers_take_turns(void **state)
{
    static struct shared shared;
    pthread_t thread[4];

    (void)state;
    pl_range_lock_init(&shared.lock);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, play, &shared), 0);
    for (unsigned i = 0; i < 4; i++) {
        void *torn;

        assert_int_equal(pthread_join(thread[i], &torn), 0);
        assert_null(torn);
    }
    assert_null(shared.lock.held);
    pl_range_lock_destroy(&shared.lock);
}

static void disjoint_and_shared_ranges_do_not_wait(void **state)
{
    struct pl_range_lock lock;
    struct pl_range a, b, c;

    (void)state;
    pl_range_lock_init(&lock);
    pl_range_take(&lock, &a, 0, 10, true);
    pl_range_take(&lock, &b, 10, 20, false);
    pl_range_take(&lock, &c, 15, 30, false);
    pl_range_drop(&lock, &b);
    pl_range_drop(&lock, &a);
    pl_range_drop(&lock, &c);
    assert_null(lock.held);
    pl_range_lock_destroy(&lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "overlapping writers take turns", overlapping_writers_take_turns, NULL, NULL, NULL },
        { "disjoint and shared ranges do not wait", disjoint_and_shared_ranges_do_not_wait, NULL,
          NULL, NULL },
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
