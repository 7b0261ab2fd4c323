#include "core/engine/ordered.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/base/checked.h"

#define WORKERS_MAX 64u

/* Shared by the workers of one job. */
struct run {
    const struct pl_ordered_job *job;
    pthread_mutex_t plan;  /* held around `next`; taken before `turns` */
    uint64_t taken;        /* units taken so far; guarded by plan */
    bool ended;            /* next has nothing more; guarded by plan */
    pthread_mutex_t turns; /* guards the rest; leaf but for `place`, which runs outside it */
    pthread_cond_t turned;
    uint64_t turn; /* the unit that may be placed now */
    bool failed;
    struct pl_err err; /* of the first to fail */
};

unsigned pl_worker_count(unsigned asked)
{
    cpu_set_t set;

    if (asked == 0)
        asked = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 2;
    return PL_MIN(PL_MAX(asked, 1u), WORKERS_MAX);
}

static void note_failure(struct run *run, const struct pl_err *err)
{
    pthread_mutex_lock(&run->turns);
    if (!run->failed) {
        run->failed = true;
        run->err = *err;
    }
    pthread_cond_broadcast(&run->turned);
    pthread_mutex_unlock(&run->turns);
}

static bool has_failed(struct run *run)
{
    bool failed;

    pthread_mutex_lock(&run->turns);
    failed = run->failed;
    pthread_mutex_unlock(&run->turns);
    return failed;
}

/* 1: unit number *number is taken. */
static int take(struct run *run, void *unit, uint64_t *number, struct pl_err *e)
{
    int result = 0;

    pthread_mutex_lock(&run->plan);
    if (!run->ended && !has_failed(run)) {
        result = pl_check_cancelled(run->job->report, e);
        if (result == 0)
            result = run->job->next(run->job->ctx, unit, e);
        *number = run->taken;
        if (result == 1)
            run->taken++;
        else
            run->ended = true;
    }
    pthread_mutex_unlock(&run->plan);
    return result;
}

/* False: the job has failed meanwhile. */
static bool wait_for_turn(struct run *run, uint64_t number)
{
    bool mine;

    pthread_mutex_lock(&run->turns);
    while (run->turn != number && !run->failed)
        pthread_cond_wait(&run->turned, &run->turns);
    mine = !run->failed;
    pthread_mutex_unlock(&run->turns);
    return mine;
}

static void give_turn(struct run *run)
{
    pthread_mutex_lock(&run->turns);
    run->turn++;
    pthread_cond_broadcast(&run->turned);
    pthread_mutex_unlock(&run->turns);
}

/* 1: done; 0: another worker failed, so this unit is dropped; -1. */
static int run_unit(struct run *run, void *unit, uint64_t number, struct pl_err *e)
{
    const struct pl_ordered_job *job = run->job;

    if (job->work(job->ctx, unit, e) < 0)
        return -1;
    if (job->place) {
        if (!wait_for_turn(run, number))
            return 0;
        if (job->place(job->ctx, unit, e) < 0)
            return -1;
        give_turn(run);
    }
    return job->finish && job->finish(job->ctx, unit, e) < 0 ? -1 : 1;
}

static void *worker(void *arg)
{
    struct run *run = arg;
    struct pl_err e = { 0 };
    uint64_t number = 0;
    void *unit = run->job->new_unit(run->job->ctx, &e);
    int result = unit ? 1 : -1;

    while (result == 1) {
        result = take(run, unit, &number, &e);
        if (result == 1)
            result = run_unit(run, unit, number, &e);
    }
    if (result < 0)
        note_failure(run, &e);
    if (unit)
        run->job->free_unit(unit);
    return NULL;
}

int pl_run_ordered(const struct pl_ordered_job *job, struct pl_err *e)
{
    struct run run = { .job = job };
    pthread_t thread[WORKERS_MAX];
    const unsigned wanted = pl_worker_count(job->workers);
    unsigned started = 0;

    pthread_mutex_init(&run.plan, NULL);
    pthread_mutex_init(&run.turns, NULL);
    pthread_cond_init(&run.turned, NULL);
    /* the caller's thread is one of the workers; fewer threads than wanted are no failure */
    while (started + 1 < wanted && pthread_create(&thread[started], NULL, worker, &run) == 0)
        started++;
    worker(&run);
    for (unsigned i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_cond_destroy(&run.turned);
    pthread_mutex_destroy(&run.turns);
    pthread_mutex_destroy(&run.plan);
    if (run.failed && e)
        *e = run.err;
    return run.failed ? -1 : 0;
}
