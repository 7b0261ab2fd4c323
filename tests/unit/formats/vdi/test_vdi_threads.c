/* Several threads write, zero and discard blocks that are apart, while others map and one flushes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "tests/support/drive.h"
#include "tests/support/images.h"
#include "tests/support/qcow2_rig.h"

extern const struct pl_driver pl_vdi;

#define SIZE (UINT64_C(4) << 20)
#define WRITERS 4u
#define READERS 2u
#define STEPS 400u

static const struct shape {
    const char *name, *options;
    bool parent;
    uint32_t cache_bytes;
} shapes[] = {
    { "blocks of 4 KiB", "block_size=4k", false, 0 },
    { "blocks of 512 bytes over a parent, a cache of 4 slices", "block_size=512", true, 1 },
    { "static", "block_size=4k,static=on", false, 1 },
};

struct shared {
    struct drive drive;
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
    uint8_t *model = shared->model + at;

    if (random % 4 == 0) {
        memset(model, 0, block);
        return drive_zero(&shared->drive, at, block, random & 64, NULL);
    }
    if (random % 4 == 1) {
        memset(model, 0, block);
        return pl_vdi.discard(shared->drive.layer.state, at, block, NULL);
    }
    memset(model, (int)(random >> 8) | 1, 512);
    return drive_write(&shared->drive, at, model, 512, NULL);
}

static void *write_blocks(void *arg)
{
    const struct writer *w = arg;
    const uint64_t block = w->shared->drive.layer.cluster_size;
    uint64_t random = w->number + 1;

    for (unsigned i = 0; i < STEPS; i++) {
        const uint64_t n = rig_random(&random) % (SIZE / block / WRITERS);
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
        for (uint64_t at = 0; at < SIZE;) {
            struct pl_extent x;

            if (pl_vdi.map(shared->drive.layer.state, at, SIZE - at, &x, NULL) < 0 || !x.len) {
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
        if (pl_vdi.flush(shared->drive.layer.state, NULL) < 0)
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

static void threads_do_not_disturb_each_other(void **state)
{
    const struct shape *shape = *state;
    struct shared shared = {
        .model = calloc(1, SIZE),
        .drive = { .driver = &pl_vdi,
                   .st = memory(),
                   .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff",
                   .cache_bytes = shape->cache_bytes },
    };
    uint8_t *disk = calloc(1, SIZE);
    struct pl_check_result result;

    if (shape->parent) {
        shared.drive.parent = disk;
        shared.drive.parent_len = SIZE;
    }
    OK(drive_create(&shared.drive, shape->options, SIZE, &e));
    OK(drive_open(&shared.drive, &e));
    run_threads(&shared);
    assert_int_equal(shared.failures, 0);
    shared.drive.parent = NULL;
    shared.drive.parent_len = 0;
    OK(drive_read(&shared.drive, 0, disk, SIZE, &e));
    assert_memory_equal(disk, shared.model, SIZE);
    OK(pl_vdi.flush(shared.drive.layer.state, &e));
    OK(drive_check(&shared.drive, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    drive_close(&shared.drive);
    pl_storage_close(shared.drive.st, NULL);
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
