/* Random operations through the public interface, against a plain copy in memory: write, zero,
 * discard, flush, resize, reopen, over parents shorter and longer than the disk.  A discarded byte
 * may become zero or stay, so the model takes over which it was.  At the end qemu-img reads the
 * same bytes and finds no error.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "include/platter.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/env.h"

#define LARGEST (12u << 20)

struct kind {
    const char *name, *format, *options;
    uint64_t size, parent_size; /* 0: no parent */
};

static const struct kind kinds[] = {
    { "raw", "raw", NULL, 3000000, 0 },
    { "qcow2, defaults", "qcow2", NULL, 4 << 20, 0 },
    { "qcow2, clusters of 512 bytes, one-bit refcounts", "qcow2",
      "cluster_size=512,refcount_bits=1", 300 * 512, 0 },
    { "qcow2, clusters of 4 KiB, 64-bit refcounts, short parent", "qcow2",
      "cluster_size=4k,refcount_bits=64", 1234432, 700 * 512 },
    { "qcow2, version 2, parent", "qcow2", "compat=0.10,cluster_size=8k", 2 << 20, 2 << 20 },
    { "qcow2, extended L2, parent longer than the disk", "qcow2", "extended_l2=on,cluster_size=16k",
      1 << 20, 2 << 20 },
    { "qcow2, extended L2, no parent", "qcow2", "extended_l2=on,cluster_size=64k", 2 << 20, 0 },
    { "qcow2, clusters of 2 MiB", "qcow2", "cluster_size=2M", 6 << 20, 3 << 20 },
    { "qcow2, lazy refcounts, metadata made", "qcow2",
      "lazy_refcounts=on,cluster_size=4k,preallocation=metadata", 1 << 20, 0 },
    { "qcow2, external data file", "qcow2", "data_file=data.bin,cluster_size=4k", 1 << 20, 0 },
    { "qcow2, external raw data file", "qcow2",
      "data_file=rawdata.bin,data_file_raw=on,cluster_size=4k", 1 << 20, 0 },
};

struct run {
    const struct kind *kind;
    char *path, *parent;
    struct pl_image *img;
    uint8_t *model; /* LARGEST bytes */
    uint8_t *buf;   /* the same */
    uint64_t size;
    uint64_t random;
};

static uint64_t next_random(struct run *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static void must(int result, const struct pl_err *e)
{
    if (result < 0)
        fail_msg("%s", e->msg);
}

static void open_image(struct run *r)
{
    const struct pl_open_options options = { .format = r->kind->format, .writable = true };
    struct pl_err e = { 0 };

    must(pl_open(r->path, &options, &r->img, &e), &e);
    assert_int_equal(pl_size(r->img), r->size);
}

static void reopen(struct run *r)
{
    struct pl_err e = { 0 };

    must(pl_close(pl_take(r->img), &e), &e);
    open_image(r);
}

/* Short and long ranges, aligned and not. */
static void choose_range(struct run *r, uint64_t *at, uint64_t *len)
{
    static const uint64_t units[] = { 1, 512, 4096, 65536 };
    const uint64_t unit = units[next_random(r) % PL_COUNT(units)];
    const uint64_t most = next_random(r) % 8 == 0 ? r->size : PL_MIN(r->size, 40000);

    const uint64_t wanted = pl_round_up(1 + next_random(r) % most, unit);

    *at = pl_round_down(next_random(r) % r->size, unit);
    *len = PL_MIN(wanted, r->size - *at);
}

static void step_write(struct run *r, uint64_t at, uint64_t len)
{
    const uint8_t first = (uint8_t)next_random(r);
    struct pl_err e = { 0 };

    for (uint64_t i = 0; i < len; i++)
        r->model[at + i] = (uint8_t)(first + (i >> 9));
    must(pl_write(r->img, at, r->model + at, len, &e), &e);
}

static void step_zero(struct run *r, uint64_t at, uint64_t len)
{
    struct pl_err e = { 0 };

    memset(r->model + at, 0, len);
    must(pl_zero(r->img, at, len, next_random(r) % 2, &e), &e);
}

static void step_discard(struct run *r, uint64_t at, uint64_t len)
{
    struct pl_err e = { 0 };

    must(pl_discard(r->img, at, len, &e), &e);
    must(pl_read(r->img, at, r->buf, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        if (r->buf[i] != 0)
            assert_int_equal(r->buf[i], r->model[at + i]);
    memcpy(r->model + at, r->buf, len);
}

static void step_resize(struct run *r)
{
    const uint64_t size = pl_round_up(1 + next_random(r) % (2 * r->kind->size), 512);
    struct pl_err e = { 0 };

    assert_true(size <= LARGEST);
    must(pl_resize(r->img, size, true, 0, &e), &e);
    if (size < r->size)
        memset(r->model + size, 0, r->size - size);
    r->size = size;
    assert_int_equal(pl_size(r->img), size);
}

static void compare_all(struct run *r)
{
    struct pl_err e = { 0 };

    must(pl_read(r->img, 0, r->buf, r->size, &e), &e);
    for (uint64_t i = 0; i < r->size; i++)
        if (r->buf[i] != r->model[i])
            fail_msg("guest address 0x%" PRIx64 ": 0x%02x instead of 0x%02x", i, r->buf[i],
                     r->model[i]);
}

static void step(struct run *r, bool may_resize)
{
    const unsigned what = (unsigned)(next_random(r) % 100);
    struct pl_err e = { 0 };
    uint64_t at, len;

    choose_range(r, &at, &len);
    if (what < 55) {
        step_write(r, at, len);
    } else if (what < 75) {
        step_zero(r, at, len);
    } else if (what < 87) {
        step_discard(r, at, len);
    } else if (what < 93) {
        must(pl_flush(r->img, &e), &e);
    } else if (what < 95) {
        if (may_resize)
            step_resize(r);
    } else if (what < 97) {
        reopen(r);
    } else {
        must(pl_read(r->img, at, r->buf, len, &e), &e);
        assert_memory_equal(r->buf, r->model + at, len);
    }
}

/* Runs a command of the shell; its exit status. */
static int shell(const char *fmt, ...) PL_PRINTF(1, 2);
static int shell(const char *fmt, ...)
{
    PL_FREE char *command = NULL;
    va_list ap;
    int status;

    va_start(ap, fmt);
    assert_true(vasprintf(&command, fmt, ap) >= 0);
    va_end(ap);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void qemu_img_agrees(struct run *r)
{
    PL_FREE char *raw = test_tmp("model.raw");
    FILE *file;

    if (shell("command -v qemu-img >/dev/null") != 0) {
        printf("# skip: qemu-img is not here to read the result\n");
        return;
    }
    file = fopen(raw, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(r->model, 1, r->size, file), r->size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(shell("cd \"$(dirname '%s')\" && qemu-img compare -q -f %s -F raw '%s' '%s'",
                           r->path, r->kind->format, r->path, raw),
                     0);
    if (strcmp(r->kind->format, "raw") != 0)
        assert_int_equal(shell("cd \"$(dirname '%s')\" && qemu-img check -q -f %s '%s'", r->path,
                               r->kind->format, r->path),
                         0);
}

static void make_parent(struct run *r)
{
    const struct pl_create_options options = { .format = "qcow2",
                                               .size = r->kind->parent_size,
                                               .size_given = true };
    const struct pl_open_options open_options = { .format = "qcow2", .writable = true };
    struct pl_err e = { 0 };
    struct pl_image *parent;

    must(pl_create(r->parent, &options, &e), &e);
    for (uint64_t i = 0; i < r->kind->parent_size; i++)
        r->buf[i] = (uint8_t)(i % 251 + 1);
    must(pl_open(r->parent, &open_options, &parent, &e), &e);
    must(pl_write(parent, 0, r->buf, r->kind->parent_size, &e), &e);
    must(pl_close(parent, &e), &e);
    memcpy(r->model, r->buf, PL_MIN(r->kind->parent_size, r->size));
}

static void make_image(struct run *r)
{
    PL_FREE char *parent_name = r->parent ? strdup(strrchr(r->parent, '/') + 1) : NULL;
    struct pl_options *list = pl_options_new();
    const struct pl_create_options options = {
        .format = r->kind->format,
        .size = r->size,
        .size_given = true,
        .options = list,
        .parent = parent_name,
        .parent_format = r->parent ? "qcow2" : NULL,
    };
    struct pl_err e = { 0 };

    if (r->kind->options)
        must(pl_options_add(list, r->kind->options, &e), &e);
    must(pl_create(r->path, &options, &e), &e);
    pl_options_free(list);
}

static void begin(struct run *r)
{
    r->size = r->kind->size;
    r->model = calloc(1, LARGEST);
    r->buf = calloc(1, LARGEST);
    assert_true(r->model && r->buf);
    r->path = test_tmp("disk.img");
    unlink(r->path);
    if (r->kind->parent_size) {
        r->parent = test_tmp("parent.img");
        unlink(r->parent);
        make_parent(r);
    }
    make_image(r);
    open_image(r);
}

static void agrees_with_memory(void **state)
{
    const char *seed = getenv("SEED"), *steps = getenv("STEPS");
    const unsigned count = steps ? (unsigned)strtoul(steps, NULL, 0) : 800;
    struct run r = { .kind = *state };

    r.random = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + (uintptr_t)&r;
    r.random |= 1;
    printf("# SEED=%" PRIu64 "\n", r.random);
    begin(&r);
    for (unsigned i = 0; i < count; i++) {
        step(&r, r.kind->parent_size == 0);
        if (i % 64 == 63)
            compare_all(&r);
    }
    reopen(&r);
    compare_all(&r);
    assert_int_equal(pl_close(r.img, NULL), 0);
    qemu_img_agrees(&r);
    free(r.model);
    free(r.buf);
    free(r.path);
    free(r.parent);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(kinds)];

    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < PL_COUNT(kinds); i++) {
        tests[i].name = kinds[i].name;
        tests[i].test_func = agrees_with_memory;
        tests[i].initial_state = (void *)&kinds[i];
    }
    return _cmocka_run_group_tests("random_image", tests, PL_COUNT(tests), NULL, NULL);
}
