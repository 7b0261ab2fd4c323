/* test_compact.c - which clusters give their room back, and that the disk stays as it was. */
#include "tests/unit/engine/disks.h"

#include "core/engine/compact.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define SIZE (5 * MIB + 512)

static const char *const formats[][2] = {
    { "raw", "" },
    { "qcow2", "" },
    { "qcow2", "compat=0.10" },
    { "vdi", "block_size=64k" },
};

/* Data in two clusters of 64 KiB, and two bytes in others; the rest was written as zeros. */
static uint8_t *content(void)
{
    uint8_t *bytes = calloc(1, SIZE);

    fill_pattern(bytes, 0, 64 * KIB, 1);
    fill_pattern(bytes + 3 * MIB, 3 * MIB, 64 * KIB, 1);
    bytes[MIB] = 1;
    bytes[2 * MIB - 1] = 1;
    return bytes;
}

static void make_disk(const char *path, const char *format, const char *options, const char *parent)
{
    uint8_t *bytes = content();
    struct pl_image *img;

    create_disk(path, format, SIZE, options, parent);
    img = open_disk(path, format, true);
    OK(pl_write(img, 0, bytes, SIZE, &e));
    OK(pl_close(img, &e));
    free(bytes);
}

static void whole_clusters_of_zeros_go(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(formats); i++) {
        char *path = test_tmp("disk");
        uint8_t *bytes = content();
        struct pl_compact_result r;
        struct pl_image *img;
        uint64_t usage;

        make_disk(path, formats[i][0], formats[i][1], NULL);
        img = open_disk(path, formats[i][0], true);
        usage = pl_disk_usage(img);
        OK(pl_compact(img, NULL, &r, &e));
        assert_in_range(r.zeros, 76 * 64 * KIB, 76 * 64 * KIB + 512);
        assert_true(r.usage_freed >= 70 * 64 * KIB);
        assert_int_equal(usage - pl_disk_usage(img), r.usage_freed);
        OK(pl_compact(img, NULL, &r, &e));
        assert_int_equal(r.zeros, 0);
        OK(pl_close(img, &e));
        shows(path, formats[i][0], bytes, SIZE);
        unlink(path);
        free(bytes);
        free(path);
    }
}

/* Zeros over a parent's data stay; an old qcow2 cannot say them and keeps its clusters. */
static void a_parent_never_shows_through(void **state)
{
    static const char *const options[] = { "", "compat=0.10" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(options); i++) {
        char *parent = test_tmp("parent"), *path = test_tmp("child");
        uint8_t *bytes = content(), *ones = malloc(SIZE);
        struct pl_compact_result r;
        struct pl_image *img;

        memset(ones, 1, SIZE);
        create_disk(parent, "qcow2", SIZE, "", NULL);
        img = open_disk(parent, "qcow2", true);
        OK(pl_write(img, 0, ones, SIZE, &e));
        OK(pl_close(img, &e));
        make_disk(path, "qcow2", options[i], "parent");
        img = open_disk(path, "qcow2", true);
        OK(pl_compact(img, NULL, &r, &e));
        assert_int_equal(r.zeros > 0, i == 0);
        OK(pl_close(img, &e));
        shows(path, "qcow2", bytes, SIZE);
        unlink(path);
        unlink(parent);
        free(bytes);
        free(ones);
        free(path);
        free(parent);
    }
}

struct watcher {
    uint64_t done, total;
    unsigned calls, stop_after;
};

static void watch(void *ctx, uint64_t done, uint64_t total)
{
    struct watcher *w = ctx;

    assert_true(done >= w->done && done <= total);
    w->done = done;
    w->total = total;
    w->calls++;
}

static bool stop(void *ctx)
{
    const struct watcher *w = ctx;

    return w->stop_after && w->calls >= w->stop_after;
}

static void progress_grows_and_work_can_be_stopped(void **state)
{
    struct watcher watcher = { 0 };
    const struct pl_report report = { .ctx = &watcher, .progress = watch, .cancelled = stop };
    char *path = test_tmp("disk");
    uint8_t *bytes = content();
    struct pl_compact_result r;
    struct pl_image *img;

    (void)state;
    make_disk(path, "vdi", "block_size=64k", NULL);
    watcher.stop_after = 2;
    img = open_disk(path, "vdi", true);
    FAILS(PL_E_CANCELLED, "", pl_compact(img, &report, &r, &e));
    OK(pl_close(img, &e));
    shows(path, "vdi", bytes, SIZE);
    watcher = (struct watcher){ 0 };
    img = open_disk(path, "vdi", true);
    OK(pl_compact(img, &report, &r, &e));
    assert_true(watcher.calls > 3 && watcher.done >= SIZE);
    OK(pl_close(img, &e));
    shows(path, "vdi", bytes, SIZE);
    unlink(path);
    free(bytes);
    free(path);
}

static void what_is_open_for_reading_stays(void **state)
{
    char *path = test_tmp("disk");
    struct pl_compact_result r;
    struct pl_image *img;

    (void)state;
    make_disk(path, "qcow2", "", NULL);
    img = open_disk(path, "qcow2", false);
    FAILS(PL_E_INVALID, "reading only", pl_compact(img, NULL, &r, &e));
    OK(pl_close(img, &e));
    unlink(path);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_clusters_of_zeros_go),
        cmocka_unit_test(a_parent_never_shows_through),
        cmocka_unit_test(progress_grows_and_work_can_be_stopped),
        cmocka_unit_test(what_is_open_for_reading_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
