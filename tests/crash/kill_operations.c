/* kill -9 at a random moment of what a user does to whole disks, on a real file system: every disk
 * opens and shows its old or its new state, check finds nothing but leaks, and the operation done
 * again ends well.
 *
 * In the environment: KILL_RUNS, how many there are together; KILL_SEED, other moments; OPERATIONS,
 * part of the names of the trials that are wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/operation.h"
#include "tests/support/rig.h"

#define RUNS 40

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* How long the operation takes when nothing disturbs it. */
static uint64_t time_of(const struct trial *trial)
{
    const struct disturbance none = { 0 };
    uint64_t start;

    folder_store(&trial->start, trial->folder);
    start = now_us();
    trial_run(trial, trial->folder, &none, NULL);
    return now_us() - start;
}

static void kill_once(const struct trial *trial, uint64_t after_us)
{
    const struct disturbance how = { .kill_us = (unsigned)after_us };
    struct problem problem = { "" };

    folder_store(&trial->start, trial->folder);
    trial_run(trial, trial->folder, &how, NULL);
    if (!trial_holds(trial, trial->folder, &problem) ||
        !trial_finishes(trial, trial->folder, &problem))
        fail_msg("%s: killed after %ju us: %s", trial->name, (uintmax_t)after_us, problem.text);
}

/* The runs are dealt out to the trials; which of them get one more depends on the seed. */
static uint64_t runs_of(const struct trial *trial, uint64_t seed)
{
    const uint64_t runs = test_number("KILL_RUNS", RUNS);
    const uint64_t place = (trial->number + seed * 7) % trial->count;

    return runs * (place + 1) / trial->count - runs * place / trial->count;
}

static void survives_kill(void **state)
{
    const uint64_t seed = test_number("KILL_SEED", 1);
    struct trial *trial = *state;
    uint64_t random = seed * 1009 + trial->number, whole;
    const uint64_t runs = runs_of(trial, seed);

    if (runs == 0)
        return;
    trial_begin(trial);
    whole = time_of(trial);
    for (uint64_t i = 0; i < runs; i++) /* the first quarter is the start of the process */
        kill_once(trial, 1 + whole / 4 + rig_below(&random, whole));
    trial_end(trial);
}

int main(void)
{
    return trials_run("operations that are killed", survives_kill);
}
