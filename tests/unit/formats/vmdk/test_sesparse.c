/* seSparse extents: what the tables say is what map says, damage is an error where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <fcntl.h>

#include "core/base/digest.h"
#include "core/storage/file.h"
#include "tests/support/env.h"
#include "tests/unit/formats/vmdk/sesparse_rig.h"

#define SIZE (UINT64_C(3) * SE_SPAN + 10 * SE_GRAIN)

/* Two tables of four, a few grains of each kind. */
static struct se_rig good(void)
{
    struct se_rig r = se_make(SIZE, 2, 40);

    se_set_table(&r, 0, 1);
    se_set_table(&r, 2, 0);
    for (unsigned i = 0; i < 5; i++)
        se_set_entry(&r, 1, 2 + i, se_allocated(10 + i));
    se_set_entry(&r, 1, 7, se_allocated(20));
    se_set_entry(&r, 1, 8, UINT64_C(2) << 60);
    se_set_entry(&r, 1, 9, UINT64_C(1) << 60 | 77); /* unmapped: what is in the rest is history */
    se_set_entry(&r, 0, 4095, se_allocated(39));
    return r;
}

static void close_all(struct vmdk_extent *x, const struct se_rig *r)
{
    if (x)
        x->ops->close(x->state);
    pl_storage_close(r->file, NULL);
}

static void expect(const struct vmdk_extent *x, uint64_t at, uint64_t len, enum pl_state wanted,
                   uint64_t wanted_len)
{
    struct pl_extent out;

    OK(x->ops->map(x->state, at, len, &out, &e));
    assert_int_equal(out.state, wanted);
    assert_int_equal(out.len, wanted_len);
}

static void expect_data(const struct se_rig *r, const struct vmdk_extent *x, uint64_t at,
                        uint64_t wanted_len, uint64_t wanted_off)
{
    struct pl_extent out;

    OK(x->ops->map(x->state, at, x->size - at, &out, &e));
    assert_int_equal(out.state, PL_DATA);
    assert_int_equal(out.len, wanted_len);
    assert_ptr_equal(out.st, r->file);
    assert_int_equal(out.off, r->grains_at + wanted_off);
}

static void every_kind_of_grain_is_told(void **state)
{
    struct se_rig r = good();
    struct vmdk_extent x = se_open(&r, 0);

    (void)state;
    assert_int_equal(x.size, SIZE);
    assert_true(x.has_zeroed && !x.ops->allocate && !x.ops->link);
    expect(&x, 0, SIZE, PL_PARENT, 2 * SE_GRAIN);
    expect_data(&r, &x, 2 * SE_GRAIN, 5 * SE_GRAIN, 10 * SE_GRAIN);
    expect_data(&r, &x, 3 * SE_GRAIN + 100, 4 * SE_GRAIN - 100, 11 * SE_GRAIN + 100);
    expect_data(&r, &x, 7 * SE_GRAIN, SE_GRAIN, 20 * SE_GRAIN);
    expect(&x, 8 * SE_GRAIN, SIZE, PL_ZERO, 2 * SE_GRAIN);
    expect(&x, 10 * SE_GRAIN, SIZE - 10 * SE_GRAIN, PL_PARENT,
           UINT64_C(3) * SE_SPAN - 11 * SE_GRAIN);
    expect_data(&r, &x, UINT64_C(3) * SE_SPAN - SE_GRAIN, SE_GRAIN, 39 * SE_GRAIN);
    expect(&x, UINT64_C(3) * SE_SPAN, 10 * SE_GRAIN, PL_PARENT, 10 * SE_GRAIN);
    close_all(&x, &r);
}

static void runs_are_clipped_to_what_was_asked(void **state)
{
    struct se_rig r = good();
    struct vmdk_extent x = se_open(&r, 0);

    (void)state;
    expect(&x, 2 * SE_GRAIN + 7, 1, PL_DATA, 1);
    expect(&x, 2 * SE_GRAIN + 7, 2 * SE_GRAIN, PL_DATA, 2 * SE_GRAIN);
    expect(&x, 9 * SE_GRAIN - 3, 5, PL_ZERO, 5);
    expect(&x, 100 * SE_GRAIN + 9, SE_SPAN, PL_PARENT, SE_SPAN);
    close_all(&x, &r);
}

static void long_runs_come_in_one_piece(void **state)
{
    const uint64_t tables = 64 * UINT64_C(512), size = tables * SE_SPAN; /* 512 GiB */
    struct se_rig r = se_make(SIZE, 2, 2 * 4096);
    struct vmdk_extent x;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        se_set_table(&r, i, i);
        for (unsigned k = 0; k < 4096; k++)
            se_set_entry(&r, i, k, se_allocated(4096 * i + k));
    }
    x = se_open(&r, 1);
    expect_data(&r, &x, 0, 2 * SE_SPAN, 0);
    close_all(&x, &r);

    r = se_make(size, 2, 0);
    se_poke(&r, 128, r.grains_at / 512);
    se_poke(&r, 136, tables * 8 / 512);
    OK(pl_storage_resize(r.file, r.grains_at + tables * 8, &e));
    x = se_open(&r, 0);
    expect(&x, 0, size / 2, PL_PARENT, size / 2);
    close_all(&x, &r);
}

static void the_number_of_a_grain_is_put_together_from_both_parts(void **state)
{
    struct se_rig r = se_make(SIZE, 1, 4100);
    struct vmdk_extent x;

    (void)state;
    se_set_table(&r, 0, 0);
    se_set_entry(&r, 0, 0, UINT64_C(0x3fff000000000000)); /* grain 4095 */
    se_set_entry(&r, 0, 1, UINT64_C(0x3000000000000001)); /* grain 4096 */
    se_set_entry(&r, 0, 2, UINT64_C(0x3002000000000001)); /* grain 4098 */
    x = se_open(&r, 0);
    expect_data(&r, &x, 0, 2 * SE_GRAIN, 4095 * SE_GRAIN);
    expect_data(&r, &x, 2 * SE_GRAIN, SE_GRAIN, 4098 * SE_GRAIN);
    close_all(&x, &r);
}

static const struct damage {
    const char *name;
    uint64_t at, value;
    enum pl_kind kind;
    const char *text;
} damages[] = {
    { "another magic", 0, 0x1cafebabe, PL_E_FORMAT, "begins with" },
    { "another version", 8, 0x200000002, PL_E_UNSUPPORTED, "version 0x200000002" },
    { "a huge capacity", 16, UINT64_MAX, PL_E_LIMIT, "too big" },
    { "a capacity beyond the directory", 16, 65 * SE_SPAN / 512, PL_E_CORRUPT, "too short" },
    { "another grain size", 24, 16, PL_E_UNSUPPORTED, "grain size" },
    { "no grain size", 24, 0, PL_E_UNSUPPORTED, "grain size" },
    { "another table size", 32, 32, PL_E_UNSUPPORTED, "table size" },
    { "flags", 40, 1, PL_E_UNSUPPORTED, "flags" },
    { "a reserved field", 72, 1, PL_E_UNSUPPORTED, "reserved field 4" },
    { "a volatile header past the end", 80, 1 << 20, PL_E_CORRUPT, "volatile header" },
    { "a volatile header far past the end", 80, UINT64_MAX, PL_E_CORRUPT, "volatile header" },
    { "no directory", 136, 0, PL_E_CORRUPT, "too short" },
    { "a directory past the end", 128, 1 << 20, PL_E_CORRUPT, "grain directory" },
    { "a directory whose place wraps", 128, UINT64_MAX, PL_E_CORRUPT, "grain directory" },
    { "a directory of a length that wraps", 136, UINT64_MAX, PL_E_CORRUPT, "grain directory" },
    { "tables past the end", 144, UINT64_MAX / 512, PL_E_CORRUPT, "grain tables" },
    { "grains past the end", 192, UINT64_MAX, PL_E_CORRUPT, "grains" },
    { "a field that is not known", 208, 1, PL_E_UNSUPPORTED, "more fields" },
    { "a volatile header with another magic", 512, 0xcafebabe, PL_E_CORRUPT, "volatile header" },
    { "a journal to replay", 536, 1, PL_E_UNSUPPORTED, "journal" },
    { "a field of the volatile header that is not known", 1000, 1, PL_E_UNSUPPORTED, "more" },
};

static void check_damage(void **state)
{
    const struct damage *d = *state;
    struct se_rig r = good();
    const struct vmdk_extent_args args = { .file = r.file };
    struct vmdk_extent x;

    se_poke(&r, d->at, d->value);
    FAILS(d->kind, d->text, vmdk_sesparse_open(&args, &x, &e));
    close_all(NULL, &r);
}

/* Entries that lead nowhere: the grains before them can still be read. */
static void a_broken_entry_is_an_error_where_it_is(void **state)
{
    static const uint64_t broken[] = {
        1,
        UINT64_C(4) << 60,
        UINT64_C(15) << 60,
        UINT64_C(0x3028000000000000), /* grain 40 of 40 */
        UINT64_C(0x3fffffffffffffff),
    };

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(broken); i++) {
        struct se_rig r = good();
        struct vmdk_extent x = se_open(&r, 0);
        struct pl_extent out;

        se_set_entry(&r, 1, 5, broken[i]);
        expect_data(&r, &x, 2 * SE_GRAIN, 3 * SE_GRAIN, 10 * SE_GRAIN);
        FAILS(PL_E_CORRUPT, "entry of grain 5",
              x.ops->map(x.state, 5 * SE_GRAIN, SE_GRAIN, &out, &e));
        expect_data(&r, &x, 6 * SE_GRAIN, SE_GRAIN, 14 * SE_GRAIN);
        close_all(&x, &r);
    }
}

static void a_broken_directory_entry_is_an_error_where_it_is(void **state)
{
    static const uint64_t broken[] = { 1, UINT64_C(1) << 60 | 3, UINT64_C(1) << 60 | UINT32_MAX,
                                       UINT64_C(0x1000000100000000), UINT64_C(2) << 60 };

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(broken); i++) {
        struct se_rig r = good();
        struct vmdk_extent x = se_open(&r, 0);
        struct pl_extent out;

        se_poke(&r, SE_DIRECTORY + 8, broken[i]);
        expect(&x, 10 * SE_GRAIN, SIZE - 10 * SE_GRAIN, PL_PARENT, SE_SPAN - 10 * SE_GRAIN);
        FAILS(PL_E_CORRUPT, "grain directory entry 1",
              x.ops->map(x.state, SE_SPAN + 5, 9, &out, &e));
        expect(&x, UINT64_C(2) * SE_SPAN, SE_SPAN, PL_PARENT, SE_SPAN - SE_GRAIN);
        close_all(&x, &r);
    }
}

static void a_short_file_is_an_error(void **state)
{
    const uint64_t lengths[] = { 0, 8, 511, 512, 1023, 1024, 1535 };
    struct se_rig r = good();

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(lengths); i++) {
        const struct vmdk_extent_args args = { .file = memory_copy(r.file, lengths[i]) };
        struct vmdk_extent x;

        FAILS(PL_E_CORRUPT, "header", vmdk_sesparse_open(&args, &x, &e));
        pl_storage_close(args.file, NULL);
    }
    close_all(NULL, &r);
}

static void the_extent_line_may_say_less_but_not_more(void **state)
{
    struct se_rig r = good();
    struct vmdk_extent_args args = { .file = r.file, .size = SIZE - 512 };
    struct vmdk_extent x;

    (void)state;
    OK(vmdk_sesparse_open(&args, &x, &e));
    assert_int_equal(x.size, SIZE - 512);
    x.ops->close(x.state);
    args.size = SIZE + 512;
    FAILS(PL_E_CORRUPT, "descriptor", vmdk_sesparse_open(&args, &x, &e));
    close_all(NULL, &r);
}

static void writing_is_refused_with_a_way_out(void **state)
{
    struct se_rig r = good();
    const struct vmdk_extent_args args = { .file = r.file, .writable = true };
    struct pl_err error = { 0 };
    struct vmdk_extent x;

    (void)state;
    assert_int_equal(vmdk_sesparse_open(&args, &x, &error), -1);
    assert_int_equal(error.kind, PL_E_UNSUPPORTED);
    assert_non_null(strstr(error.hint, "overlay"));
    r.file->sequential = true;
    FAILS(PL_E_UNSUPPORTED, "pipe", vmdk_sesparse_open(&args, &x, &e));
    close_all(NULL, &r);
}

static void check_counts_what_is_there_and_what_is_broken(void **state)
{
    struct se_rig r = good();
    struct vmdk_extent x = se_open(&r, 0);
    struct pl_check_result result = { 0 };

    (void)state;
    OK(x.ops->check(x.state, PL_REPAIR_NONE, NULL, &result, &e));
    assert_int_equal(result.corruptions + result.check_errors + result.leaks, 0);
    assert_int_equal(result.allocated_clusters, 7);
    assert_int_equal(result.fragmented_clusters, 2);
    assert_int_equal(result.total_clusters, SIZE / SE_GRAIN);
    assert_int_equal(result.image_end_offset, r.grains_at + 40 * SE_GRAIN);
    x.ops->close(x.state);

    se_set_entry(&r, 1, 5, UINT64_C(4) << 60);
    se_set_entry(&r, 1, 100, 1);
    se_poke(&r, SE_DIRECTORY + 8, 99); /* 4096 grains */
    x = se_open(&r, 0);
    result = (struct pl_check_result){ 0 };
    OK(x.ops->check(x.state, PL_REPAIR_NONE, NULL, &result, &e));
    assert_int_equal(result.corruptions, 2 + 4096);
    assert_int_equal(result.allocated_clusters, 6);
    close_all(&x, &r);
}

/* One entry of `count`, for the model. */
static uint64_t random_entry(uint64_t *seed, uint64_t before, uint64_t count)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    switch (*seed >> 60) {
    case 0:
        return 0;
    case 1:
        return UINT64_C(1) << 60;
    case 2:
        return UINT64_C(2) << 60;
    case 3:
    case 4:
        return se_allocated((*seed >> 30) % count);
    default: /* goes on as before */
        if (before >> 60 != 3 || (before >> 48 & 0xfff) + 1 >= count)
            return before;
        return before + (UINT64_C(1) << 48);
    }
}

/* Every run of map is what the entries say, one by one, and ends where they change. */
static void map_is_what_the_entries_say(void **state)
{
    const uint64_t grains = UINT64_C(2) * 4096;
    struct se_rig r = se_make(grains * SE_GRAIN, 2, 500);
    uint64_t *model = calloc(grains, sizeof *model), seed = 7, entry = 0;
    struct vmdk_extent x;

    (void)state;
    se_set_table(&r, 0, 1);
    se_set_table(&r, 1, 0);
    for (uint64_t g = 0; g < grains; g++) {
        entry = model[g] = random_entry(&seed, entry, 500);
        se_set_entry(&r, g < 4096, g % 4096, entry);
    }
    x = se_open(&r, 1);
    for (uint64_t g = 0, n; g < grains; g += n) {
        const unsigned type = (unsigned)(model[g] >> 60);
        struct pl_extent out;

        OK(x.ops->map(x.state, g * SE_GRAIN, x.size - g * SE_GRAIN, &out, &e));
        n = out.len / SE_GRAIN;
        assert_int_equal(out.state, type == 3 ? PL_DATA : type ? PL_ZERO : PL_PARENT);
        for (uint64_t i = 0; i < n && type == 3; i++)
            assert_int_equal(out.off + i * SE_GRAIN,
                             r.grains_at + (model[g + i] >> 48 & 0xfff) * SE_GRAIN);
        for (uint64_t i = 0; i < n && type != 3; i++)
            assert_int_equal(model[g + i] >> 60 ? 1 : 0, type ? 1 : 0);
    }
    free(model);
    close_all(&x, &r);
}

/* The whole disk's bytes, through map. */
static void digest_of(const struct vmdk_extent *x, char text[static PL_DIGEST_TEXT])
{
    uint8_t *bytes = malloc(1 << 20);
    struct pl_digest *digest;
    struct pl_extent out;

    OK(pl_digest_new("sha256", &digest, &e));
    for (uint64_t at = 0; at < x->size; at += out.len) {
        OK(x->ops->map(x->state, at, PL_MIN(x->size - at, 1 << 20), &out, &e));
        if (out.state == PL_DATA)
            OK(pl_storage_read(out.st, out.off, bytes, out.len, &e));
        else
            memset(bytes, 0, out.len);
        OK(pl_digest_update(digest, bytes, out.len, &e));
    }
    OK(pl_digest_finish(digest, text, &e));
    pl_digest_free(digest);
    free(bytes);
}

static void the_sample_reads_as_it_should(void **state)
{
    char *path = test_image("vmdk/sesparse/se-sesparse.vmdk"), text[PL_DIGEST_TEXT];
    struct vmdk_extent_args args = { .size = 98304 * 512 };
    struct vmdk_extent x;

    (void)state;
    if (!path)
        TEST_SKIP("no sample images");
    OK(pl_file_storage(open(path, O_RDONLY), path, false, &args.file, &e));
    OK(vmdk_sesparse_open(&args, &x, &e));
    digest_of(&x, text);
    assert_string_equal(text, "19d97eec3b8cce769deb28bfb6426e2082eb93a7149a15eb56aa15ae15703e37");
    x.ops->close(x.state);
    pl_storage_close(args.file, NULL);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_grain_is_told),
        cmocka_unit_test(runs_are_clipped_to_what_was_asked),
        cmocka_unit_test(long_runs_come_in_one_piece),
        cmocka_unit_test(the_number_of_a_grain_is_put_together_from_both_parts),
        cmocka_unit_test(a_broken_entry_is_an_error_where_it_is),
        cmocka_unit_test(a_broken_directory_entry_is_an_error_where_it_is),
        cmocka_unit_test(a_short_file_is_an_error),
        cmocka_unit_test(the_extent_line_may_say_less_but_not_more),
        cmocka_unit_test(writing_is_refused_with_a_way_out),
        cmocka_unit_test(check_counts_what_is_there_and_what_is_broken),
        cmocka_unit_test(map_is_what_the_entries_say),
        cmocka_unit_test(the_sample_reads_as_it_should),
    };
    struct CMUnitTest rows[PL_COUNT(damages)];
    int failed;

    for (unsigned i = 0; i < PL_COUNT(damages); i++)
        rows[i] = (struct CMUnitTest){ .name = damages[i].name,
                                       .test_func = check_damage,
                                       .initial_state = (void *)&damages[i] };
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + cmocka_run_group_tests(rows, NULL, NULL);
}
