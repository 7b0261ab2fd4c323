/* A crash at any instant of what a user does to whole disks: with the real program, files that
 * appear and take each other's names, and several images at once.
 *
 * Each operation is recorded once.  Then the folder is made as a crash could have left it, at many
 * instants and in many ways (see replay.h).  Each time every disk must open and show its old or its
 * new state, all that was flushed must be there, check finds nothing but leaks, the disk takes
 * writes, and the operation done again ends well.
 *
 * In the environment: OPERATIONS, part of the names of the trials that are wanted; CRASH_STATES,
 * how many states of each are looked at (0: 12 at every instant); CRASH_SEED, another choice;
 * CRASH_AT=INSTANT,SEED, this one alone, which is left in the folder CRASH_KEEP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/operation.h"
#include "tests/support/programs.h"
#include "tests/support/replay.h"
#include "tests/support/rig.h"

#define STATES 40
#define SEEDS 12      /* ways in which each instant is looked at when all are */
#define AGAIN_EVERY 6 /* states: the operation is done again */

struct run {
    struct trial *trial;
    struct replay *replay;
    struct look *at_mark; /* what was seen at each mark; the old state first, the new one last */
    size_t mark_count;
    uint64_t *known; /* hashes of states that were looked at */
    size_t known_count, looked;
    uint64_t random;
    uint64_t only_instant, only_seed; /* UINT64_MAX: all */
};

/* ---- what may be seen ---- */

static void add_mark(struct run *run, const struct look *look)
{
    run->at_mark = realloc(run->at_mark, (run->mark_count + 1) * sizeof *run->at_mark);
    if (!run->at_mark)
        abort();
    run->at_mark[run->mark_count++] = *look;
}

static void look_now(struct run *run, const struct replay *replay)
{
    struct problem problem = { "" };
    struct folder left;
    struct look look;

    replay_crash(replay, 0, &left);
    folder_store(&left, run->trial->fast);
    folder_free(&left);
    if (!look_at(run->trial, run->trial->fast, &look, &problem))
        fail_msg("at a flush: %s", problem.text);
    add_mark(run, &look);
}

/* Plays all, looks at the disks at each mark, and makes sure that the log tells what the program
 * really did. */
static void look_at_marks(struct run *run)
{
    struct replay *replay = replay_new(&run->trial->start, run->trial->log);
    struct folder left;

    add_mark(run, &run->trial->old);
    while (replay_played(replay) < replay_length(replay)) {
        const size_t marks = replay_marks(replay);

        replay_step(replay);
        if (replay_marks(replay) > marks)
            look_now(run, replay);
    }
    add_mark(run, &run->trial->new);
    replay_crash(replay, 0, &left);
    if (folder_hash(&left) != folder_hash(&run->trial->end))
        fail_msg("the log does not lead to what the program left in the folder");
    folder_free(&left);
    replay_free(replay);
}

/* ---- states ---- */

/* Then nothing but the new state may be seen. */
static bool has_ended(const struct run *run)
{
    return replay_played(run->replay) == replay_length(run->replay);
}

/* Whether that folder was looked at when the same could be seen. */
static bool is_known(struct run *run, uint64_t hash)
{
    hash ^= ((replay_marks(run->replay) << 1) + has_ended(run)) * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < run->known_count; i++)
        if (run->known[i] == hash)
            return true;
    run->known = realloc(run->known, (run->known_count + 1) * sizeof *run->known);
    if (!run->known)
        abort();
    run->known[run->known_count++] = hash;
    return false;
}

/* What is seen is what may be seen there. */
static bool shows(const struct run *run, struct look *seen, struct problem *problem)
{
    const struct trial *trial = run->trial;
    const bool ended = has_ended(run);
    const size_t mark = replay_marks(run->replay);
    const struct look *new = &run->at_mark[ended ? run->mark_count - 1 : mark + 1];
    const struct look *old = ended ? new : &run->at_mark[mark];

    return look_at(trial, trial->fast, seen, problem) &&
           look_allowed(trial, seen, old, new, problem) &&
           (trial->op->damaged || look_sound(trial, trial->fast, 0, problem));
}

static bool holds(struct run *run, uint64_t seed, struct problem *problem)
{
    const struct trial *trial = run->trial;
    const bool again = (replay_played(run->replay) + seed) % AGAIN_EVERY == 0;
    struct look seen = { 0 };
    bool good = trial->op->opens_again || shows(run, &seen, problem);

    if (good && (again || trial->op->opens_again))
        good = trial_finishes(trial, trial->fast, problem);
    else if (good && !trial->op->damaged)
        good = look_writable(trial, trial->fast, &seen, problem);
    look_free(&seen);
    return good;
}

static void look_at_crash(struct run *run, uint64_t seed)
{
    struct problem problem = { "" };
    struct folder left;

    if (run->only_instant != UINT64_MAX &&
        (run->only_instant != replay_played(run->replay) || run->only_seed != seed))
        return;
    replay_crash(run->replay, seed, &left);
    if (!is_known(run, folder_hash(&left))) {
        run->looked++;
        folder_store(&left, run->trial->fast);
        if (!holds(run, seed, &problem)) {
            const char *keep = getenv("CRASH_KEEP");

            if (keep)
                folder_store(&left, keep);
            fail_msg("CRASH_AT=%zu,%ju of %zu (OPERATIONS='%s'): %s", replay_played(run->replay),
                     (uintmax_t)seed, replay_length(run->replay), run->trial->name, problem.text);
        }
    }
    folder_free(&left);
}

static uint64_t any_seed(struct run *run)
{
    return rig_below(&run->random, 3) ? 4 + rig_below(&run->random, 4096)
                                      : rig_below(&run->random, 4);
}

/* The instants that are looked at: all at which names change, and of the others so many that there
 * are about as many states as wanted. */
static void look_now_or_not(struct run *run, uint64_t wanted)
{
    const size_t instants = replay_length(run->replay) + 1;
    const bool ended = has_ended(run);

    if (run->only_instant != UINT64_MAX) {
        look_at_crash(run, run->only_seed);
    } else if (!wanted) {
        for (uint64_t seed = 0; seed < SEEDS; seed++)
            look_at_crash(run, seed);
    } else if (ended || replay_next_is_name(run->replay)) {
        for (uint64_t seed = 0; seed < 6; seed++)
            look_at_crash(run, seed);
    } else {
        for (uint64_t n = rig_below(&run->random, 2 * wanted); n >= instants; n -= instants)
            look_at_crash(run, any_seed(run));
        if (rig_below(&run->random, instants) < wanted)
            look_at_crash(run, any_seed(run));
    }
}

/* ---- a test ---- */

static void run_begin(struct run *run, struct trial *trial)
{
    const char *only = getenv("CRASH_AT");
    char *comma;

    *run = (struct run){ .trial = trial,
                         .random = test_number("CRASH_SEED", 1),
                         .only_instant = UINT64_MAX };
    if (only) {
        run->only_instant = strtoull(only, &comma, 0);
        run->only_seed = *comma ? strtoull(comma + 1, NULL, 0) : 0;
    }
    look_at_marks(run);
    run->replay = replay_new(&trial->start, trial->log);
}

static void run_end(struct run *run)
{
    for (size_t i = 1; i + 1 < run->mark_count; i++)
        look_free(&run->at_mark[i]);
    replay_free(run->replay);
    free(run->at_mark);
    free(run->known);
}

static void survives_crashes(void **state)
{
    const uint64_t wanted = test_number("CRASH_STATES", STATES);
    struct trial *trial = *state;
    struct run run;

    trial_begin(trial);
    run_begin(&run, trial);
    for (;;) {
        look_now_or_not(&run, wanted);
        if (has_ended(&run))
            break;
        replay_step(run.replay);
    }
    if (getenv("CRASH_TELL"))
        printf("# %s: %zu records, %zu states\n", trial->name, replay_length(run.replay),
               run.looked);
    run_end(&run);
    trial_end(trial);
}

int main(void)
{
    return trials_run("crashes of whole operations", survives_crashes);
}
