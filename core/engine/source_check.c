#include "core/engine/source_check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph/node.h"
#include "core/graph/package.h"

/* Warnings that are kept; a hostile manifest does not get more. */
#define WARNINGS_MAX 8u

struct source_check {
    const struct pl_disk *source;
    const struct pl_report *report; /* the caller's */
    atomic_bool given_up;
    int result;
    struct pl_err err;
    char *warnings[WARNINGS_MAX]; /* for later: the caller's report takes calls from one thread at a
                                     time */
    size_t warning_count;
};

static void keep_warning(void *ctx, const char *message)
{
    struct source_check *check = ctx;
    char *copy = check->warning_count < WARNINGS_MAX ? strdup(message) : NULL;

    if (copy)
        check->warnings[check->warning_count++] = copy;
}

static void tell_warnings(struct source_check *check)
{
    for (size_t i = 0; i < check->warning_count; i++) {
        pl_warn(check->report, "%s", check->warnings[i]);
        free(check->warnings[i]);
    }
}

static bool is_given_up(void *ctx)
{
    struct source_check *check = ctx;

    return check->given_up || pl_check_cancelled(check->report, NULL) < 0;
}

static void *check_sources(void *arg)
{
    struct source_check *check = arg;
    const struct pl_report own = { .ctx = check, .cancelled = is_given_up, .warn = keep_warning };

    for (size_t i = 0; check->result >= 0 && i < check->source->count; i++) {
        struct pl_image *img = check->source->images[i];

        check->result = pl_verify_package(img, &own, &check->err);
        if (check->result > 0)
            pl_warn(&own, "%s: it has no manifest with digests: nothing could be verified",
                    img->package->file->name);
    }
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
    tell_warnings(&check);
    if (result < 0 || check.result >= 0)
        return result;
    if (e)
        *e = check.err;
    return -1;
}
