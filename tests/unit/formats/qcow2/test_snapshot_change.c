/* test_snapshot_change.c - what taking, applying, deleting and renaming snapshots records, keeps
 * and refuses.  Content and crashes: tests/random, tests/crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "formats/qcow2/tables.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

#define CLUSTER 4096u
#define SIZE (2 * PL_MIB)
#define SNAPSHOTS_AT 60 /* of the header: how many, and their table's offset */

/* An image in memory, open for writing. */
struct image {
    struct rig rig;
    unsigned warnings;
    char warned[400];
    struct pl_report report;
};

static void note_warning(void *ctx, const char *message)
{
    struct image *img = ctx;

    img->warnings++;
    snprintf(img->warned, sizeof img->warned, "%s", message);
}

static void open_image(struct image *img)
{
    OK(rig_open(&img->rig, &e));
}

static void reopen(struct image *img)
{
    OK(rig_finish(&img->rig, &e));
    open_image(img);
}

static void begin(struct image *img, const char *options)
{
    *img = (struct image){ .rig = { .driver = &pl_qcow2 } };
    img->report = (struct pl_report){ .ctx = img, .warn = note_warning };
    img->rig.report = &img->report;
    img->rig.st = memory();
    if (strstr(options, "data_file"))
        img->rig.data = memory();
    OK(rig_create(&img->rig, options, SIZE, &e));
    open_image(img);
}

static void check_sound(struct image *img)
{
    struct pl_check_result result;

    OK(rig_flush(&img->rig, &e));
    OK(rig_check(&img->rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, 0);
}

static void end(struct image *img)
{
    check_sound(img);
    rig_close(&img->rig);
    pl_storage_close(img->rig.st, NULL);
    pl_storage_close(img->rig.data, NULL);
}

static int create(struct image *img, const char *name, struct pl_err *e)
{
    struct pl_snapshot facts = { .date_sec = 1700000001, .icount = UINT64_MAX };

    snprintf(facts.name, sizeof facts.name, "%s", name);
    return pl_qcow2.snapshot_create(img->rig.layer.state, &facts, e);
}

static int apply(struct image *img, const char *name, struct pl_err *e)
{
    return pl_qcow2.snapshot_apply(img->rig.layer.state, name, &img->rig.layer.size, e);
}

static int delete_one(struct image *img, const char *name, struct pl_err *e)
{
    return pl_qcow2.snapshot_delete(img->rig.layer.state, name, e);
}

static int rename_one(struct image *img, const char *name, const char *to, struct pl_err *e)
{
    return pl_qcow2.snapshot_rename(img->rig.layer.state, name, to, e);
}

static void fill(struct image *img, uint64_t at, uint64_t len, int byte)
{
    uint8_t *bytes = malloc(len);

    memset(bytes, byte, len);
    OK(rig_write(&img->rig, at, bytes, len, &e));
    free(bytes);
}

static int byte_at(struct image *img, uint64_t at)
{
    uint8_t byte;

    OK(rig_read(&img->rig, at, &byte, 1, &e));
    return byte;
}

/* The list; the caller frees it. */
static struct pl_snapshot *list_of(struct image *img, size_t count)
{
    struct pl_snapshot *list;
    size_t n;

    OK(pl_qcow2.snapshots(img->rig.layer.state, &list, &n, &e));
    assert_int_equal(n, count);
    return list;
}

/* ---- records ---- */

static void what_is_known_of_the_machine_is_kept(void **state)
{
    const struct pl_snapshot facts = { .id = "77",
                                       .name = "running",
                                       .vm_state_size = UINT64_C(5) << 32,
                                       .disk_size = 1,
                                       .date_sec = 1600000000,
                                       .date_nsec = 5,
                                       .vm_clock_nsec = UINT64_C(1) << 40,
                                       .icount = 9 };
    struct pl_snapshot *list;
    struct image img;

    (void)state;
    begin(&img, "cluster_size=4k");
    OK(pl_qcow2.snapshot_create(img.rig.layer.state, &facts, &e));
    OK(create(&img, "second", &e));
    OK(rename_one(&img, "running", "asleep", &e));
    reopen(&img);
    list = list_of(&img, 2);
    assert_string_equal(list[0].id, "1");
    assert_string_equal(list[0].name, "asleep");
    assert_true(list[0].vm_state_size == facts.vm_state_size);
    assert_int_equal(list[0].disk_size, SIZE);
    assert_int_equal(list[0].date_sec, 1600000000);
    assert_int_equal(list[0].date_nsec, 5);
    assert_true(list[0].vm_clock_nsec == facts.vm_clock_nsec);
    assert_int_equal(list[0].icount, 9);
    assert_int_equal(list[1].vm_state_size, 0);
    assert_true(list[1].icount == UINT64_MAX);
    free(list);
    end(&img);
}

static void an_id_is_one_more_than_the_highest(void **state)
{
    struct pl_snapshot *list;
    struct image img;

    (void)state;
    begin(&img, "");
    OK(create(&img, "a", &e));
    OK(create(&img, "b", &e));
    OK(delete_one(&img, "a", &e));
    OK(create(&img, "c", &e));
    OK(delete_one(&img, "2", &e));
    OK(create(&img, "d", &e));
    list = list_of(&img, 2);
    assert_string_equal(list[0].id, "3");
    assert_string_equal(list[0].name, "c");
    assert_string_equal(list[1].id, "4");
    free(list);
    end(&img);
}

static void names_are_checked(void **state)
{
    char long_name[300];
    struct image img;

    (void)state;
    memset(long_name, 'n', sizeof long_name);
    long_name[255] = '\0';
    begin(&img, "");
    OK(create(&img, long_name, &e));
    FAILS(PL_E_EXISTS, "already", create(&img, long_name, &e));
    FAILS(PL_E_INVALID, "1 to 255", create(&img, "", &e));
    OK(create(&img, "b", &e));
    FAILS(PL_E_EXISTS, "already", rename_one(&img, "b", long_name, &e));
    FAILS(PL_E_INVALID, "1 to 255", rename_one(&img, "b", "", &e));
    FAILS(PL_E_NOT_FOUND, "'c'", rename_one(&img, "c", "d", &e));
    FAILS(PL_E_NOT_FOUND, "'c'", apply(&img, "c", &e));
    FAILS(PL_E_NOT_FOUND, "'c'", delete_one(&img, "c", &e));
    OK(rename_one(&img, "b", "b", &e));
    end(&img);
}

/* Moves what follows the extra data of the first entry, `bytes` long, by `by`. */
static void stretch_entry(struct pl_storage *st, uint32_t extra, int by, size_t bytes)
{
    uint8_t raw[100], count[4];
    uint64_t table;

    OK(pl_storage_read(st, SNAPSHOTS_AT, count, 4, &e));
    assert_int_equal(load_be32(count), 1);
    OK(pl_storage_read(st, SNAPSHOTS_AT + 4, raw, 8, &e));
    table = load_be64(raw);
    OK(pl_storage_read_padded(st, table + 64, raw, bytes, &e));
    poke(st, table + 36, 4, extra);
    OK(pl_storage_write(st, table + 64 + (uint64_t)(int64_t)by, raw, bytes, &e));
    if (by > 0)
        OK(pl_storage_write(st, table + 64, "unknown!", 8, &e));
}

static void extra_data_that_are_unknown_stay(void **state)
{
    struct pl_snapshot *list;
    struct image img;
    uint8_t raw[80];

    (void)state;
    begin(&img, "cluster_size=4k");
    OK(create(&img, "one", &e));
    OK(rig_finish(&img.rig, &e));
    stretch_entry(img.rig.st, 32, 8, 4);
    open_image(&img);
    OK(create(&img, "two", &e));
    OK(rename_one(&img, "one", "a new name", &e));
    OK(delete_one(&img, "two", &e));
    OK(pl_storage_read(img.rig.st, SNAPSHOTS_AT + 4, raw, 8, &e));
    OK(pl_storage_read_padded(img.rig.st, load_be64(raw), raw, sizeof raw, &e));
    assert_int_equal(load_be32(raw + 36), 32);
    assert_memory_equal(raw + 64, "unknown!1", 9);
    list = list_of(&img, 1);
    assert_string_equal(list[0].name, "a new name");
    free(list);
    end(&img);
}

static void extra_data_that_are_missing_are_completed(void **state)
{
    struct pl_snapshot *list;
    struct image img;

    (void)state;
    begin(&img, "cluster_size=4k");
    OK(create(&img, "one", &e));
    OK(rig_finish(&img.rig, &e));
    stretch_entry(img.rig.st, 0, -24, 4);
    open_image(&img);
    OK(create(&img, "two", &e));
    OK(rig_resize(&img.rig, 3 * SIZE, PL_PREALLOC_OFF, &e));
    list = list_of(&img, 2);
    assert_string_equal(list[0].name, "one");
    assert_int_equal(list[0].disk_size, SIZE);
    free(list);
    end(&img);
}

/* ---- content ---- */

static void sizes_come_and_go(void **state)
{
    struct image img;

    (void)state;
    begin(&img, "cluster_size=512");
    fill(&img, SIZE - 512, 512, 1);
    OK(create(&img, "small", &e));
    OK(rig_resize(&img.rig, 4 * SIZE, PL_PREALLOC_OFF, &e));
    fill(&img, 4 * SIZE - 512, 512, 2);
    OK(create(&img, "large", &e));
    OK(apply(&img, "small", &e));
    assert_int_equal(img.rig.layer.size, SIZE);
    assert_int_equal(byte_at(&img, SIZE - 1), 1);
    OK(rig_resize(&img.rig, 4 * SIZE, PL_PREALLOC_OFF, &e));
    assert_int_equal(byte_at(&img, 4 * SIZE - 1), 0);
    OK(apply(&img, "large", &e));
    assert_int_equal(byte_at(&img, 4 * SIZE - 1), 2);
    reopen(&img);
    assert_int_equal(img.rig.layer.size, 4 * SIZE);
    assert_int_equal(byte_at(&img, SIZE - 1), 1);
    end(&img);
}

static void version_2_cannot_change_the_size(void **state)
{
    struct image img;

    (void)state;
    begin(&img, "compat=0.10");
    OK(create(&img, "one", &e));
    OK(rig_finish(&img.rig, &e));
    poke(img.rig.st, 24, 8, SIZE / 2);
    open_image(&img);
    FAILS(PL_E_UNSUPPORTED, "version 2", apply(&img, "one", &e));
    OK(delete_one(&img, "one", &e));
    end(&img);
}

/* ---- refusals ---- */

static void a_count_at_its_limit_is_told(void **state)
{
    struct pl_err why = { 0 };
    struct image img;

    (void)state;
    begin(&img, "cluster_size=4k,refcount_bits=1");
    OK(create(&img, "empty", &e));
    fill(&img, 0, CLUSTER, 1);
    assert_int_equal(create(&img, "full", &why), -1);
    assert_int_equal(why.kind, PL_E_LIMIT);
    assert_non_null(strstr(why.hint, "amend -o refcount_bits=16"));
    check_sound(&img);
    fill(&img, CLUSTER, CLUSTER, 2); /* the image is as good as before */
    OK(apply(&img, "empty", &e));
    assert_int_equal(byte_at(&img, 0), 0);
    OK(delete_one(&img, "empty", &e));
    end(&img);
}

static void a_cluster_without_a_count_is_told(void **state)
{
    struct pl_extent extent;
    struct image img;
    uint8_t raw[8];

    (void)state;
    begin(&img, "cluster_size=4k");
    fill(&img, 0, 40 * CLUSTER, 1);
    OK(pl_qcow2.discard(img.rig.layer.state, 0, 30 * CLUSTER, &e)); /* room before it */
    OK(rig_flush(&img.rig, &e));
    OK(pl_qcow2.map(img.rig.layer.state, 39 * CLUSTER, CLUSTER, &extent, &e));
    OK(rig_finish(&img.rig, &e));
    OK(pl_storage_read(img.rig.st, 48, raw, 8, &e)); /* refcount table, first block */
    OK(pl_storage_read(img.rig.st, load_be64(raw), raw, 8, &e));
    poke(img.rig.st, load_be64(raw) + 2 * (extent.off / CLUSTER), 2, 0);
    open_image(&img);
    FAILS(PL_E_CORRUPT, "no reference", create(&img, "one", &e));
    rig_close(&img.rig);
    pl_storage_close(img.rig.st, NULL);
}

static void an_external_data_file_is_refused(void **state)
{
    struct image img;

    (void)state;
    begin(&img, "data_file=data");
    FAILS(PL_E_UNSUPPORTED, "external data file", create(&img, "one", &e));
    FAILS(PL_E_UNSUPPORTED, "external data file", apply(&img, "one", &e));
    FAILS(PL_E_UNSUPPORTED, "external data file", delete_one(&img, "one", &e));
    FAILS(PL_E_UNSUPPORTED, "external data file", rename_one(&img, "one", "two", &e));
    end(&img);
}

static void a_failure_leaves_the_file_as_long_as_it_was(void **state)
{
    struct image img;
    uint64_t size;

    (void)state;
    begin(&img, "cluster_size=4k,refcount_bits=2");
    fill(&img, 0, 100 * CLUSTER, 1);
    OK(create(&img, "one", &e));
    OK(create(&img, "two", &e));
    size = pl_storage_size(img.rig.st);
    FAILS(PL_E_LIMIT, "references", create(&img, "three", &e));
    assert_int_equal(pl_storage_size(img.rig.st), size);
    fill(&img, 200 * CLUSTER, 1000, 2); /* the rest of new room reads as zeros */
    assert_int_equal(byte_at(&img, 200 * CLUSTER + 1000), 0);
    end(&img);
}

/* A device cannot grow: what does not fit is refused, and all is as it was. */
static void a_full_device_is_told(void **state)
{
    struct image img;
    char name[20];
    unsigned n = 0;
    struct pl_err why = { 0 };

    (void)state;
    begin(&img, "cluster_size=512");
    fill(&img, 0, PL_MIB, 1);
    OK(rig_finish(&img.rig, &e));
    OK(pl_storage_resize(img.rig.st, pl_storage_size(img.rig.st) + 200 * PL_KIB, &e));
    img.rig.st->device = true;
    open_image(&img);
    do {
        fill(&img, 0, 32 * PL_KIB, (int)n + 2);
        snprintf(name, sizeof name, "snapshot%u", n);
    } while (create(&img, name, &why) == 0 && ++n < 100);
    assert_in_range(n, 2, 99);
    assert_int_equal(why.kind, PL_E_NO_SPACE);
    assert_non_null(strstr(why.hint, "KiB of room"));
    check_sound(&img);
    free(list_of(&img, n));
    assert_int_equal(byte_at(&img, 0), (int)n + 2);
    OK(rig_finish(&img.rig, &e));
    OK(pl_storage_resize(img.rig.st, pl_storage_size(img.rig.st) + 100 * PL_KIB, &e));
    open_image(&img);
    OK(delete_one(&img, "snapshot0", &e));
    OK(apply(&img, "snapshot1", &e));
    assert_int_equal(byte_at(&img, 0), 3);
    reopen(&img);
    end(&img);
}

/* ---- bitmaps ---- */

static void store_bitmap(struct image *img, const char *name, bool enabled)
{
    struct pl_bitmap bitmap = { .granularity = 65536, .enabled = enabled };
    const size_t len = pl_div_up(img->rig.layer.size / 65536, 8);
    uint8_t bits[64];

    snprintf(bitmap.name, sizeof bitmap.name, "%s", name);
    memset(bits, 0x0f, sizeof bits);
    OK(pl_qcow2.bitmap_store(img->rig.layer.state, &bitmap, bits, len, &e));
}

static void bitmaps_that_record_are_marked_by_an_apply_alone(void **state)
{
    struct pl_bitmap *list;
    struct image img;
    uint8_t bits[64];
    size_t count;

    (void)state;
    begin(&img, "cluster_size=4k");
    fill(&img, 0, CLUSTER, 1);
    store_bitmap(&img, "quiet", false);
    store_bitmap(&img, "records", true);
    OK(create(&img, "one", &e));
    OK(create(&img, "two", &e));
    OK(delete_one(&img, "two", &e));
    assert_int_equal(img.warnings, 0);
    OK(apply(&img, "one", &e));
    assert_int_equal(img.warnings, 1);
    assert_non_null(strstr(img.warned, "'records'"));
    OK(pl_qcow2.bitmaps(img.rig.layer.state, &list, &count, &e));
    assert_int_equal(count, 2);
    assert_false(list[0].in_use);
    assert_true(list[1].in_use);
    free(list);
    OK(pl_qcow2.bitmap_load(img.rig.layer.state, "quiet", bits, 4, &e));
    assert_int_equal(bits[3], 0x0f);
    OK(pl_qcow2.bitmap_remove(img.rig.layer.state, "records", &e));
    OK(pl_qcow2.bitmap_remove(img.rig.layer.state, "quiet", &e));
    FAILS(PL_E_NOT_FOUND, "'quiet'", pl_qcow2.bitmap_remove(img.rig.layer.state, "quiet", &e));
    reopen(&img);
    end(&img);
}

static void bitmaps_follow_the_size(void **state)
{
    struct image img;
    uint8_t bits[64];

    (void)state;
    begin(&img, "cluster_size=4k");
    OK(create(&img, "small", &e));
    OK(rig_resize(&img.rig, 2 * SIZE, PL_PREALLOC_OFF, &e));
    store_bitmap(&img, "quiet", false);
    OK(apply(&img, "small", &e));
    OK(pl_qcow2.bitmap_load(img.rig.layer.state, "quiet", bits, 4, &e));
    assert_int_equal(bits[3], 0x0f);
    end(&img);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_known_of_the_machine_is_kept),
        cmocka_unit_test(an_id_is_one_more_than_the_highest),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(extra_data_that_are_unknown_stay),
        cmocka_unit_test(extra_data_that_are_missing_are_completed),
        cmocka_unit_test(sizes_come_and_go),
        cmocka_unit_test(version_2_cannot_change_the_size),
        cmocka_unit_test(a_count_at_its_limit_is_told),
        cmocka_unit_test(a_cluster_without_a_count_is_told),
        cmocka_unit_test(an_external_data_file_is_refused),
        cmocka_unit_test(a_failure_leaves_the_file_as_long_as_it_was),
        cmocka_unit_test(a_full_device_is_told),
        cmocka_unit_test(bitmaps_that_record_are_marked_by_an_apply_alone),
        cmocka_unit_test(bitmaps_follow_the_size),
    };

    return cmocka_run_group_tests_name("qcow2 snapshot changes", tests, NULL, NULL);
}
