/* Random changes to qcow2 images that have internal snapshots, which come and go: a tree of states
 * against copies of them in memory.  See tests/support/random.h. */
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
#include "tests/support/env.h"
#include "tests/support/random.h"

static const struct image_shape shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", 768 * PL_KIB, 3000, .packed = true,
      .resize = true },
    { "clusters of 512 bytes, counts of 64 bits, a cache of 16 slices",
      "cluster_size=512,refcount_bits=64", 512 * PL_KIB, 3000, .packed = true, .resize = true,
      .cache_bytes = 1 },
    { "clusters of 512 bytes, counts of 1 bit", "cluster_size=512,refcount_bits=1", 512 * PL_KIB,
      2000, .resize = true },
    { "clusters of 1 KiB, counts of 2 bits, over a parent", "cluster_size=1k,refcount_bits=2",
      PL_MIB, 3000, .parent = true, .packed = true, .resize = true },
    { "clusters of 4 KiB, counts of 4 bits, zstd",
      "cluster_size=4k,refcount_bits=4,compression_type=zstd", 3 * PL_MIB, 3000, .packed = true,
      .resize = true },
    {
        "version 2",
        "compat=0.10,cluster_size=1k",
        PL_MIB,
        3000,
        .packed = true,
    },
    { "the defaults over a parent", "", 12 * PL_MIB, 2500, .parent = true, .packed = true,
      .resize = true },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", 3 * PL_MIB, 3000, .packed = true,
      .resize = true },
    { "extended L2 entries over a parent, counts of 8 bits, a cache of 16 slices",
      "cluster_size=16k,extended_l2=on,refcount_bits=8", 3 * PL_MIB, 3000, .parent = true,
      .packed = true, .resize = true, .cache_bytes = 1 },
};

#define STATES_MAX 10
#define ROUNDS 14

/* A state that a snapshot keeps. */
struct frozen {
    char name[40];
    uint8_t *disk;
    uint64_t size;
};

struct states {
    struct frozen item[STATES_MAX];
    unsigned count, next_name;
};

static uint64_t below(struct random_run *r, uint64_t n)
{
    return run_below(&r->base, n);
}

static void begin_states(struct random_run *r)
{
    r->own = calloc(1, sizeof(struct states));
}

static void keep(struct random_run *r, const char *name)
{
    struct states *states = r->own;
    struct frozen *f = &states->item[states->count++];

    snprintf(f->name, sizeof f->name, "%s", name);
    f->size = r->base.rig.layer.size;
    f->disk = malloc(f->size);
    memcpy(f->disk, r->model, f->size);
}

static void forget(struct states *states, unsigned i)
{
    free(states->item[i].disk);
    states->item[i] = states->item[--states->count];
}

/* The model is the state. */
static void go_to(struct random_run *r, const struct frozen *f)
{
    memcpy(r->model, f->disk, f->size);
    assert_int_equal(r->base.rig.layer.size, f->size);
}

static bool narrow(const struct random_run *r)
{
    return strstr(r->base.shape->options, "refcount_bits=1") ||
           strstr(r->base.shape->options, "refcount_bits=2") ||
           strstr(r->base.shape->options, "refcount_bits=4") ||
           strstr(r->base.shape->options, "refcount_bits=8");
}

static void create(struct random_run *r)
{
    struct pl_snapshot facts = { .date_sec = 1700000000, .icount = UINT64_MAX };
    struct rig *rig = &r->base.rig;
    struct states *states = r->own;
    struct pl_err e = { 0 };

    if (states->count == STATES_MAX)
        return;
    snprintf(facts.name, sizeof facts.name, "state%u", states->next_name++);
    if (pl_qcow2.snapshot_create(rig->layer.state, &facts, &e) == 0)
        keep(r, facts.name);
    else if (e.kind != PL_E_LIMIT || !narrow(r))
        must(-1, &e);
}

static void apply(struct random_run *r)
{
    struct states *states = r->own;
    struct rig *rig = &r->base.rig;
    const struct frozen *f = &states->item[below(r, states->count)];
    struct pl_err e;

    if (!states->count)
        return;
    must(pl_qcow2.snapshot_apply(rig->layer.state, f->name, &rig->layer.size, &e), &e);
    go_to(r, f);
}

static void delete_one(struct random_run *r)
{
    struct states *states = r->own;
    const unsigned i = (unsigned)below(r, states->count);
    struct pl_err e;

    if (!states->count)
        return;
    must(pl_qcow2.snapshot_delete(r->base.rig.layer.state, states->item[i].name, &e), &e);
    forget(states, i);
}

static void rename_one(struct random_run *r)
{
    struct states *states = r->own;
    struct frozen *f = &states->item[below(r, states->count)];
    char name[40];
    struct pl_err e;

    if (!states->count)
        return;
    snprintf(name, sizeof name, "%s%u", below(r, 2) ? "a" : "a longer name of state ",
             states->next_name++);
    must(pl_qcow2.snapshot_rename(r->base.rig.layer.state, f->name, name, &e), &e);
    snprintf(f->name, sizeof f->name, "%s", name);
}

/* The width of the counts, and a flag, while there are snapshots. */
static void amend(struct random_run *r)
{
    static const char *const texts[] = { "refcount_bits=16", "refcount_bits=32", "refcount_bits=64",
                                         "lazy_refcounts=on", "lazy_refcounts=off,compat=1.1" };
    struct pl_options *options;
    struct pl_err e;

    if (narrow(r) || strstr(r->base.shape->options, "0.10"))
        return;
    options = pl_options_new();
    must(pl_options_add(options, texts[below(r, PL_COUNT(texts))], &e), &e);
    must(pl_qcow2.amend(r->base.rig.layer.state, options, NULL, &e), &e);
    pl_options_free(options);
}

/* The same by the other program. */
static void let_qemu(struct random_run *r)
{
    PL_FREE char *path = test_tmp("changed");
    struct states *states = r->own;
    struct rig *rig = &r->base.rig;
    const uint64_t what = states->count ? below(r, 3) : 0;
    const unsigned i = (unsigned)below(r, states->count);
    const char *name = states->item[i].name;
    char made[40];
    struct pl_err e;

    if (!has_program("qemu-img") || narrow(r) || (what == 0 && states->count == STATES_MAX))
        return;
    if (r->base.parent)
        random_write_file("parent", r->base.parent, rig->parent_len);
    must(rig_flush(rig, &e), &e);
    rig_close(rig);
    must(rig_dump(rig->st, path, &e), &e);
    pl_storage_close(rig->st, NULL);
    snprintf(made, sizeof made, "state%u", states->next_name++);
    assert_int_equal(
        run_quietly("qemu-img snapshot -%c '%s' '%s'", "cad"[what], what ? name : made, path), 0);
    must(rig_load(path, SIZE_MAX / 2, &rig->st, &e), &e);
    must(rig_open(rig, &e), &e);
    if (what == 0)
        keep(r, made);
    else if (what == 1)
        go_to(r, &states->item[i]);
    else
        forget(states, i);
}

static void compare_list(struct random_run *r)
{
    const struct states *states = r->own;
    PL_FREE struct pl_snapshot *list = NULL;
    size_t count, found = 0;
    struct pl_err e;

    must(pl_qcow2.snapshots(r->base.rig.layer.state, &list, &count, &e), &e);
    assert_int_equal(count, states->count);
    for (size_t i = 0; i < count; i++)
        for (unsigned k = 0; k < states->count; k++)
            if (strcmp(list[i].name, states->item[k].name) == 0) {
                assert_int_equal(list[i].disk_size, states->item[k].size);
                found++;
            }
    assert_int_equal(found, count);
}

/* One of the states, opened as a disk. */
static void compare_state(struct random_run *r)
{
    const struct states *states = r->own;
    const struct frozen *f = &states->item[below(r, states->count)];
    const struct pl_open_args args = { .file = r->base.rig.st, .snapshot = f->name };
    struct rig rig = r->base.rig;
    struct pl_err e;

    if (!states->count)
        return;
    must(pl_qcow2.open(&args, &rig.layer, &e), &e);
    assert_int_equal(rig.layer.size, f->size);
    must(rig_read(&rig, 0, r->base.buf, f->size, &e), &e);
    assert_memory_equal(r->base.buf, f->disk, f->size);
    rig_close(&rig);
}

static void change_states(struct random_run *r)
{
    static void (*const steps[])(struct random_run *) = { create,     create, create,     apply,
                                                          delete_one, apply,  rename_one, amend };

    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint64_t writes = below(r, 6); writes; writes--)
            random_write(r);
        if (below(r, 9) == 0)
            let_qemu(r);
        else
            steps[below(r, PL_COUNT(steps))](r);
        random_compare(r);
        random_check_sound(r, true);
        compare_list(r);
        compare_state(r);
    }
}

/* Each state as the other program reads it, which gives it the size of the disk now. */
static void compare_states(struct random_run *r)
{
    PL_FREE char *folder = test_tmp(".");
    struct states *states = r->own;

    for (unsigned i = 0; i < states->count; i++) {
        random_write_file("model", states->item[i].disk, states->item[i].size);
        assert_int_equal(run_quietly("cd '%s' && qemu-img convert -f qcow2"
                                     " -l 'snapshot.name=%s' -O raw image raw &&"
                                     " cmp -n %llu raw model",
                                     folder, states->item[i].name,
                                     (unsigned long long)PL_MIN(states->item[i].size, r->size)),
                         0);
        free(states->item[i].disk);
    }
    free(states);
}

static const struct random_format format = {
    .image = { .group = "random_qcow2_snapshots",
               .driver = &pl_qcow2,
               .parent_format = "raw",
               .resize_how = PL_PREALLOC_METADATA },
    .short_parent = true,
    .leaks_nothing = true,
    .qemu = "qcow2",
    .qemu_check = true,
    .prepare = begin_states,
    .own_step = change_states,
    .finish = compare_states,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
