/* Several threads write, zero and discard blocks that are apart, while others map and one
 * flushes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/qcow2_rig.h"
#include "tests/support/vhdx_rig.h"

#define SIZE (UINT64_C(12) << 20)
#define WRITERS 4u
#define READERS 2u
#define STEPS 120u

static const struct shape {
    const char *name, *options;
    uint32_t cache_bytes;
} shapes[] = {
    { "blocks of 1 MiB", "block_size=1M", 0 },
    { "blocks of 1 MiB, the smallest cache", "block_size=1M", 1 },
};

struct shared {
    struct vhdx_rig rig;
    uint8_t *model; /* each writer has its own granules */
    atomic_bool stop;
    atomic_uint failures;
};

struct writer {
    struct shared *shared;
    unsigned number;
};

/* One change of a granule that is this writer's alone: every WRITERS-th one. */
static int change(struct shared *shared, uint64_t at, uint64_t granule, uint64_t random)
{
    uint8_t *model = shared->model + at;
    struct pl_err e;

    if (random % 4 == 0) {
        memset(model, 0, granule);
        return vhdx_rig_zero(&shared->rig, at, granule, random & 64, &e);
    }
    if (random % 4 == 1) {
        memset(model, 0, granule);
        return pl_vhdx.discard(shared->rig.layer.state, at, granule, &e);
    }
    memset(model, (int)(random >> 8) | 1, granule);
    return vhdx_rig_write(&shared->rig, at, model, granule, &e);
}

static void *write_granules(void *arg)
{
    struct writer *w = arg;
    uint64_t granule = w->shared->rig.layer.cluster_size, random = w->number + 1;

    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t n = rig_random(&random) % (SIZE / granule / WRITERS);

        if (change(w->shared, (n * WRITERS + w->number) * granule, granule, rig_random(&random)) <
            0)
            atomic_fetch_add(&w->shared->failures, 1);
    }
    return NULL;
}

static void *map_all(void *arg)
{
    struct shared *shared = arg;

    while (!atomic_load(&shared->stop))
        for (uint64_t at = 0; at < SIZE;) {
            struct pl_extent x;
            struct pl_err e;

            if (pl_vhdx.map(shared->rig.layer.state, at, SIZE - at, &x, &e) < 0 || !x.len) {
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
    struct pl_err e;

    while (!atomic_load(&shared->stop))
        if (pl_vhdx.flush(shared->rig.layer.state, &e) < 0)
            atomic_fetch_add(&shared->failures, 1);
    return NULL;
}

static void must(int result, const struct pl_err *e)
{
    if (result < 0)
        fail_msg("%s", e->msg);
}

static void run_threads(struct shared *shared)
{
    pthread_t thread[WRITERS + READERS + 1];
    struct writer writer[WRITERS];

    for (unsigned i = 0; i < WRITERS; i++) {
        writer[i] = (struct writer){ shared, i };
        pthread_create(&thread[i], NULL, write_granules, &writer[i]);
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

static void threads_do_not_disturb_each_other(void **state)
{
    const struct shape *shape = *state;
    struct shared shared = { .model = calloc(1, SIZE),
                             .rig = { .cache_bytes = shape->cache_bytes } };
    uint8_t *disk = malloc(SIZE);
    struct pl_check_result result;
    struct pl_err e;

    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &shared.rig.st, &e), &e);
    must(vhdx_rig_create(&shared.rig, shape->options, SIZE, &e), &e);
    must(vhdx_rig_open(&shared.rig, &e), &e);
    run_threads(&shared);
    assert_int_equal(shared.failures, 0);
    must(vhdx_rig_read(&shared.rig, 0, disk, SIZE, &e), &e);
    assert_memory_equal(disk, shared.model, SIZE);
    must(pl_vhdx.flush(shared.rig.layer.state, &e), &e);
    must(vhdx_rig_check(&shared.rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions, 0);
    vhdx_rig_close(&shared.rig);
    pl_storage_close(shared.rig.st, NULL);
    free(shared.model);
    free(disk);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes)];

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = threads_do_not_disturb_each_other,
                                        .initial_state = (void *)&shapes[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
