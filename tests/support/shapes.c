/* shapes.c - see shapes.h. */
#include "tests/support/shapes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"

#define SECTOR 512u
#define NAME_BYTES 120

uint64_t run_below(struct image_run *run, uint64_t n)
{
    return rig_below(&run->random, n);
}

void run_choose(struct image_run *run, uint64_t unit, uint64_t most, uint64_t *at, uint64_t *len)
{
    const uint64_t size = run->rig.layer.size, units = 1 + run_below(run, most);

    *at = pl_round_down(run_below(run, size), unit);
    *len = PL_MIN(units * unit, size - *at);
}

void run_round_out(const struct image_run *run, uint64_t *at, uint64_t *len)
{
    const struct pl_layer *layer = &run->rig.layer;
    const uint64_t end = PL_MIN(pl_round_up(*at + *len, layer->granule), layer->size);

    *at = pl_round_down(*at, layer->granule);
    *len = end - *at;
}

uint64_t run_choose_size(struct image_run *run, uint64_t least, uint64_t most)
{
    const uint64_t old = run->rig.layer.size;
    const uint64_t sector = run->shape->sector ? run->shape->sector : SECTOR;

    if (run->format->grows_only)
        return old + pl_round_down(run_below(run, (most - old) / 2), sector);
    return pl_round_up(least + run_below(run, most - least), sector);
}

enum pl_prealloc run_choose_prealloc(struct image_run *run)
{
    return run_below(run, 4) ? PL_PREALLOC_OFF : run->format->resize_how;
}

int run_hide_parent(struct image_run *run, uint64_t old, struct pl_err *e)
{
    const uint64_t end = PL_MIN(run->rig.parent_len, run->rig.layer.size);

    if (end <= old)
        return 0;
    if (old % run->rig.layer.granule == 0 && end == run->rig.layer.size)
        return rig_zero(&run->rig, old, end - old, false, e);
    memset(run->buf, 0, end - old);
    return rig_write(&run->rig, old, run->buf, end - old, e);
}

void run_begin(struct image_run *run, size_t limit)
{
    struct pl_err e;

    run->rig = (struct rig){
        .driver = run->format->driver,
        .parent_format = run->format->parent_format,
        .parent_identity = run->format->parent_identity,
        .cache_bytes = run->shape->cache_bytes,
    };
    run->buf = calloc(1, 2 * run->shape->size + PL_MIB);
    must(pl_memory_storage(NULL, 0, limit, &run->rig.st, &e), &e);
    if (run->shape->data_file)
        must(pl_memory_storage(NULL, 0, limit, &run->rig.data, &e), &e);
}

void run_end(struct image_run *run)
{
    pl_storage_close(run->rig.st, NULL);
    pl_storage_close(run->rig.data, NULL);
    free(run->parent);
    free(run->buf);
}

int run_shape_tests(const void *frame, const char *group, const char *prefix,
                    void (*test)(void **state), const struct image_shape *shapes, size_t count,
                    bool (*wanted)(const struct image_shape *shape))
{
    PL_FREE struct CMUnitTest *tests = calloc(count, sizeof *tests);
    PL_FREE struct image_case *cases = calloc(count, sizeof *cases);
    PL_FREE char *names = malloc(count * NAME_BYTES);
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        char *name = names + n * NAME_BYTES;

        if (wanted && !wanted(&shapes[i]))
            continue;
        snprintf(name, NAME_BYTES, "%s%s", prefix, shapes[i].name);
        cases[n] = (struct image_case){ frame, &shapes[i] };
        tests[n] =
            (struct CMUnitTest){ .name = name, .test_func = test, .initial_state = &cases[n] };
        n++;
    }
    return n ? _cmocka_run_group_tests(group, tests, n, NULL, NULL) : 0;
}
