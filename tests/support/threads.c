/* threads.c - see threads.h. */
#include "tests/support/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"

#define SIZE (4 * PL_MIB) /* of the disk, unless the shape says another */
#define WRITERS 4u
#define READERS 2u
#define STEPS 400u

struct shared {
    const struct thread_shape *shape;
    struct rig rig;
    uint64_t size;
    uint8_t *model; /* each writer has its own blocks */
    atomic_bool stop;
    atomic_uint failures;
};

struct writer {
    struct shared *shared;
    unsigned number;
};

/* One change of a block that is this writer's alone: every WRITERS-th one. */
static int change(struct shared *shared, uint64_t at, uint64_t block, uint64_t random)
{
    const uint64_t len = shared->shape->write_len ? shared->shape->write_len : block;
    uint8_t *model = shared->model + at;

    if (random % 4 == 0) {
        memset(model, 0, block);
        return rig_zero(&shared->rig, at, block, random & 64, NULL);
    }
    if (random % 4 == 1) {
        memset(model, 0, block);
        return shared->rig.driver->discard(shared->rig.layer.state, at, block, NULL);
    }
    memset(model, (int)(random >> 8) | 1, len);
    return rig_write(&shared->rig, at, model, len, NULL);
}

static void *write_blocks(void *arg)
{
    const struct writer *w = arg;
    const uint64_t block = w->shared->rig.layer.cluster_size;
    const unsigned steps = w->shared->shape->steps ? w->shared->shape->steps : STEPS;
    uint64_t random = w->number + 1;

    for (unsigned i = 0; i < steps; i++) {
        const uint64_t n = rig_random(&random) % (w->shared->size / block / WRITERS);
        const uint64_t at = (n * WRITERS + w->number) * block;

        if (change(w->shared, at, block, rig_random(&random)) < 0)
            atomic_fetch_add(&w->shared->failures, 1);
    }
    return NULL;
}

static void *map_all(void *arg)
{
    struct shared *shared = arg;

    while (!atomic_load(&shared->stop))
        for (uint64_t at = 0; at < shared->size;) {
            const struct rig *rig = &shared->rig;
            struct pl_extent x;

            if (rig->driver->map(rig->layer.state, at, shared->size - at, &x, NULL) < 0 || !x.len) {
                atomic_fetch_add(&shared->failures, 1);
                return NULL;
            }
            at += x.len;
        }
    return NULL;
}

static void *flush_often(void *arg)
{
    struct shared *shared = arg;

    while (!atomic_load(&shared->stop))
        if (rig_flush(&shared->rig, NULL) < 0)
            atomic_fetch_add(&shared->failures, 1);
    return NULL;
}

static void run_threads(struct shared *shared)
{
    pthread_t thread[WRITERS + READERS + 1];
    struct writer writer[WRITERS];

    for (unsigned i = 0; i < WRITERS; i++) {
        writer[i] = (struct writer){ shared, i };
        pthread_create(&thread[i], NULL, write_blocks, &writer[i]);
    }
    for (unsigned i = 0; i < READERS; i++)
        pthread_create(&thread[WRITERS + i], NULL, map_all, shared);
    pthread_create(&thread[WRITERS + READERS], NULL, flush_often, shared);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(thread[i], NULL);
    atomic_store(&shared->stop, true);
    for (unsigned i = WRITERS; i < WRITERS + READERS + 1; i++)
        pthread_join(thread[i], NULL);
}

static void make_rig(struct rig *rig, const struct thread_shape *shape, uint64_t size,
                     const uint8_t *zeros)
{
    struct pl_err e;

    *rig = (struct rig){ .driver = shape->driver,
                         .parent_identity = shape->parent_identity,
                         .cache_bytes = shape->cache_bytes };
    if (shape->parent_identity) {
        rig->parent = zeros;
        rig->parent_len = size;
    }
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->st, &e), &e);
    must(rig_create(rig, shape->options, size, &e), &e);
    must(rig_open(rig, &e), &e);
}

static void run_shape(void **state)
{
    const struct thread_shape *shape = *state;
    const uint64_t size = shape->size ? shape->size : SIZE;
    PL_FREE uint8_t *model = calloc(1, size), *disk = calloc(1, size);
    struct shared shared = { .shape = shape, .size = size, .model = model };
    struct pl_check_result result;
    struct pl_err e;

    make_rig(&shared.rig, shape, size, disk);
    run_threads(&shared);
    assert_int_equal(shared.failures, 0);
    shared.rig.parent_len = 0;
    must(rig_read(&shared.rig, 0, disk, size, &e), &e);
    assert_memory_equal(disk, model, size);
    must(rig_flush(&shared.rig, &e), &e);
    must(rig_check(&shared.rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions, 0);
    if (shape->no_leaks)
        assert_int_equal(result.leaks, 0);
    rig_close(&shared.rig);
    pl_storage_close(shared.rig.st, NULL);
}

int run_thread_shapes(const char *group, const struct thread_shape *shapes, size_t count)
{
    PL_FREE struct CMUnitTest *tests = calloc(count, sizeof *tests);

    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = run_shape,
                                        .initial_state = (void *)&shapes[i] };
    return _cmocka_run_group_tests(group, tests, count, NULL, NULL);
}
