#include "core/engine/bench.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/lock.h"
#include "core/base/scope.h"

/* All that a thread puts on its stack, with room to spare: there may be thousands. */
#define STACK_BYTES (256 * 1024)

struct bench {
    struct pl_image *img;
    const struct pl_bench_options *options;
    uint64_t disk;       /* its size */
    struct pl_lock lock; /* guards the rest */
    pthread_cond_t changed;
    uint64_t left, offset; /* requests that nobody took yet; where the next one is */
    unsigned busy;         /* requests under way */
    bool draining;         /* a flush waits for them: none begins */
    bool failed;
    struct pl_err error; /* of the first that failed */
};

int pl_bench_check(const struct pl_image *img, const struct pl_bench_options *o, struct pl_err *e)
{
    if (o->size < 1 || o->depth < 1 || o->depth > PL_BENCH_DEPTH_MAX)
        return pl_fail(e, PL_E_INVALID, "%u requests of %u bytes at once are not possible",
                       o->depth, o->size);
    if (o->flush_interval && !o->write)
        return pl_fail(e, PL_E_INVALID, "--flush-interval is only available in write tests");
    if (o->flush_interval && o->flush_interval < o->depth)
        return pl_fail(e, PL_E_INVALID, "Flush interval can't be smaller than depth");
    if (o->count > 0 && !pl_inside(o->offset, o->size, pl_size(img)))
        return pl_fail(e, PL_E_LIMIT,
                       "%s: a request of %u bytes at 0x%" PRIx64 " is past the end of the disk "
                       "(0x%" PRIx64 ")",
                       pl_path(img), o->size, o->offset, pl_size(img));
    return 0;
}

/* Where the request behind the one at `at` is. */
static uint64_t next_offset(const struct bench *b, uint64_t at)
{
    const uint64_t next = (at + b->options->step % b->disk) % b->disk;

    return pl_inside(next, b->options->size, b->disk) ? next : 0;
}

static void note_failure(struct bench *b, const struct pl_err *e) PL_NEEDS(&b->lock);
static void note_failure(struct bench *b, const struct pl_err *e)
{
    if (!b->failed)
        b->error = *e;
    b->failed = true;
    pthread_cond_broadcast(&b->changed);
}

/* Takes the next request; false: there is none. */
static bool take(struct bench *b, uint64_t *at) PL_NEEDS(&b->lock);
static bool take(struct bench *b, uint64_t *at)
{
    struct pl_err e;

    while (b->draining && !b->failed)
        pthread_cond_wait(&b->changed, &b->lock.mutex);
    if (!b->failed && pl_check_cancelled(b->options->report, &e) < 0)
        note_failure(b, &e);
    if (b->failed || b->left == 0)
        return false;
    *at = b->offset;
    b->offset = next_offset(b, b->offset);
    b->left--;
    b->busy++;
    return true;
}

static int run_request(const struct bench *b, uint64_t at, uint8_t *buf, struct pl_err *e)
{
    return b->options->write ? pl_write(b->img, at, buf, b->options->size, e)
                             : pl_read(b->img, at, buf, b->options->size, e);
}

/* Behind all requests that were under way, unless nobody is to wait for them. */
static int flush(struct bench *b, struct pl_err *e) PL_NEEDS(&b->lock);
static int flush(struct bench *b, struct pl_err *e)
{
    int result;

    if (!b->options->no_drain) {
        b->draining = true;
        while (b->busy > 0 && !b->failed)
            pthread_cond_wait(&b->changed, &b->lock.mutex);
    }
    pl_lock_drop(&b->lock);
    result = pl_flush(b->img, e);
    pl_lock_take(&b->lock);
    b->draining = false;
    pthread_cond_broadcast(&b->changed);
    return result;
}

/* Whether a flush comes behind the request that was taken last. */
static bool wants_flush(const struct bench *b) PL_NEEDS(&b->lock);
static bool wants_flush(const struct bench *b)
{
    return b->options->flush_interval && b->left % b->options->flush_interval == 0;
}

static void *work(void *arg)
{
    struct bench *b = arg;
    PL_FREE uint8_t *buf = pl_buffer(b->options->size);
    struct pl_err e;
    uint64_t at;

    if (buf)
        memset(buf, b->options->pattern, b->options->size);
    pl_lock_take(&b->lock);
    if (!buf) {
        pl_fail(&e, PL_E_NOMEM, "no memory for requests of %u bytes", b->options->size);
        note_failure(b, &e);
    }
    while (take(b, &at)) {
        const bool flushes = wants_flush(b);
        int result;

        b->draining = b->draining || (flushes && !b->options->no_drain);
        pl_lock_drop(&b->lock);
        result = run_request(b, at, buf, &e);
        pl_lock_take(&b->lock);
        b->busy--;
        pthread_cond_broadcast(&b->changed);
        if (result == 0 && flushes)
            result = flush(b, &e);
        if (result < 0)
            note_failure(b, &e);
    }
    pl_lock_drop(&b->lock);
    return NULL;
}

/* Starts up to `depth` threads; *count: how many there are.  Fewer do the same work. */
static void start_threads(struct bench *b, pthread_t *threads, unsigned *count)
{
    const unsigned wanted = (unsigned)PL_MIN(b->options->count, b->options->depth);
    pthread_attr_t attributes;

    *count = 0;
    if (pthread_attr_init(&attributes))
        return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (*count < wanted && pthread_create(&threads[*count], &attributes, work, b) == 0)
        ++*count;
    pthread_attr_destroy(&attributes);
}

static int run(struct bench *b, struct pl_err *e)
{
    PL_FREE pthread_t *threads = calloc(b->options->depth, sizeof *threads);
    unsigned count;

    if (!threads)
        return pl_fail(e, PL_E_NOMEM, "no memory for %u threads", b->options->depth);
    start_threads(b, threads, &count);
    if (count == 0 && b->options->count)
        return pl_fail(e, PL_E_NOMEM, "no thread can be started");
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    if (b->failed && e)
        *e = b->error;
    return b->failed ? -1 : 0;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int pl_bench(struct pl_image *img, const struct pl_bench_options *options, double *seconds,
             struct pl_err *e)
{
    struct bench b = { .img = img,
                       .options = options,
                       .disk = pl_size(img),
                       .left = options->count,
                       .offset = options->offset };
    double start;
    int result;

    *seconds = 0;
    if (pl_bench_check(img, options, e) < 0)
        return -1;
    pl_lock_init(&b.lock);
    pthread_cond_init(&b.changed, NULL);
    start = now();
    result = run(&b, e);
    *seconds = now() - start;
    pthread_cond_destroy(&b.changed);
    pl_lock_destroy(&b.lock);
    return result;
}
