/* Random work on a tree of images through the public interface, against a copy of every disk in
 * memory: writes, zeros and discards to the youngest, new children, commits into the parent and
 * into any base, rebases onto any other image and onto nothing.  After each step that moves content
 * all of them read as they should; what would change another image's content is refused.  At the
 * end qemu-img, where it knows the formats, reads the same bytes and finds no error.
 *
 * The seed is printed; SEED=n repeats a run, STEPS=n makes it longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "include/platter.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/programs.h"
#include "tests/support/rig.h"

#define LARGEST (6u << 20)
#define IMAGES_MAX 7

struct kind {
    const char *name;
    const char *root_format;        /* of the oldest image, and of the unrelated one */
    const char *format;             /* of the others */
    const char *options;            /* of the others */
    const struct pl_driver *driver; /* of the others, where it must be asked what it can */
    bool one_size;                  /* children are as large as their parents */
};

static const struct kind kinds[] = {
    { "qcow2 over raw", "raw", "qcow2", "", NULL, false },
    { "qcow2, clusters of 512 bytes", "qcow2", "qcow2", "cluster_size=512", NULL, false },
    { "qcow2, version 2", "qcow2", "qcow2", "compat=0.10,cluster_size=4k", NULL, false },
    { "qcow2, extended L2 entries, over raw", "raw", "qcow2", "extended_l2=on,cluster_size=16k",
      NULL, false },
    { "qcow2 over VDI", "vdi", "qcow2", "cluster_size=4k", NULL, false },
    { "qcow2 over VMDK", "vmdk", "qcow2", "cluster_size=64k", NULL, false },
    { "qcow2 over VHDX", "vhdx", "qcow2", "cluster_size=2M", NULL, false },
    { "qcow2 over VHD", "vhd", "qcow2", "cluster_size=8k", NULL, false },
    { "VMDK", "vmdk", "vmdk", "", &pl_vmdk, true },
    { "VDI", "vdi", "vdi", "", &pl_vdi, true },
    { "VHD", "vhd", "vhd", "", &pl_vhd, true },
    { "VHDX", "vhdx", "vhdx", "block_size=1M", &pl_vhdx, true },
};

struct disk {
    char name[24];
    const char *format;
    uint8_t *model; /* what it shows: LARGEST bytes, zeros behind its size; null: there is none */
    uint64_t size;
    struct disk *parent; /* null: none */
};

struct run {
    const struct kind *kind;
    struct disk disk[IMAGES_MAX];
    unsigned made; /* images so far: each has a name of its own */
    uint8_t *buf;  /* LARGEST bytes */
    uint64_t random;
    unsigned commits, rebases, refused; /* that were done */
};

static uint64_t below(struct run *r, uint64_t n)
{
    return rig_below(&r->random, n);
}

static char *path_of(const struct disk *d)
{
    return test_tmp(d->name);
}

static struct pl_image *open_disk(const struct disk *d, bool writable)
{
    const struct pl_open_options options = { .format = d->format, .writable = writable };
    PL_FREE char *path = path_of(d);
    struct pl_image *img;
    struct pl_err e = { 0 };

    must(pl_open(path, &options, &img, &e), &e);
    assert_int_equal(pl_size(img), d->size);
    return img;
}

/* ---- the tree ---- */

static bool builds_on(const struct disk *d, const struct disk *base)
{
    for (; d; d = d->parent)
        if (d == base)
            return true;
    return false;
}

static bool has_children(struct run *r, const struct disk *d)
{
    for (unsigned i = 0; i < IMAGES_MAX; i++)
        if (r->disk[i].model && r->disk[i].parent == d)
            return true;
    return false;
}

/* Any of those there are. */
static struct disk *choose(struct run *r)
{
    struct disk *d;

    do
        d = &r->disk[below(r, IMAGES_MAX)];
    while (!d->model);
    return d;
}

/* ---- content ---- */

static void choose_range(struct run *r, uint64_t size, uint64_t *at, uint64_t *len)
{
    static const uint64_t units[] = { 1, 512, 4096, 65536 };
    const uint64_t unit = units[below(r, PL_COUNT(units))];
    const uint64_t most = below(r, 8) == 0 ? size : PL_MIN(size, 200000);
    const uint64_t wanted = pl_round_up(1 + below(r, most), unit);

    *at = pl_round_down(below(r, size), unit);
    *len = PL_MIN(wanted, size - *at);
}

static void change(struct run *r, struct disk *d, struct pl_image *img)
{
    const unsigned what = (unsigned)below(r, 10);
    struct pl_err e = { 0 };
    uint64_t at, len;

    choose_range(r, d->size, &at, &len);
    if (what < 6) {
        for (uint64_t i = 0; i < len; i++)
            d->model[at + i] = (uint8_t)(r->random + (i >> 9));
        must(pl_write(img, at, d->model + at, len, &e), &e);
    } else if (what < 9) {
        memset(d->model + at, 0, len);
        must(pl_zero(img, at, len, below(r, 2), &e), &e);
    } else { /* what is discarded may become zeros or stay */
        must(pl_discard(img, at, len, &e), &e);
        must(pl_read(img, at, d->model + at, len, &e), &e);
    }
}

static void change_some(struct run *r, struct disk *d)
{
    struct pl_image *img;
    struct pl_err e = { 0 };

    if (has_children(r, d))
        return;
    img = open_disk(d, true);
    for (uint64_t n = 1 + below(r, 8); n > 0; n--)
        change(r, d, img);
    must(pl_close(img, &e), &e);
}

static void compare(struct run *r, const struct disk *d)
{
    struct pl_image *img = open_disk(d, false);
    struct pl_err e = { 0 };

    must(pl_read(img, 0, r->buf, d->size, &e), &e);
    for (uint64_t i = 0; i < d->size; i++)
        if (r->buf[i] != d->model[i])
            fail_msg("%s: byte 0x%" PRIx64 " is 0x%02x instead of 0x%02x", d->name, i, r->buf[i],
                     d->model[i]);
    must(pl_close(img, &e), &e);
}

static void compare_all(struct run *r)
{
    for (unsigned i = 0; i < IMAGES_MAX; i++)
        if (r->disk[i].model)
            compare(r, &r->disk[i]);
}

/* ---- images come and go ---- */

static void create(struct run *r, struct disk *d, struct disk *parent)
{
    PL_FREE char *path = path_of(d);
    struct pl_options *list = pl_options_new();
    const struct pl_create_options options = {
        .format = d->format,
        .size = d->size,
        .size_given = true,
        .options = list,
        .parent = parent ? parent->name : NULL,
        .parent_format = parent ? parent->format : NULL,
    };
    struct pl_err e = { 0 };

    if (parent && *r->kind->options)
        must(pl_options_add(list, r->kind->options, &e), &e);
    must(pl_create(path, &options, &e), &e);
    pl_options_free(list);
}

static uint64_t choose_size(struct run *r, const struct disk *parent)
{
    if (r->kind->one_size)
        return 4 * PL_MIB;
    if (parent && below(r, 2))
        return parent->size;
    return pl_round_up(1 + below(r, LARGEST - 64 * PL_KIB), 512);
}

/* An image in the first free place, if there is one, with some content. */
static void add(struct run *r, struct disk *parent)
{
    struct disk *d = r->disk;

    while (d < r->disk + IMAGES_MAX && d->model)
        d++;
    if (d == r->disk + IMAGES_MAX)
        return;
    *d = (struct disk){ .format = parent ? r->kind->format : r->kind->root_format,
                        .size = choose_size(r, parent),
                        .parent = parent,
                        .model = calloc(1, LARGEST) };
    assert_non_null(d->model);
    snprintf(d->name, sizeof d->name, "%zu-%u.%s", (size_t)(r->kind - kinds), r->made++, d->format);
    create(r, d, parent);
    if (parent)
        memcpy(d->model, parent->model, PL_MIN(d->size, parent->size));
    change_some(r, d);
}

static void drop(struct run *r, struct disk *d)
{
    PL_FREE char *path = path_of(d);

    if (has_children(r, d))
        return;
    unlink(path);
    free(pl_take(d->model));
}

static unsigned count(const struct run *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < IMAGES_MAX; i++)
        n += r->disk[i].model != NULL;
    return n;
}

/* ---- commit and rebase ---- */

/* Whether the work was done.  It may be refused: as `wanted` says, or because the format cannot;
 * then nothing has changed. */
static bool done(struct run *r, int result, const struct pl_err *e, bool refused)
{
    if (result < 0 && e->kind != PL_E_UNSUPPORTED && (!refused || e->kind != PL_E_INVALID))
        fail_msg("%s", e->msg);
    if (result == 0 && refused)
        fail_msg("it was not refused");
    if (result < 0) {
        r->refused += e->kind == PL_E_INVALID;
        compare_all(r);
    }
    return result == 0;
}

/* Whether an image outside the chain from `d` down to `base` builds on one that changes. */
static bool is_in_the_way(struct run *r, struct disk *d, struct disk *base)
{
    for (unsigned i = 0; i < IMAGES_MAX; i++) {
        const struct disk *other = &r->disk[i];

        if (other->model && other->parent && other->parent != d && builds_on(d, other->parent) &&
            builds_on(other->parent, base) && !builds_on(d, other))
            return true;
    }
    return false;
}

/* What the base shows once the child is in it. */
static void fold(struct disk *base, const struct disk *d)
{
    memcpy(base->model, d->model, d->size);
    base->size = PL_MAX(base->size, d->size);
}

static void commit(struct run *r, struct disk *d)
{
    const struct pl_commit_options options = { .format = d->format,
                                               .keep = below(r, 4) == 0,
                                               .workers = 1 + (unsigned)below(r, 3) };
    PL_FREE char *path = path_of(d);
    struct pl_commit_result result;
    struct pl_err e = { 0 };

    if (!d->parent ||
        !done(r, pl_commit(path, &options, &result, &e), &e, is_in_the_way(r, d, d->parent)))
        return;
    assert_int_equal(result.emptied, !options.keep);
    free(result.base);
    r->commits++;
    fold(d->parent, d);
    compare_all(r);
    if (below(r, 2))
        drop(r, d);
}

/* d stands on the base from now on, and those between them are gone. */
static void skip_between(struct run *r, struct disk *d, struct disk *base)
{
    struct disk *between = d->parent;

    d->parent = base;
    while (between != base) {
        struct disk *next = between->parent;

        drop(r, between);
        between = next;
    }
}

static void commit_deep(struct run *r, struct disk *d)
{
    PL_FREE char *path = path_of(d);
    struct disk *base = d->parent;
    struct pl_commit_options options = { .format = d->format };
    struct pl_rebase_options rename = { .format = d->format, .unsafe = true };
    struct pl_commit_result result;
    struct pl_rebase_result renamed;
    struct pl_err e = { 0 };

    while (base && base->parent && below(r, 3))
        base = base->parent;
    if (!base)
        return;
    options.base = rename.parent = base->name;
    rename.parent_format = base->format;
    if (!done(r, pl_commit(path, &options, &result, &e), &e, is_in_the_way(r, d, base)))
        return;
    assert_false(result.emptied);
    free(result.base);
    r->commits++;
    fold(base, d);
    compare(r, d);
    must(pl_rebase(path, &rename, &renamed, &e), &e);
    skip_between(r, d, base);
    compare_all(r);
}

static void rebase(struct run *r, struct disk *d)
{
    struct disk *parent = below(r, 5) ? choose(r) : NULL;
    const struct pl_rebase_options options = { .format = d->format,
                                               .parent = parent ? parent->name : "",
                                               .parent_format = parent ? parent->format : NULL,
                                               .workers = 1 + (unsigned)below(r, 3) };
    PL_FREE char *path = path_of(d);
    struct pl_rebase_result result;
    struct pl_err e = { 0 };

    if (!done(r, pl_rebase(path, &options, &result, &e), &e, parent && builds_on(parent, d)))
        return;
    r->rebases++;
    d->parent = parent;
    compare_all(r);
}

static void step(struct run *r)
{
    struct disk *d = choose(r);

    switch (below(r, 9)) {
    case 0:
        add(r, below(r, 8) ? d : NULL);
        break;
    case 1:
        commit(r, d);
        break;
    case 2:
        commit_deep(r, d);
        break;
    case 3:
    case 4:
        rebase(r, d);
        break;
    case 5:
        if (count(r) > 3)
            drop(r, d);
        break;
    default:
        change_some(r, d);
        compare(r, d);
    }
    if (count(r) < 3)
        add(r, choose(r));
}

/* ---- at the end ---- */

/* QEMU reads differencing disks of VMDK and qcow2 alone. */
static bool is_for_qemu(const struct disk *d)
{
    for (; d->parent; d = d->parent)
        if (strcmp(d->format, "qcow2") != 0 && strcmp(d->format, "vmdk") != 0)
            return false;
    return true;
}

static void qemu_img_agrees(const struct disk *d)
{
    PL_FREE char *path = path_of(d);
    PL_FREE char *raw = test_tmp("model.raw");
    const char *format = strcmp(d->format, "vhd") == 0 ? "vpc" : d->format;
    const bool checked = strcmp(d->format, "raw") != 0 && strcmp(d->format, "vhd") != 0;
    FILE *file = fopen(raw, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(d->model, 1, d->size, file), d->size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(
        run_quietly("cd \"$(dirname '%s')\" && qemu-img compare -q -f %s -F raw '%s' '%s'", path,
                    format, path, raw),
        0);
    if (checked)
        assert_int_equal(run_quietly("qemu-img check -q -f %s '%s'", format, path), 0);
}

static void end(struct run *r)
{
    compare_all(r);
    for (unsigned i = 0; i < IMAGES_MAX; i++)
        if (r->disk[i].model && is_for_qemu(&r->disk[i]) && has_program("qemu-img"))
            qemu_img_agrees(&r->disk[i]);
    for (unsigned i = 0; i < IMAGES_MAX; i++)
        for (unsigned k = 0; k < IMAGES_MAX; k++)
            if (r->disk[k].model)
                drop(r, &r->disk[k]);
    free(r->buf);
}

static void all_read_as_they_should(void **state)
{
    struct run r = { .kind = *state };
    const unsigned steps = (unsigned)test_number("STEPS", 150);
    const struct pl_driver *driver = r.kind->driver;

    if (driver && (!driver->set_parent || !driver->forget))
        TEST_SKIP("%s: its parent cannot be changed", driver->name);
    r.random = test_number("SEED", (uint64_t)time(NULL) * 2654435761u + (uintptr_t)&r) | 1;
    printf("# SEED=%" PRIu64 "\n", r.random);
    r.buf = calloc(1, LARGEST);
    assert_non_null(r.buf);
    add(&r, NULL);
    add(&r, NULL);
    for (unsigned i = 0; i < steps; i++)
        step(&r);
    printf("# %u commits, %u rebases, %u refused\n", r.commits, r.rebases, r.refused);
    end(&r);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(kinds)];

    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < PL_COUNT(kinds); i++) {
        tests[i].name = kinds[i].name;
        tests[i].test_func = all_read_as_they_should;
        tests[i].initial_state = (void *)&kinds[i];
    }
    return _cmocka_run_group_tests("random_chain", tests, PL_COUNT(tests), NULL, NULL);
}
