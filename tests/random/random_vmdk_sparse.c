/* Random work on sparse VMDK extents, compared with a model in memory; every now and then the
 * extent is checked, closed and opened again.
 *
 * RANDOM_SEED in the environment chooses another run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/qcow2_rig.h"
#include "tests/support/vmdk_rig.h"

#define KIB UINT64_C(1024)
#define FILE_LIMIT (64 << 20)
#define RUNS 3
#define STEPS 500

static const struct shape {
    const char *name;
    struct vmdk_sparse_new what;
    bool parent, resize;
    uint32_t cache_bytes;
} shapes[] = {
    { "hosted", { .size = 6000 * KIB, .grain_size = 4096 }, .parent = false },
    { "hosted, a cache of 16 sectors",
      { .size = 9000 * KIB, .grain_size = 4096 },
      .cache_bytes = 1 },
    { "hosted over a parent", { .size = 700 * KIB + 512, .grain_size = 8192 }, .parent = true },
    { "hosted with zeroed grains over a parent",
      { .size = 5000 * KIB, .grain_size = 4096, .zeroed_grain = true },
      .parent = true },
    { "hosted, growing", { .size = 9000 * KIB, .grain_size = 4096 }, .resize = true },
    { "COWD", { .size = 3000 * KIB, .grain_size = 512, .cowd = true }, .cache_bytes = 1 },
    { "COWD over a parent",
      { .size = 700 * KIB, .grain_size = 1024, .cowd = true },
      .parent = true },
    { "COWD, growing", { .size = 9000 * KIB, .grain_size = 512, .cowd = true }, .resize = true },
};

struct run {
    const struct shape *shape;
    struct extent_rig rig;
    uint8_t *model, *parent, *buf;
    uint64_t random;
};

static uint64_t below(struct run *r, uint64_t n)
{
    return n ? rig_random(&r->random) % n : 0;
}

static void must(int result, const struct pl_err *e)
{
    if (result < 0)
        fail_msg("%s", e->msg);
}

static void compare(struct run *r, uint64_t at, uint64_t len)
{
    struct pl_err e;

    must(extent_read(&r->rig, at, r->buf, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        if (r->buf[i] != r->model[at + i])
            fail_msg("byte %llu is %02x instead of %02x", (unsigned long long)(at + i), r->buf[i],
                     r->model[at + i]);
}

static void choose(struct run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t most = below(r, 4) ? 3 * r->rig.x.granule : 300 * KIB;

    *at = below(r, r->rig.x.size);
    *len = 1 + below(r, PL_MIN(most, r->rig.x.size - *at));
}

static void do_write(struct run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose(r, &at, &len);
    memset(r->model + at, (int)below(r, 256), len);
    r->model[at] = (uint8_t)below(r, 256);
    must(extent_write(&r->rig, at, r->model + at, len, &e), &e);
}

static void do_zero(struct run *r)
{
    const uint64_t granule = r->rig.x.granule;
    struct pl_err e;
    uint64_t at, len, end;

    choose(r, &at, &len);
    end = PL_MIN(pl_round_up(at + len, granule), r->rig.x.size);
    at = pl_round_down(at, granule);
    if (below(r, 2)) {
        must(extent_zero(&r->rig, at, end - at, below(r, 2), &e), &e);
        memset(r->model + at, 0, end - at);
        return;
    }
    must(r->rig.x.ops->discard(r->rig.x.state, at, end - at, &e), &e);
    /* Parts may be skipped; what is not skipped is zeros. */
    must(extent_read(&r->rig, at, r->buf, end - at, &e), &e);
    for (uint64_t i = 0; i < end - at; i++)
        if (r->buf[i] && r->buf[i] != r->model[at + i])
            fail_msg("a discarded byte is %02x", r->buf[i]);
    memcpy(r->model + at, r->buf, end - at);
}

static void do_resize(struct run *r)
{
    const uint64_t old = r->rig.x.size;
    struct pl_err e;

    r->rig.x.size += pl_round_down(below(r, (r->shape->what.size - old) / 2), 512);
    must(r->rig.x.ops->resize(r->rig.x.state, r->rig.x.size,
                              below(r, 3) ? PL_PREALLOC_OFF : PL_PREALLOC_FULL, &e),
         &e);
}

static void reopen(struct run *r)
{
    const uint64_t size = r->rig.x.size;
    struct pl_err e;

    must(r->rig.x.ops->flush(r->rig.x.state, &e), &e);
    extent_close(&r->rig);
    must(extent_open(&r->rig, &e), &e);
    assert_int_equal(r->rig.x.size, size);
}

static void do_whole(struct run *r)
{
    struct pl_check_result result;
    struct pl_err e;
    uint64_t freed;

    if (below(r, 2))
        must(r->rig.x.ops->compact(r->rig.x.state, NULL, &freed, &e), &e);
    must(extent_check(&r->rig, below(r, 2) ? PL_REPAIR_ALL : PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.corruptions_fixed + result.check_errors, 0);
    compare(r, 0, r->rig.x.size);
    if (below(r, 2))
        reopen(r);
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 100);

    if (n < 2 && r->shape->resize)
        do_resize(r);
    else if (n < 60)
        do_write(r);
    else if (n < 85)
        do_zero(r);
    else if (n < 88)
        do_whole(r);
    else if (n < 92)
        reopen(r);
    else
        compare(r, below(r, r->rig.x.size), 1);
}

static void run_shape(void **state)
{
    const struct shape *shape = *state;
    const char *text = getenv("RANDOM_SEED");

    for (unsigned i = 0; i < RUNS; i++) {
        struct vmdk_sparse_new what = shape->what;
        struct run r = { .shape = shape, .random = (text ? strtoull(text, NULL, 0) : 1) + i };
        struct pl_err e;

        print_message("# RANDOM_SEED=%llu\n", (unsigned long long)r.random);
        r.model = calloc(1, what.size);
        r.buf = malloc(what.size);
        r.rig.cache_bytes = shape->cache_bytes;
        if (shape->parent) {
            r.rig.parent_len = what.size / 2;
            r.rig.parent = r.parent = malloc(r.rig.parent_len);
            memset(r.parent, 0x99, r.rig.parent_len);
            memcpy(r.model, r.parent, r.rig.parent_len);
        }
        if (shape->resize)
            what.size = pl_round_down(what.size / 5, 512);
        must(pl_memory_storage(NULL, 0, FILE_LIMIT, &r.rig.st, &e), &e);
        must(vmdk_sparse_create(r.rig.st, &what, &e), &e);
        must(extent_open(&r.rig, &e), &e);
        for (unsigned n = 0; n < STEPS; n++)
            step(&r);
        compare(&r, 0, r.rig.x.size);
        extent_close(&r.rig);
        pl_storage_close(r.rig.st, NULL);
        free(r.model);
        free(r.parent);
        free(r.buf);
    }
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes)];

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = run_shape,
                                        .initial_state = (void *)&shapes[i] };
    return _cmocka_run_group_tests("random_vmdk_sparse", tests, PL_COUNT(shapes), NULL, NULL);
}
