#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "tests/unit/storage/storages.h"

enum { THREADS = 4, STEPS = 200, STEP = 16384 };

struct writer {
    struct pl_storage *st;
    unsigned number;
    pthread_t thread;
};

/* Writes and zeroes its own pieces, each beyond the end that others may just have seen. */
static void *write_pieces(void *arg)
{
    struct writer *w = arg;

    for (unsigned i = w->number; i < STEPS; i += THREADS) {
        const uint64_t off = (uint64_t)i * STEP;

        if (i % 3 == 0)
            OK(pl_storage_zero(w->st, off, STEP, &e));
        else
            write_pattern(w->st, off, STEP, 8);
        pl_storage_settle(w->st, off, STEP);
    }
    return NULL;
}

static void threads_that_grow_the_file_lose_nothing(void **state)
{
    struct pl_storage *st = new_file("file");
    struct writer writers[THREADS];

    (void)state;

    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){ .st = st, .number = i };
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_pieces, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(writers[i].thread, NULL);
    for (unsigned i = 0; i < STEPS; i++)
        assert_true(reads_as(st, (uint64_t)i * STEP, STEP, i % 3 == 0 ? ZEROS : 8));
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_grow_the_file_lose_nothing),
    };

    return cmocka_run_group_tests_name("files and threads", tests, NULL, NULL);
}
