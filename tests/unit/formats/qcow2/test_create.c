#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "core/base/checked.h"
#include "core/storage/file.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

static int make_data_file(const struct pl_create_args *args, const char *name,
                          struct pl_storage **out, struct pl_err *e)
{
    char *path = test_tmp(name);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    const int result = pl_file_storage(fd, path, true, out, e);

    (void)args;
    free(path);
    return result;
}

static int create(struct pl_storage *st, const char *text, uint64_t size, const char *parent,
                  struct pl_err *e)
{
    struct pl_options *options = options_of(text);
    const struct pl_create_args args = { .file = st,
                                         .size = size,
                                         .options = options,
                                         .parent.name = parent,
                                         .parent.format = "raw",
                                         .create_file = make_data_file };
    int result = pl_qcow2.create(&args, e);

    if (result == 0)
        result = pl_options_check_all_known(options, "qcow2", e);
    pl_options_free(options);
    return result;
}

static const struct refusal {
    const char *options;
    const char *parent;
    const char *text;
} refusals[] = {
    { "compat=0.9", NULL, "0.9" },
    { "compat=v2,lazy_refcounts=on", NULL, "lazy_refcounts" },
    { "compat=0.10,refcount_bits=8", NULL, "refcount_bits" },
    { "compat=v2,extended_l2=on", NULL, "extended_l2" },
    { "compat=v2,compression_type=zstd", NULL, "compression_type" },
    { "compat=v2,data_file=d.raw", NULL, "data_file" },
    { "cluster_size=256", NULL, "cluster_size" },
    { "cluster_size=4M", NULL, "cluster_size" },
    { "cluster_size=100k", NULL, "cluster_size" },
    { "cluster_size=0", NULL, "cluster_size" },
    { "refcount_bits=3", NULL, "refcount_bits" },
    { "refcount_bits=0", NULL, "refcount_bits" },
    { "refcount_bits=128", NULL, "refcount_bits" },
    { "extended_l2=on,cluster_size=8k", NULL, "16K" },
    { "data_file_raw=on", NULL, "data_file_raw needs data_file" },
    { "data_file=d.raw,data_file_raw=on", "parent", "backing file" },
    { "preallocation=metadata", "parent", "backing file" },
    { "preallocation=some", NULL, "some" },
    { "compression_type=lzma", NULL, "lzma" },
    { "lazy_refcounts=maybe", NULL, "maybe" },
    { "encryption=on", NULL, "encryption" },
    { "kluster_size=64k", NULL, "kluster_size" },
};

static void options_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(refusals); i++) {
        const struct refusal *r = &refusals[i];
        struct pl_storage *st = memory();

        FAILS(PL_E_INVALID, r->text, create(st, r->options, PL_MIB, r->parent, &e));
        pl_storage_close(st, NULL);
    }
}

/* The largest disk of each cluster size: 4 Mi L1 entries. */
static void sizes_go_to_the_limit_of_the_l1_table(void **state)
{
    static const struct {
        const char *options;
        uint64_t size;
    } rows[] = {
        { "cluster_size=512", UINT64_C(1) << 37 },
        { "cluster_size=4k", UINT64_C(1) << 43 },
        { "cluster_size=64k", UINT64_C(1) << 51 },
        { "cluster_size=64k,extended_l2=on", UINT64_C(1) << 50 },
        { "cluster_size=2M", UINT64_C(1) << 61 },
    };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_storage *st = memory();
        struct pl_layer layer;
        struct pl_extent x;

        FAILS(PL_E_LIMIT, "too big", create(st, rows[i].options, rows[i].size + 512, NULL, &e));
        OK(create(st, rows[i].options, rows[i].size, NULL, &e));
        OK(pl_qcow2.open(&(struct pl_open_args){ .file = st }, &layer, &e));
        assert_int_equal(layer.size, rows[i].size);
        OK(pl_qcow2.map(layer.state, 0, layer.size, &x, &e));
        assert_int_equal(x.len, layer.size);
        close_layer(&pl_qcow2, &layer);
        pl_storage_close(st, NULL);
    }
}

static void sizes_are_rounded_to_sectors(void **state)
{
    struct pl_storage *st = memory();
    struct pl_layer layer;

    (void)state;
    OK(create(st, "", 1000, NULL, &e));
    OK(pl_qcow2.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    assert_int_equal(layer.size, 1024);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
    st = memory();
    FAILS(PL_E_LIMIT, "too big", create(st, "", INT64_MAX, NULL, &e));
    FAILS(PL_E_LIMIT, "too big", create(st, "", UINT64_MAX, NULL, &e));
    pl_storage_close(st, NULL);
}

static void names_must_fit_into_the_first_cluster(void **state)
{
    char name[1025];
    struct pl_storage *st = memory();
    struct pl_layer layer;

    (void)state;
    memset(name, 'n', sizeof name);
    name[1024] = '\0';
    FAILS(PL_E_LIMIT, "1024", create(st, "", PL_MIB, name, &e));
    name[1023] = '\0';
    OK(create(st, "", PL_MIB, name, &e));
    name[400] = '\0';
    FAILS(PL_E_LIMIT, "fit", create(st, "cluster_size=512", PL_MIB, name, &e));
    name[300] = '\0'; /* there is room for it, not for the names of features too */
    OK(create(st, "cluster_size=512", PL_MIB, name, &e));
    OK(pl_qcow2.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    assert_string_equal(layer.parent_name, name);
    assert_string_equal(layer.parent_format, "raw");
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void the_same_request_gives_the_same_bytes(void **state)
{
    struct pl_storage *a = new_image(&pl_qcow2, "preallocation=metadata", 25 * PL_MIB, NULL);
    struct pl_storage *b = new_image(&pl_qcow2, "preallocation=metadata", 25 * PL_MIB, NULL);
    const size_t size = pl_storage_size(a);
    uint8_t *one = malloc(size), *two = malloc(size);

    (void)state;
    assert_int_equal(pl_storage_size(b), size);
    OK(pl_storage_read(a, 0, one, size, &e));
    OK(pl_storage_read(b, 0, two, size, &e));
    assert_memory_equal(one, two, size);
    free(one);
    free(two);
    pl_storage_close(a, NULL);
    pl_storage_close(b, NULL);
}

static void what_a_device_held_does_not_show(void **state)
{
    static const char *const rows[] = { "cluster_size=4k",
                                        "cluster_size=4k,preallocation=metadata" };
    uint8_t *old = malloc(4 * PL_MIB);

    (void)state;
    memset(old, 0xa5, 4 * PL_MIB);
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_storage *st = memory();
        struct pl_layer layer;
        struct pl_extent x;
        uint8_t bytes[4096], zeros[4096] = { 0 };

        OK(pl_storage_write(st, 0, old, 4 * PL_MIB, &e));
        st->device = true;
        OK(create(st, rows[i], PL_MIB, NULL, &e));
        assert_int_equal(pl_storage_size(st), 4 * PL_MIB);
        OK(pl_qcow2.open(&(struct pl_open_args){ .file = st }, &layer, &e));
        OK(pl_qcow2.map(layer.state, 0, PL_MIB, &x, &e));
        assert_int_equal(x.len, PL_MIB);
        assert_int_equal(x.state, i ? PL_DATA : PL_PARENT);
        if (x.state == PL_DATA) {
            OK(pl_storage_read(x.st, x.off + PL_MIB - 4096, bytes, 4096, &e));
            assert_memory_equal(bytes, zeros, 4096);
        }
        close_layer(&pl_qcow2, &layer);
        pl_storage_close(st, NULL);
    }
    free(old);
}

/* ---- compared with qemu-img ---- */
static int create_file(const char *path, const char *options, uint64_t size, struct pl_err *e)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    struct pl_storage *st;
    int result;

    if (pl_file_storage(fd, path, true, &st, e) < 0)
        return -1;
    result = create(st, options, size, NULL, e);
    return pl_storage_close(st, e) < 0 ? -1 : result;
}

static void compare_one(const char *ours, const char *theirs, const char *options, uint64_t size)
{
    char *line;

    OK(create_file(ours, options, size, &e));
    if (run_quietly("cd \"${TEST_TMP}\" && qemu-img create -f qcow2 -o '%s' '%s' %llu", options,
                    theirs, (unsigned long long)size))
        fail_msg("qemu-img refuses %s", options);
    line = run_line("cd \"${TEST_TMP}\" && qemu-img check '%s' 2>&1", ours);
    if (strcmp(line, "No errors were found on the image.") != 0)
        fail_msg("%s, %llu bytes: %s", options, (unsigned long long)size, line);
    free(line);
    line = run_line(
        "cd \"${TEST_TMP}\" && f() { qemu-img info \"$1\" | sed -n '/^virtual/p;/^ /p'; }; "
        "[ \"$(f '%s')\" = \"$(f '%s')\" ] && echo same",
        ours, theirs);
    if (strcmp(line, "same") != 0)
        fail_msg("%s, %llu bytes: info differs", options, (unsigned long long)size);
    free(line);
}

static void qemu_img_finds_no_fault_with_any_option(void **state)
{
    static const char *const bases[] = {
        "compat=0.10",           "compat=1.1",         "refcount_bits=1",
        "refcount_bits=64",      "extended_l2=on",     "lazy_refcounts=on",
        "compression_type=zstd", "data_file=data.raw", "data_file=data.raw,data_file_raw=on"
    };
    static const char *const preallocs[] = { "off", "metadata", "falloc", "full" };
    static const char *const clusters[] = { "16k", "64k", "2M" };
    static const uint64_t sizes[] = { 0, 512, PL_MIB + 512 };
    char *ours = test_tmp("ours.qcow2"), *theirs = test_tmp("theirs.qcow2"), options[128];

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("qemu-img is not installed");
    for (size_t i = 0; i < PL_COUNT(bases) * PL_COUNT(preallocs); i++) {
        snprintf(options, sizeof options, "%s,preallocation=%s,cluster_size=%s",
                 bases[i / PL_COUNT(preallocs)], preallocs[i % PL_COUNT(preallocs)],
                 clusters[i % PL_COUNT(clusters)]);
        compare_one(ours, theirs, options, sizes[PL_COUNT(sizes) - 1]);
        if (i % PL_COUNT(preallocs) == 1)
            compare_one(ours, theirs, options, sizes[i % 2]);
    }
    compare_one(ours, theirs, "cluster_size=512,refcount_bits=64,preallocation=metadata",
                9 * PL_MIB);
    compare_one(ours, theirs, "cluster_size=512,refcount_bits=1", 128 * PL_GIB);
    free(ours);
    free(theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_do_not_fit_are_refused),
        cmocka_unit_test(sizes_go_to_the_limit_of_the_l1_table),
        cmocka_unit_test(sizes_are_rounded_to_sectors),
        cmocka_unit_test(names_must_fit_into_the_first_cluster),
        cmocka_unit_test(the_same_request_gives_the_same_bytes),
        cmocka_unit_test(what_a_device_held_does_not_show),
        cmocka_unit_test(qemu_img_finds_no_fault_with_any_option),
    };

    return cmocka_run_group_tests_name("qcow2 create", tests, NULL, NULL);
}
