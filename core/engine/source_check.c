#include "core/engine/source_check.h"

#include <pthread.h>
#include <stdatomic.h>

struct source_check {
    const struct pl_disk *source;
    const struct pl_report *report; /* the caller's */
    atomic_bool given_up;
    int result;
    struct pl_err err;
};

static bool is_given_up(void *ctx)
{
    struct source_check *check = ctx;

    return check->given_up || pl_check_cancelled(check->report, NULL) < 0;
}

static void *check_sources(void *arg)
{
    struct source_check *check = arg;
    /* no warnings: the caller's report takes calls from one thread at a time */
    const struct pl_report own = { .ctx = check, .cancelled = is_given_up };

    for (size_t i = 0; check->result == 0 && i < check->source->count; i++)
        check->result = pl_verify_package(check->source->images[i], &own, &check->err);
    return NULL;
}

static bool has_package(const struct pl_disk *source)
{
    for (size_t i = 0; i < source->count; i++)
        if (source->images[i]->package)
            return true;
    return false;
}

int pl_run_beside_source_check(const struct pl_disk *source, const struct pl_report *report,
                               int (*run)(void *ctx, struct pl_err *e), void *ctx, struct pl_err *e)
{
    struct source_check check = { .source = source, .report = report };
    pthread_t thread;
    bool parallel;
    int result;

    if (!has_package(source))
        return run(ctx, e);
    parallel = pthread_create(&thread, NULL, check_sources, &check) == 0;
    result = run(ctx, e);
    check.given_up = result < 0;
    if (parallel)
        pthread_join(thread, NULL);
    else if (result == 0)
        check_sources(&check);
    if (result < 0 || check.result == 0)
        return result;
    if (e)
        *e = check.err;
    return -1;
}
