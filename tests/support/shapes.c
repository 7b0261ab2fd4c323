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

bool run_changes_parent(const struct image_run *run)
{
    return run->shape->parent && run->format->other_identity;
}

void run_make_parents(struct image_run *run, uint64_t len)
{
    run->parent_len = len;
    run->parent = calloc(1, len + 1);
    if (run_changes_parent(run))
        run->other = calloc(1, len + 1);
    run_use_parent(run, &run->rig, RUN_FIRST_PARENT);
}

void run_use_parent(const struct image_run *run, struct rig *rig, enum run_parent which)
{
    rig->parent = which == RUN_NO_PARENT      ? NULL
                  : which == RUN_OTHER_PARENT ? run->other
                                              : run->parent;
    rig->parent_len = rig->parent ? run->parent_len : 0;
}

static struct pl_parent_ref ref_to(const struct image_run *run, enum run_parent which)
{
    const struct image_format *format = run->format;
    const bool other = which == RUN_OTHER_PARENT;
    const char *identity = other ? format->other_identity : format->parent_identity;

    if (which == RUN_NO_PARENT)
        return (struct pl_parent_ref){ 0 };
    return (struct pl_parent_ref){
        .name = other ? "other" : "parent",
        .format = format->parent_format,
        .identity = identity && *identity ? identity : NULL,
    };
}

/* By the identity where there is one, else by the name. */
static bool names(const struct pl_layer *layer, const struct pl_parent_ref *ref)
{
    if (layer->parent_identity)
        return ref->identity && strcasestr(ref->identity, layer->parent_identity);
    return layer->parent_name && strcmp(layer->parent_name, ref->name) == 0;
}

enum run_parent run_parent_of(const struct image_run *run, const struct pl_layer *layer)
{
    if (!layer->parent_identity && !layer->parent_name)
        return RUN_NO_PARENT;
    for (enum run_parent which = RUN_FIRST_PARENT; which < RUN_PARENTS; which++) {
        const struct pl_parent_ref ref = ref_to(run, which);

        if (names(layer, &ref))
            return which;
    }
    fail_msg("the image names the parent '%s' (%s)", layer->parent_name ? layer->parent_name : "",
             layer->parent_identity ? layer->parent_identity : "");
    return RUN_NO_PARENT;
}

int run_set_parent(struct image_run *run, enum run_parent which, struct pl_err *e)
{
    const struct pl_parent_ref ref = ref_to(run, which);

    if (run->rig.driver->set_parent(run->rig.layer.state, &ref, e) < 0)
        return -1;
    run_use_parent(run, &run->rig, which);
    return 0;
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
    free(run->other);
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
