#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>

#include "core/base/checked.h"
#include "core/base/image_types.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

static const char *const option_rows[] = {
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=64k",
    "cluster_size=2M",
    "cluster_size=64k,refcount_bits=1",
    "cluster_size=4k,refcount_bits=64",
    "cluster_size=64k,extended_l2=on",
    "cluster_size=64k,preallocation=metadata",
    "cluster_size=64k,preallocation=falloc",
    "cluster_size=512,preallocation=full",
    "compat=0.10",
    "lazy_refcounts=on",
    "compression_type=zstd",
};

static int measure(struct pl_measure_args args, const char *text, struct pl_measure_result *result,
                   struct pl_err *e)
{
    struct pl_options *options = options_of(text);
    int status;

    args.options = options;
    status = pl_qcow2.measure(&args, result, e);
    pl_options_free(options);
    return status;
}

/* "required fully-allocated" of a command line of qemu-img measure. */
static void their_numbers(const char *options, const char *what, uint64_t *required, uint64_t *full)
{
    char *line =
        run_line("qemu-img measure -O qcow2 -o '%s' %s 2>&1 | tr -dc '0-9\\n' | tr '\\n' ' '",
                 options, what);

    *required = *full = 0;
    if (sscanf(line, "%" SCNu64 " %" SCNu64, required, full) != 2)
        fail_msg("qemu-img measure -o %s %s says \"%s\"", options, what, line);
    free(line);
}

static void a_size_measures_as_qemu_img_says(void **state)
{
    static const uint64_t sizes[] = { 0, 512, PL_MIB, 1000000000, 100 * PL_GIB, UINT64_C(1) << 37 };
    char what[64];

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("qemu-img is not installed");
    for (size_t i = 0; i < PL_COUNT(option_rows) * PL_COUNT(sizes); i++) {
        const char *options = option_rows[i / PL_COUNT(sizes)];
        const uint64_t size = sizes[i % PL_COUNT(sizes)];
        struct pl_measure_result ours;
        uint64_t required, full;

        snprintf(what, sizeof what, "--size %" PRIu64, size);
        their_numbers(options, what, &required, &full);
        OK(measure((struct pl_measure_args){ .size = size }, options, &ours, &e));
        if (ours.required != required || ours.fully_allocated != full)
            fail_msg("%s %s: %" PRIu64 " %" PRIu64 ", qemu-img: %" PRIu64 " %" PRIu64, options,
                     what, ours.required, ours.fully_allocated, required, full);
        assert_false(ours.has_bitmaps);
    }
}

static void data_and_bitmaps_measure_as_qemu_img_says(void **state)
{
    static const struct pl_bitmap bitmaps[] = {
        { .name = "b0", .granularity = 65536 },
        { .name = "wide", .granularity = 512 },
        { .name = "gone", .granularity = 512, .in_use = true }
    };
    struct pl_measure_args args = { .size = 50 * PL_MIB,
                                    .data_bytes = 3 * PL_MIB,
                                    .bitmaps = bitmaps,
                                    .bitmap_count = 3,
                                    .with_bitmaps = true };
    struct pl_measure_result ours;
    char *path = test_tmp("source.qcow2");
    char *line;

    (void)state;
    if (!has_program("qemu-img") || !has_program("qemu-io"))
        TEST_SKIP("qemu-img or qemu-io is not installed");
    assert_int_equal(run_quietly("qemu-img create -f qcow2 '%s' 50M && "
                                 "qemu-io -f qcow2 -c 'write -P 1 1M 3M' '%s' && "
                                 "qemu-img bitmap --add '%s' b0 && "
                                 "qemu-img bitmap --add -g 512 '%s' wide",
                                 path, path, path, path),
                     0);
    for (size_t i = 0; i < PL_COUNT(option_rows); i++) {
        uint64_t required, full, bits = 0;

        their_numbers(option_rows[i], path, &required, &full);
        line = run_line("qemu-img measure -O qcow2 -o '%s' '%s' | sed -n 's/bitmaps size: //p'",
                        option_rows[i], path);
        OK(measure(args, option_rows[i], &ours, &e));
        assert_int_equal(ours.required, required);
        assert_int_equal(ours.fully_allocated, full);
        assert_int_equal(ours.has_bitmaps, sscanf(line, "%" SCNu64, &bits) == 1);
        assert_int_equal(ours.bitmaps, bits);
        free(line);
    }
    free(path);
}

static void what_cannot_be_created_is_not_measured(void **state)
{
    struct pl_measure_result ours;

    (void)state;
    FAILS(PL_E_INVALID, "cluster_size",
          measure((struct pl_measure_args){ .size = 1 }, "cluster_size=3k", &ours, &e));
    FAILS(PL_E_LIMIT, "too big",
          measure((struct pl_measure_args){ .size = (UINT64_C(1) << 37) + 512 }, "cluster_size=512",
                  &ours, &e));
    FAILS(PL_E_LIMIT, "too big",
          measure((struct pl_measure_args){ .size = UINT64_MAX }, "", &ours, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_size_measures_as_qemu_img_says),
        cmocka_unit_test(data_and_bitmaps_measure_as_qemu_img_says),
        cmocka_unit_test(what_cannot_be_created_is_not_measured),
    };

    return cmocka_run_group_tests_name("qcow2 measure", tests, NULL, NULL);
}
