/* Units that run on several threads take effect in their order, and a failure ends the whole job.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/engine/ordered.h"

#define UNITS 500u

struct job {
    unsigned planned;
    unsigned placed[UNITS]; /* unit numbers in the order of placing */
    unsigned placed_count;
    atomic_uint finished;
    unsigned fail_at; /* UINT32_MAX: never */
};

static void *new_unit(void *ctx, struct pl_err *e)
{
    (void)ctx;
    (void)e;
    return calloc(1, sizeof(unsigned));
}

static int next(void *ctx, void *unit, struct pl_err *e)
{
    struct job *job = ctx;

    (void)e;
    if (job->planned == UNITS)
        return 0;
    *(unsigned *)unit = job->planned++;
    return 1;
}

/* Takes longer for some units than for others, so that they would overtake each other. */
static int work(void *ctx, void *unit, struct pl_err *e)
{
    struct job *job = ctx;
    volatile unsigned spin = (*(unsigned *)unit * 7919u) % 3000u;

    while (spin > 0)
        spin--;
    if (*(unsigned *)unit == job->fail_at)
        return pl_fail(e, PL_E_CORRUPT, "unit %u", job->fail_at);
    return 0;
}

static int place(void *ctx, void *unit, struct pl_err *e)
{
    struct job *job = ctx;

    (void)e;
    job->placed[job->placed_count++] = *(unsigned *)unit;
    return 0;
}

static int finish(void *ctx, void *unit, struct pl_err *e)
{
    struct job *job = ctx;

    (void)e;
    (void)unit;
    job->finished++;
    return 0;
}

static int run(struct job *job, unsigned workers, struct pl_err *e)
{
    const struct pl_ordered_job ordered = {
        .ctx = job,
        .workers = workers,
        .new_unit = new_unit,
        .free_unit = free,
        .next = next,
        .work = work,
        .place = place,
        .finish = finish,
    };

    return pl_run_ordered(&ordered, e);
}

static void places_in_order(void **state)
{
    static const unsigned workers[] = { 1, 2, 4, 13 };

    (void)state;
    for (size_t w = 0; w < PL_COUNT(workers); w++) {
        struct job job = { .fail_at = UINT32_MAX };
        struct pl_err e;

        assert_int_equal(run(&job, workers[w], &e), 0);
        assert_int_equal(job.placed_count, UNITS);
        assert_int_equal(job.finished, UNITS);
        for (unsigned i = 0; i < UNITS; i++)
            assert_int_equal(job.placed[i], i);
    }
}

static void failure_ends_the_job(void **state)
{
    static const unsigned at[] = { 0, 1, 100, UNITS - 1 };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(at); i++) {
        struct job job = { .fail_at = at[i] };
        struct pl_err e = { 0 };

        assert_int_equal(run(&job, 4, &e), -1);
        assert_int_equal(e.kind, PL_E_CORRUPT);
        assert_in_range(job.placed_count, 0, at[i]);
        for (unsigned k = 0; k < job.placed_count; k++)
            assert_int_equal(job.placed[k], k);
    }
}

static bool stop_at_once(void *ctx)
{
    (void)ctx;
    return true;
}

static void stops_when_asked(void **state)
{
    const struct pl_report report = { .cancelled = stop_at_once };
    struct job job = { .fail_at = UINT32_MAX };
    const struct pl_ordered_job ordered = {
        .ctx = &job,
        .workers = 3,
        .report = &report,
        .new_unit = new_unit,
        .free_unit = free,
        .next = next,
        .work = work,
    };
    struct pl_err e = { 0 };

    (void)state;
    assert_int_equal(pl_run_ordered(&ordered, &e), -1);
    assert_int_equal(e.kind, PL_E_CANCELLED);
    assert_int_equal(job.planned, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "units are placed in order with any number of workers", places_in_order, NULL, NULL,
          NULL },
        { "a failing unit ends the job with its error", failure_ends_the_job, NULL, NULL, NULL },
        { "a job stops when its caller asks", stops_when_asked, NULL, NULL, NULL },
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
