#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/base/checked.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/images.h"

/* Clusters of 512 bytes: tables of 32 KiB of disk each, far more than the smallest cache keeps. */
#define SIZE (4 * PL_MIB)
#define CLUSTER 512
#define READERS 4
#define ROUNDS 8

struct job {
    struct pl_layer *layer;
    unsigned seed;
    unsigned wrong;
};

/* Every cluster has its place: the preallocated data lies in one piece. */
static void *map_everything(void *arg)
{
    struct job *job = arg;
    struct pl_extent x;
    uint64_t first;

    if (pl_qcow2.map(job->layer->state, 0, 1, &x, NULL) < 0)
        return NULL;
    first = x.off;
    for (unsigned round = 0; round < ROUNDS; round++)
        for (uint64_t i = 0; i < SIZE / CLUSTER; i++) {
            const uint64_t at = (i * 7919 * (job->seed + 1)) % (SIZE / CLUSTER) * CLUSTER;

            if (pl_qcow2.map(job->layer->state, at, SIZE - at, &x, NULL) < 0 ||
                x.state != PL_DATA || x.off != first + at)
                job->wrong++;
        }
    return NULL;
}

static void readers_do_not_disturb_each_other(void **state)
{
    struct pl_storage *st =
        new_image(&pl_qcow2, "cluster_size=512,preallocation=metadata", SIZE, NULL);
    const struct pl_open_args args = { .file = st, .cache_bytes = 1 };
    struct pl_layer layer;
    pthread_t threads[READERS];
    struct job jobs[READERS];

    (void)state;
    OK(pl_qcow2.open(&args, &layer, &e));
    for (unsigned i = 0; i < READERS; i++) {
        jobs[i] = (struct job){ .layer = &layer, .seed = i };
        assert_int_equal(pthread_create(&threads[i], NULL, map_everything, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

/* Writes one cluster after the other while the readers look. */
static void *write_everything(void *arg)
{
    struct job *job = arg;
    static const uint8_t bytes[CLUSTER] = { 1 };

    for (uint64_t at = 0; at < SIZE; at += CLUSTER) {
        struct pl_place place;

        if (pl_qcow2.allocate(job->layer->state, at, CLUSTER, &place, NULL) < 0 ||
            pl_storage_write(place.st, place.off, bytes, CLUSTER, NULL) < 0 ||
            (place.fresh && pl_qcow2.link(job->layer->state, &place, NULL) < 0))
            job->wrong++;
        if (at % (64 * CLUSTER) == 0 && pl_qcow2.flush(job->layer->state, NULL) < 0)
            job->wrong++;
    }
    return NULL;
}

/* What was mapped once never goes back, and is always the cluster's own bytes. */
static void *watch(void *arg)
{
    struct job *job = arg;
    struct pl_extent x;
    uint8_t byte;

    for (uint64_t at = 0; at < SIZE; at += CLUSTER)
        do {
            if (pl_qcow2.map(job->layer->state, at, CLUSTER, &x, NULL) < 0 ||
                (x.state == PL_DATA &&
                 (pl_storage_read(x.st, x.off, &byte, 1, NULL) < 0 || byte != 1))) {
                job->wrong++;
                return NULL;
            }
        } while (x.state != PL_DATA);
    return NULL;
}

static void readers_see_a_writer_s_clusters_when_they_are_linked(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=512", SIZE, NULL);
    const struct pl_open_args args = { .file = st, .writable = true, .cache_bytes = 1 };
    struct pl_layer layer;
    pthread_t writer, threads[READERS];
    struct job jobs[READERS + 1];

    (void)state;
    OK(pl_qcow2.open(&args, &layer, &e));
    for (unsigned i = 0; i <= READERS; i++)
        jobs[i] = (struct job){ .layer = &layer };
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, watch, &jobs[i]), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_everything, &jobs[READERS]), 0);
    pthread_join(writer, NULL);
    assert_int_equal(jobs[READERS].wrong, 0);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_do_not_disturb_each_other),
        cmocka_unit_test(readers_see_a_writer_s_clusters_when_they_are_linked),
    };

    return cmocka_run_group_tests_name("qcow2 map from many threads", tests, NULL, NULL);
}
