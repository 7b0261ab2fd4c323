/* Block devices, on a loop device where we may have one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/opener.h"
#include "core/storage/output.h"
#include "tests/unit/storage/storages.h"

#define SIZE (1 << 20)

struct loop {
    int fd; /* -1: there is none */
    char path[32];
    struct pl_storage *file;
};

static bool attach(struct loop *loop)
{
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const struct loop_config config = { .fd = (unsigned)pl_file_descriptor(loop->file) };

    for (int i = 0; control >= 0 && i < 10 && loop->fd < 0; i++) {
        const int number = ioctl(control, LOOP_CTL_GET_FREE);

        if (number < 0)
            break;
        snprintf(loop->path, sizeof loop->path, "/dev/loop%d", number);
        loop->fd = open(loop->path, O_RDWR | O_CLOEXEC);
        if (loop->fd >= 0 && ioctl(loop->fd, LOOP_CONFIGURE, &config) < 0) {
            close(loop->fd);
            loop->fd = -1;
        }
    }
    close(control);
    return loop->fd >= 0;
}

static int setup(void **state)
{
    struct loop *loop = calloc(1, sizeof *loop);

    loop->fd = -1;
    loop->file = new_file("loop-file");
    write_pattern(loop->file, 0, SIZE, 1);
    attach(loop);
    *state = loop;
    return 0;
}

static int teardown(void **state)
{
    struct loop *loop = *state;

    if (loop->fd >= 0) {
        ioctl(loop->fd, LOOP_CLR_FD, 0);
        close(loop->fd);
    }
    pl_storage_close(loop->file, NULL);
    free(loop);
    return 0;
}

static struct pl_storage *open_device(const struct loop *loop, enum pl_access access)
{
    static const struct pl_opener opener;
    struct pl_storage *st = NULL;

    if (loop->fd < 0)
        TEST_SKIP("no loop device is to be had");
    OK(pl_open_path(&opener, loop->path, access, &st, &e));
    return st;
}

static void a_device_has_a_size_and_keeps_it(void **state)
{
    struct pl_storage *st = open_device(*state, PL_READ_WRITE);
    uint8_t buf[1000] = { 1 };

    assert_true(st->device);
    assert_false(st->sequential);
    assert_int_equal(pl_storage_size(st), SIZE);
    assert_true(st->block >= 512 && pl_is_pow2(st->block));
    FAILS(PL_E_NO_SPACE, "block device", pl_storage_write(st, SIZE - 999, buf, 1000, &e));
    FAILS(PL_E_NO_SPACE, "past the end", pl_storage_zero(st, SIZE, 1, &e));
    FAILS(PL_E_UNSUPPORTED, "fixed", pl_storage_resize(st, SIZE, &e));
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(st, SIZE - 999, buf, 1000, &e));
    OK(pl_storage_preallocate(st, 0, SIZE, PL_PREALLOC_FALLOC, &e));
    FAILS(PL_E_NO_SPACE, "", pl_storage_preallocate(st, 0, SIZE + 1, PL_PREALLOC_OFF, &e));
    assert_true(reads_as(st, 0, SIZE, 1));
    OK(pl_storage_close(st, &e));
}

static void ranges_need_no_alignment(void **state)
{
    struct pl_storage *st = open_device(*state, PL_READ_WRITE);

    write_pattern(st, 777, 10000, 2);
    OK(pl_storage_zero(st, 100001, 200000, &e));
    OK(pl_storage_zero(st, 5, 10, &e));
    OK(pl_storage_discard(st, 500001, 300000, &e));
    OK(pl_storage_flush(st, &e));
    pl_storage_close(st, NULL);
    st = open_device(*state, PL_READ);
    assert_true(reads_as(st, 0, 5, 1));
    assert_true(reads_as(st, 5, 10, ZEROS));
    assert_true(reads_as(st, 15, 762, 1));
    assert_true(reads_as(st, 777, 10000, 2));
    assert_true(reads_as(st, 10777, 89224, 1));
    assert_true(reads_as(st, 100001, 200000, ZEROS));
    assert_true(reads_as(st, 300001, 200000, 1));
    assert_true(reads_as(st, 800001, SIZE - 800001, 1));
    pl_storage_close(st, NULL);
}

static void a_device_takes_copies_and_settles(void **state)
{
    struct loop *loop = *state;
    struct pl_storage *st = open_device(loop, PL_READ_WRITE), *src = new_file("source");

    write_pattern(src, 0, 200000, 3);
    OK(pl_storage_copy(st, 0, src, 0, 200000, &e));
    pl_storage_settle(st, 0, 200000);
    assert_true(reads_as(st, 0, 200000, 3));
    assert_true(pl_storage_same(st, st));
    assert_false(pl_storage_same(st, loop->file));
    pl_storage_close(src, NULL);
    pl_storage_close(st, NULL);
}

static void a_device_in_use_is_not_written(void **state)
{
    static const struct pl_opener opener;
    struct loop *loop = *state;
    struct pl_storage *st = open_device(loop, PL_READ), *other;
    int exclusive;

    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, loop->path, PL_READ_WRITE, &other, &e));
    pl_storage_close(st, NULL);
    exclusive = open(loop->path, O_RDONLY | O_EXCL); /* as a mount does */
    assert_true(exclusive >= 0);
    FAILS(PL_E_LOCKED, "mounted", pl_open_path(&opener, loop->path, PL_READ_WRITE, &other, &e));
    pl_storage_close(open_device(loop, PL_READ), NULL);
    close(exclusive);
}

static void an_output_is_written_to_the_device_itself(void **state)
{
    struct loop *loop = *state;
    struct pl_output *output;
    struct pl_storage *st;

    if (loop->fd < 0)
        TEST_SKIP("no loop device is to be had");
    OK(pl_output_begin(loop->path, &output, &e));
    assert_true(pl_output_storage(output)->device);
    write_pattern(pl_output_storage(output), 0, 10000, 4);
    OK(pl_output_finish(output, &e));
    st = open_device(loop, PL_READ);
    assert_true(reads_as(st, 0, 10000, 4));
    pl_storage_close(st, NULL);
}

static void an_image_reaches_a_device_only_when_dev_is_allowed(void **state)
{
    static const char *const everything[] = { "/", NULL };
    static const char *const devices[] = { "/dev", NULL };
    const struct pl_opener strict = { 0 }, root = { .allowed = everything },
                           dev = { .allowed = devices };
    struct loop *loop = *state;
    struct pl_storage *st;

    if (loop->fd < 0)
        TEST_SKIP("no loop device is to be had");
    FAILS(PL_E_POLICY, "outside", pl_open_named(&strict, loop->file, loop->path, PL_READ, &st, &e));
    FAILS(PL_E_POLICY, "a device", pl_open_named(&root, loop->file, loop->path, PL_READ, &st, &e));
    OK(pl_open_named(&dev, loop->file, loop->path, PL_READ_WRITE, &st, &e));
    assert_true(st->device);
    pl_storage_close(st, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_has_a_size_and_keeps_it),
        TEST(ranges_need_no_alignment),
        TEST(a_device_takes_copies_and_settles),
        TEST(a_device_in_use_is_not_written),
        TEST(an_output_is_written_to_the_device_itself),
        TEST(an_image_reaches_a_device_only_when_dev_is_allowed),
    };

    return cmocka_run_group_tests_name("block devices", tests, NULL, NULL);
}
