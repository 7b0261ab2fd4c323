#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "tests/unit/formats/vmdk/sesparse_rig.h"

#define READERS 4
#define TABLES 2 /* 16 slices, and the smallest cache keeps 4 */
#define GRAINS (UINT64_C(4096) * TABLES)

struct job {
    const struct se_rig *rig;
    const struct vmdk_extent *x;
    unsigned seed, wrong;
};

/* Grain g of the disk is grain (7 g mod 1000) of the file. */
static void *map_everything(void *arg)
{
    struct job *job = arg;

    for (uint64_t i = 0; i < GRAINS; i++) {
        const uint64_t grain = i * 7919 * (job->seed + 1) % GRAINS;
        const uint64_t at = grain * SE_GRAIN;
        struct pl_extent out;

        if (job->x->ops->map(job->x->state, at, job->x->size - at, &out, NULL) < 0 ||
            out.state != PL_DATA || out.len != SE_GRAIN ||
            out.off != job->rig->grains_at + grain * 7 % 1000 * SE_GRAIN)
            job->wrong++;
    }
    return NULL;
}

static void readers_do_not_disturb_each_other(void **state)
{
    struct se_rig r = se_make(GRAINS * SE_GRAIN, TABLES, 1000);
    struct job jobs[READERS];
    pthread_t threads[READERS];
    struct vmdk_extent x;

    (void)state;
    for (unsigned t = 0; t < TABLES; t++) {
        se_set_table(&r, t, t);
        for (uint64_t i = 0; i < 4096; i++)
            se_set_entry(&r, t, i, se_allocated((4096 * t + i) * 7 % 1000));
    }
    x = se_open(&r, 1);
    for (unsigned i = 0; i < READERS; i++) {
        jobs[i] = (struct job){ .rig = &r, .x = &x, .seed = i };
        assert_int_equal(pthread_create(&threads[i], NULL, map_everything, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    x.ops->close(x.state);
    pl_storage_close(r.file, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_do_not_disturb_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
