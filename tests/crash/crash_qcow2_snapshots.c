/* A crash at any instant of taking, applying, deleting and renaming internal snapshots, of amending
 * options, and of what is written between: the file has the state before or the one after, disk and
 * snapshots alike, and at most leaks.  Then every change of the file fails in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/shapes.h"

#define SNAPSHOTS_MAX 4
#define FILE_LIMIT (64 * PL_MIB)
#define SEEDS 8
#define QEMU_EVERY 97 /* cuts that the other program looks at too */

static const struct image_shape shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", 160 * PL_KIB, .packed = true },
    { "clusters of 512 bytes, a cache of 16 slices", "cluster_size=512,refcount_bits=64",
      160 * PL_KIB, .packed = true, .cache_bytes = 1 },
    { "clusters of 512 bytes, counts of 4 bits", "cluster_size=512,refcount_bits=4", 160 * PL_KIB,
      .packed = false },
    { "version 2", "compat=0.10,cluster_size=1k", 160 * PL_KIB, .packed = true },
    { "over a parent", "cluster_size=1k", 160 * PL_KIB, .parent = true, .packed = true,
      .resize = true },
    { "growing and shrinking", "cluster_size=512", 160 * PL_KIB, .packed = true, .resize = true },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", 512 * PL_KIB, .packed = true,
      .resize = true },
    { "bitmaps", "cluster_size=1k", 160 * PL_KIB, .bitmaps = true, .resize = true },
};

/* What the file must say. */
struct kept {
    char name[16];
    uint8_t *disk;
    uint64_t size;
};

struct world {
    struct kept disk;
    struct kept snapshot[SNAPSHOTS_MAX];
    unsigned count;
};

struct run {
    struct image_run base;
    struct world now;
    uint64_t cuts; /* looked at so far */
};

static struct kept copy_of(const struct kept *k, const char *name)
{
    struct kept copy = { .size = k->size, .disk = malloc(k->size + 1) };

    memcpy(copy.disk, k->disk, k->size);
    snprintf(copy.name, sizeof copy.name, "%s", name);
    return copy;
}

static struct world copy_world(const struct world *w)
{
    struct world copy = { .disk = copy_of(&w->disk, ""), .count = w->count };

    for (unsigned i = 0; i < w->count; i++)
        copy.snapshot[i] = copy_of(&w->snapshot[i], w->snapshot[i].name);
    return copy;
}

static void free_world(struct world *w)
{
    free(w->disk.disk);
    for (unsigned i = 0; i < w->count; i++)
        free(w->snapshot[i].disk);
}

/* ---- what a file has ---- */

/* The disk, or a snapshot of it, reads as `wanted` does. */
static bool reads_as(const struct run *r, struct pl_storage *st, const char *snapshot,
                     const struct kept *wanted)
{
    const struct pl_open_args args = { .file = st, .snapshot = snapshot };
    PL_FREE uint8_t *buf = malloc(wanted->size + 1);
    struct rig rig = r->base.rig;
    bool same;
    struct pl_err e;

    rig.st = st;
    must(pl_qcow2.open(&args, &rig.layer, &e), &e);
    same = rig.layer.size == wanted->size;
    if (same)
        must(rig_read(&rig, 0, buf, wanted->size, &e), &e);
    same = same && memcmp(buf, wanted->disk, wanted->size) == 0;
    rig_close(&rig);
    return same;
}

static bool has_snapshots(const struct run *r, struct pl_storage *st, const struct world *w)
{
    const struct pl_open_args args = { .file = st };
    PL_FREE struct pl_snapshot *list = NULL;
    struct pl_layer layer;
    size_t count;
    struct pl_err e;
    bool same;

    must(pl_qcow2.open(&args, &layer, &e), &e);
    must(pl_qcow2.snapshots(layer.state, &list, &count, &e), &e);
    same = count == w->count;
    for (size_t i = 0; same && i < count; i++)
        same = strcmp(list[i].name, w->snapshot[i].name) == 0;
    pl_qcow2.close(layer.state);
    rig_free_texts(&layer);
    for (size_t i = 0; same && i < count; i++)
        same = reads_as(r, st, w->snapshot[i].name, &w->snapshot[i]);
    return same;
}

static bool is_world(const struct run *r, struct pl_storage *st, const struct world *w)
{
    return has_snapshots(r, st, w) && reads_as(r, st, NULL, &w->disk);
}

/* Nothing but leaks; a repair leaves not even those. */
static void check_sound(const struct run *r, struct pl_storage *st, enum pl_repair repair)
{
    struct rig rig = r->base.rig;
    struct pl_check_result result = { 0 };
    struct pl_err e;

    rig.st = st;
    rig.read_only = repair == PL_REPAIR_NONE;
    must(rig_open(&rig, &e), &e);
    must(rig_check(&rig, repair, &result, &e), &e);
    if (result.corruptions || result.corruptions_fixed || result.check_errors ||
        (result.leaks && repair != PL_REPAIR_NONE))
        fail_msg("check: %llu corruptions, %llu leaks",
                 (unsigned long long)(result.corruptions + result.corruptions_fixed),
                 (unsigned long long)result.leaks);
    rig_close(&rig);
}

static void let_qemu_check(struct run *r, struct pl_storage *st)
{
    PL_FREE char *path = test_tmp("cut");
    struct pl_err e;
    int status;

    if (r->cuts++ % QEMU_EVERY || !has_program("qemu-img"))
        return;
    must(rig_dump(st, path, &e), &e);
    status = run_quietly("qemu-img check -f qcow2 '%s'", path);
    if (status != 0 && status != 3)
        fail_msg("qemu-img check: status %d", status);
}

/* What a crash left is the one or the other (null: only the snapshots count). */
static void look_at(struct run *r, uint8_t *bytes, size_t len, const struct world *old,
                    const struct world *new)
{
    struct pl_storage *st;
    struct pl_err e;

    must(pl_memory_storage(bytes, len, FILE_LIMIT, &st, &e), &e);
    check_sound(r, st, PL_REPAIR_NONE);
    let_qemu_check(r, st);
    for (unsigned turn = 0; turn < 2; turn++) {
        const bool right =
            new ? is_world(r, st, old) || is_world(r, st, new) : has_snapshots(r, st, old);

        if (!right)
            fail_msg("neither the state before nor the one after (turn %u)", turn);
        if (turn == 0)
            check_sound(r, st, PL_REPAIR_LEAKS);
    }
    pl_storage_close(st, NULL);
}

static void look_at_cuts(struct run *r, uint64_t from, const struct world *old,
                         const struct world *new)
{
    struct pl_storage *st = r->base.rig.st;
    const uint64_t end = pl_flaky_operation_count(st);

    for (uint64_t n = from; n <= end; n++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            uint8_t *bytes;
            size_t len;

            pl_flaky_cut(st, n, seed, &bytes, &len);
            look_at(r, bytes, len, old, new);
            free(bytes);
        }
}

/* ---- the steps ---- */

/* One change of snapshots. */
struct step {
    enum { CREATE, APPLY, DELETE, RENAME, AMEND } what;
    const char *name, *new_name; /* AMEND: the options */
};

static int amend(struct rig *rig, const char *text, struct pl_err *e)
{
    struct pl_options *options = pl_options_new();
    int r = pl_options_add(options, text, e);

    if (r == 0)
        r = pl_qcow2.amend(rig->layer.state, options, NULL, e);
    pl_options_free(options);
    return r;
}

static int take(struct rig *rig, const struct step *s, struct pl_err *e)
{
    struct pl_snapshot facts = { .date_sec = 1700000000, .icount = UINT64_MAX };
    void *state = rig->layer.state;

    snprintf(facts.name, sizeof facts.name, "%s", s->name);
    switch (s->what) {
    case CREATE:
        return pl_qcow2.snapshot_create(state, &facts, e);
    case APPLY:
        return pl_qcow2.snapshot_apply(state, s->name, &rig->layer.size, e);
    case DELETE:
        return pl_qcow2.snapshot_delete(state, s->name, e);
    case AMEND:
        return amend(rig, s->name, e);
    default:
        return pl_qcow2.snapshot_rename(state, s->name, s->new_name, e);
    }
}

/* What the file must say after it. */
static void foresee(struct world *w, const struct step *s)
{
    unsigned i = 0;

    if (s->what == AMEND)
        return;
    while (i < w->count && strcmp(w->snapshot[i].name, s->name) != 0)
        i++;
    if (s->what == CREATE) {
        w->snapshot[w->count++] = copy_of(&w->disk, s->name);
    } else if (s->what == APPLY) {
        free(w->disk.disk);
        w->disk = copy_of(&w->snapshot[i], "");
    } else if (s->what == RENAME) {
        snprintf(w->snapshot[i].name, sizeof w->snapshot[i].name, "%s", s->new_name);
    } else {
        free(w->snapshot[i].disk);
        w->count--;
        memmove(&w->snapshot[i], &w->snapshot[i + 1], (w->count - i) * sizeof *w->snapshot);
    }
}

/* The n-th change from the beginning of the step fails: false when there are fewer. */
static bool fail_step(struct run *r, const uint8_t *bytes, size_t len, const struct step *s,
                      uint64_t n, const struct world *new)
{
    struct rig rig = r->base.rig;
    struct pl_check_result result;
    struct pl_err e;
    uint8_t *left;
    bool failed;

    must(pl_flaky_storage(bytes, len, FILE_LIMIT, &rig.st, &e), &e);
    must(rig_open(&rig, &e), &e);
    pl_flaky_fail_at(rig.st, n, n % 2 ? ENOSPC : EIO, n % 3 == 0);
    failed = take(&rig, s, &e) < 0;
    pl_flaky_fail_at(rig.st, UINT64_MAX, 0, false);
    if (failed && take(&rig, s, &e) == 0) { /* the image is still good */
        must(rig_flush(&rig, &e), &e);
        must(rig_check(&rig, PL_REPAIR_NONE, &result, &e), &e);
        assert_int_equal(result.corruptions, 0);
        rig_close(&rig);
        assert_true(is_world(r, rig.st, new));
    } else {
        rig_close(&rig);
        pl_flaky_cut(rig.st, pl_flaky_operation_count(rig.st), n % 5, &left, &len);
        look_at(r, left, len, &r->now, new);
        free(left);
    }
    pl_storage_close(rig.st, NULL);
    return failed;
}

static void change(struct run *r, const struct step *s)
{
    struct world new = copy_world(&r->now);
    struct rig *rig = &r->base.rig;
    uint64_t from, n = 0;
    struct pl_err e;
    uint8_t *bytes;
    size_t len;

    must(rig_flush(rig, &e), &e);
    from = pl_flaky_operation_count(rig->st);
    pl_flaky_cut(rig->st, from, 0, &bytes, &len);
    foresee(&new, s);
    must(take(rig, s, &e), &e);
    look_at_cuts(r, from, &r->now, &new);
    while (fail_step(r, bytes, len, s, n, &new))
        n++;
    assert_true(n > 0);
    free(bytes);
    free_world(&r->now);
    r->now = new;
}

static void write_some(struct run *r, unsigned times)
{
    struct rig *rig = &r->base.rig;
    struct pl_err e;

    for (unsigned i = 0; i < times; i++) {
        const bool packed = r->base.shape->packed && run_below(&r->base, 3) == 0;
        const uint64_t unit = packed ? rig->layer.cluster_size : 512;
        uint64_t at, len;

        run_choose(&r->base, unit, packed ? 4 : 40, &at, &len);
        memset(r->base.buf, (int)run_below(&r->base, 255) + 1, len);
        if (packed)
            must(rig_write_packed(rig, at, r->base.buf, len, &e), &e);
        else
            must(rig_write(rig, at, r->base.buf, len, &e), &e);
        memcpy(r->now.disk.disk + at, r->base.buf, len);
    }
}

static void discard_some(struct run *r)
{
    struct rig *rig = &r->base.rig;
    uint64_t at, len;
    struct pl_err e;

    run_choose(&r->base, rig->layer.cluster_size, 30, &at, &len);
    must(pl_qcow2.discard(rig->layer.state, at, len, &e), &e);
    must(rig_read(rig, 0, r->now.disk.disk, r->now.disk.size, &e), &e);
}

static void zero_some(struct run *r)
{
    struct rig *rig = &r->base.rig;
    uint64_t at, len;
    struct pl_err e;

    run_choose(&r->base, rig->layer.cluster_size, 8, &at, &len);
    must(rig_zero(rig, at, len, run_below(&r->base, 2), &e), &e);
    memset(r->now.disk.disk + at, 0, len);
}

/* What is written keeps the snapshots at every instant. */
static void work(struct run *r)
{
    struct rig *rig = &r->base.rig;
    uint64_t from;
    struct pl_err e;

    must(rig_flush(rig, &e), &e);
    from = pl_flaky_operation_count(rig->st);
    write_some(r, 3);
    discard_some(r);
    zero_some(r);
    must(rig_flush(rig, &e), &e);
    look_at_cuts(r, from, &r->now, NULL);
}

static void resize(struct run *r, uint64_t size)
{
    const uint64_t old = r->now.disk.size;
    struct pl_err e;

    if (!r->base.shape->resize)
        return;
    must(rig_resize(&r->base.rig, size, PL_PREALLOC_OFF, &e), &e);
    must(run_hide_parent(&r->base, old, &e), &e);
    must(rig_flush(&r->base.rig, &e), &e);
    r->now.disk.disk = realloc(r->now.disk.disk, size);
    if (size > old)
        memset(r->now.disk.disk + old, 0, size - old);
    r->now.disk.size = size;
}

static void store_bitmap(struct run *r)
{
    struct pl_bitmap bitmap = { .name = "bits", .granularity = 512, .enabled = true };
    const uint64_t len = pl_div_up(r->base.rig.layer.size / 512, 8);
    struct pl_err e;

    if (!r->base.shape->bitmaps)
        return;
    memset(r->base.buf, 0x55, len);
    must(pl_qcow2.bitmap_store(r->base.rig.layer.state, &bitmap, r->base.buf, len, &e), &e);
    snprintf(bitmap.name, sizeof bitmap.name, "quiet");
    bitmap.enabled = false;
    must(pl_qcow2.bitmap_store(r->base.rig.layer.state, &bitmap, r->base.buf, len, &e), &e);
}

static void make_parent(struct run *r)
{
    PL_FREE char *path = test_tmp("parent");
    struct rig *rig = &r->base.rig;
    FILE *file = fopen(path, "wb");

    rig->parent_len = r->base.shape->size;
    rig->parent = r->base.parent = malloc(rig->parent_len);
    memset(r->base.parent, 'p', rig->parent_len);
    assert_non_null(file);
    assert_int_equal(fwrite(rig->parent, 1, rig->parent_len, file), rig->parent_len);
    assert_int_equal(fclose(file), 0);
}

/* A new image in a storage that remembers, open. */
static void begin(struct run *r)
{
    const struct image_shape *shape = r->base.shape;
    struct rig *rig = &r->base.rig;
    struct pl_err e;

    run_begin(&r->base, FILE_LIMIT);
    pl_storage_close(rig->st, NULL);
    must(pl_flaky_storage(NULL, 0, FILE_LIMIT, &rig->st, &e), &e);
    if (shape->parent)
        make_parent(r);
    must(rig_create(rig, shape->options, shape->size, &e), &e);
    must(rig_open(rig, &e), &e);
    r->now.disk = (struct kept){ .size = shape->size, .disk = malloc(shape->size) };
    must(rig_read(rig, 0, r->now.disk.disk, shape->size, &e), &e);
}

/* Version 2 has counts of one width, no bitmaps and no extended entries; its snapshots have no
 * clusters of zeros. */
static void amend_version(struct run *r)
{
    static const struct step up = { AMEND, "compat=1.1,lazy_refcounts=on", NULL };
    static const struct step down = { AMEND, "compat=0.10,refcount_bits=16", NULL };

    if (strstr(r->base.shape->options, "extended_l2") || r->base.shape->bitmaps)
        return;
    zero_some(r);
    zero_some(r);
    change(r, &down);
    change(r, &up);
}

static void crash_shape(void **state)
{
    static const struct step early[] = { { CREATE, "empty", NULL },
                                         { AMEND, "compat=1.1,refcount_bits=32", NULL },
                                         { AMEND, "refcount_bits=8", NULL },
                                         { AMEND, "lazy_refcounts=on", NULL } };
    const bool version_2 = strstr(((const struct image_case *)*state)->shape->options, "0.10");
    static const struct step late[] = {
        { CREATE, "two", NULL },           { RENAME, "one", "a longer name" },
        { APPLY, "a longer name", NULL },  { CREATE, "three", NULL },
        { DELETE, "a longer name", NULL }, { APPLY, "two", NULL },
        { DELETE, "empty", NULL },         { DELETE, "three", NULL },
        { DELETE, "two", NULL },
    };
    const struct image_case *c = *state;
    struct run r = { .base = { .format = c->frame, .shape = c->shape } };
    struct pl_err e;

    r.base.random = test_number("CRASH_SEED", 1);
    begin(&r);
    change(&r, &early[0]);
    for (size_t i = 1; i < PL_COUNT(early) && !version_2; i++)
        change(&r, &early[i]);
    write_some(&r, 12);
    store_bitmap(&r);
    change(&r, &(struct step){ CREATE, "one", NULL });
    work(&r);
    resize(&r, c->shape->size / 2);
    work(&r);
    for (size_t i = 0; i < PL_COUNT(late); i++) {
        change(&r, &late[i]);
        if (i % 2 == 0)
            work(&r);
        if (i == 3)
            resize(&r, 2 * c->shape->size);
    }
    amend_version(&r);
    must(rig_finish(&r.base.rig, &e), &e);
    assert_true(is_world(&r, r.base.rig.st, &r.now));
    free_world(&r.now);
    run_end(&r.base);
}

int main(void)
{
    static const struct image_format format = { .group = "crash_qcow2_snapshots",
                                                .driver = &pl_qcow2,
                                                .parent_format = "raw" };

    return run_shape_tests(&format, format.group, "", crash_shape, shapes, PL_COUNT(shapes), NULL);
}
