#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/base/checked.h"
#include "core/graph/image.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

/* Clusters of 512 bytes, L2 tables of 64 entries (32 KiB of disk); L1 table at 512, L2 table at
 * 1024. */
#define L1 512
#define L2 1024
#define DATA 1536
#define SPAN 32768
#define SIZE (4 * SPAN)
#define FILE_SIZE 4096
#define PACKED_AT(off, len) (UINT64_C(1) << 63 | (uint64_t)(len) << 54 | (off))

static struct pl_storage *good(void)
{
    struct pl_storage *st = memory();

    OK(pl_storage_resize(st, FILE_SIZE, &e));
    poke(st, 0, 8, UINT64_C(0x514649fb00000001));
    poke(st, 24, 8, SIZE);
    poke(st, 32, 2, 0x0906);
    poke(st, 40, 8, L1);
    poke(st, L1, 8, L2);
    return st;
}

static int try_open(struct pl_storage *st, struct pl_err *e)
{
    struct pl_layer layer = { 0 };

    if (pl_qcow.open(&(struct pl_open_args){ .file = st }, &layer, e) < 0)
        return -1;
    close_layer(&pl_qcow, &layer);
    return 0;
}

static const struct damage {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
    enum pl_kind kind;
    const char *text;
} damages[] = {
    { "another magic", 0, 4, 0x514649fa, PL_E_FORMAT, "not a qcow file" },
    { "another version", 4, 4, 2, PL_E_FORMAT, "version 1" },
    { "a backing file name of 1024 bytes", 8, 12, 0, PL_E_LIMIT, "1024" },
    { "a disk of 2^64 - 1 bytes", 24, 8, UINT64_MAX, PL_E_LIMIT, "too big" },
    { "a disk that needs too long a table", 24, 8, INT64_MAX, PL_E_LIMIT, "L1 table" },
    { "a disk that needs more table than there is", 24, 8, UINT64_C(1) << 35, PL_E_CORRUPT,
      "past the end" },
    { "clusters of 256 bytes", 32, 1, 8, PL_E_CORRUPT, "cluster_bits" },
    { "clusters of 128 KiB", 32, 1, 17, PL_E_CORRUPT, "cluster_bits" },
    { "tables of 32 entries", 33, 1, 5, PL_E_CORRUPT, "l2_bits" },
    { "tables of 16384 entries", 33, 1, 14, PL_E_CORRUPT, "l2_bits" },
    { "AES", 36, 4, 1, PL_E_UNSUPPORTED, "is encrypted (AES)" },
    { "an unknown encryption", 36, 4, 2, PL_E_UNSUPPORTED, "crypt_method 2" },
    { "an L1 table past the end", 40, 8, FILE_SIZE - 8, PL_E_CORRUPT, "past the end" },
    { "an L1 table at the end of all", 40, 8, UINT64_MAX, PL_E_CORRUPT, "past the end" },
};

static void damage_is_named(void **state)
{
    const struct damage *d = *state;
    struct pl_storage *st = good();

    OK(try_open(st, &e));
    if (d->width > 8) { /* two fields at once */
        poke(st, 8, 8, 64);
        poke(st, 16, 4, 1024);
    } else {
        poke(st, d->at, d->width, d->value);
    }
    FAILS(d->kind, d->text, try_open(st, &e));
    pl_storage_close(st, NULL);
}

static void a_file_that_ends_early_is_refused(void **state)
{
    struct pl_storage *whole = good();

    (void)state;
    for (uint64_t len = 0; len < L1 + 8 * SIZE / SPAN; len++) {
        struct pl_storage *st = memory_copy(whole, len);
        struct pl_err e = { 0 };

        if (try_open(st, &e) == 0)
            fail_msg("a file cut to %d bytes opens", (int)len);
        pl_storage_close(st, NULL);
    }
    pl_storage_close(whole, NULL);
}

static const struct look {
    const char *name;
    uint64_t entry[4];
    uint64_t at;
    enum pl_state state;
    uint64_t want_len, want_off;
    const char *text;
} looks[] = {
    { "an empty entry is the parent's", { 0, 0, DATA }, 0, PL_PARENT, 1024, 0, NULL },
    { "clusters that follow each other are one run",
      { DATA, DATA + 512, DATA + 512 },
      0,
      PL_DATA,
      1024,
      DATA,
      NULL },
    { "a run starts inside a cluster", { DATA, DATA + 512 }, 100, PL_DATA, 924, DATA + 100, NULL },
    { "clusters need no alignment", { DATA + 3, DATA + 515 }, 0, PL_DATA, 1024, DATA + 3, NULL },
    { "a compressed cluster is alone",
      { PACKED_AT(DATA + 7, 100), 0 },
      10,
      PL_PACKED,
      502,
      DATA + 7,
      NULL },
    { "a cluster past the end", { FILE_SIZE }, 0, 0, 0, 0, "past the end" },
    { "a compressed cluster that leaves the file",
      { PACKED_AT(FILE_SIZE - 99, 100) },
      0,
      0,
      0,
      0,
      "not inside" },
    { "a compressed cluster of nothing", { PACKED_AT(DATA, 0) }, 0, 0, 0, 0, "not inside" },
};

static void an_entry_is_mapped(void **state)
{
    const struct look *look = *state;
    struct pl_storage *st = good();
    struct pl_layer layer;
    struct pl_extent x;

    for (unsigned i = 0; i < PL_COUNT(look->entry); i++)
        poke(st, L2 + 8 * i, 8, look->entry[i]);
    poke(st, L2 + 32, 8, DATA);
    OK(pl_qcow.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    if (look->text) {
        FAILS(PL_E_CORRUPT, look->text, pl_qcow.map(layer.state, look->at, SIZE, &x, &e));
    } else {
        OK(pl_qcow.map(layer.state, look->at, SIZE - look->at, &x, &e));
        assert_int_equal(x.state, look->state);
        assert_int_equal(x.len, look->want_len);
        assert_int_equal(x.off, look->want_off);
        assert_int_equal(x.packed_len, look->state == PL_PACKED ? 100 : 0);
    }
    close_layer(&pl_qcow, &layer);
    pl_storage_close(st, NULL);
}

static void missing_tables_are_one_run(void **state)
{
    struct pl_storage *st = good();
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    poke(st, L1 + 24, 8, FILE_SIZE - 8);
    OK(pl_qcow.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    OK(pl_qcow.map(layer.state, SPAN + 5, SIZE - SPAN - 5, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    assert_int_equal(x.len, 2 * SPAN - 5);
    FAILS(PL_E_CORRUPT, "L1 entry 3", pl_qcow.map(layer.state, 3 * SPAN, 1, &x, &e));
    close_layer(&pl_qcow, &layer);
    pl_storage_close(st, NULL);
}

/* Reads all of the image and compares it with a raw file of the same length. */
static void reads_as(const char *path, const char *raw_path)
{
    struct pl_image *img, *raw;
    const struct pl_open_options as_raw = { .format = "raw" };
    uint8_t *got, *want;

    OK(pl_open(path, NULL, &img, &e));
    OK(pl_open(raw_path, &as_raw, &raw, &e));
    assert_string_equal(pl_format(img), "qcow");
    assert_int_equal(pl_size(img), pl_size(raw));
    got = malloc(pl_size(img));
    want = malloc(pl_size(img));
    OK(pl_read(img, 0, got, pl_size(img), &e));
    OK(pl_read(raw, 0, want, pl_size(img), &e));
    assert_memory_equal(got, want, pl_size(img));
    free(got);
    free(want);
    OK(pl_close(img, &e));
    OK(pl_close(raw, &e));
}

static void an_image_by_qemu_img_reads_as_what_went_in(void **state)
{
    char *raw = test_tmp("content.raw"), *path = test_tmp("image.qcow");
    FILE *f = fopen(raw, "wb");

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("qemu-img is not installed");
    for (uint64_t i = 0; i < 3 * PL_MIB; i++)
        putc(i / 100000 % 3 ? (int)(i * i / 77 % 256) : 0, f);
    fclose(f);
    assert_int_equal(run_quietly("qemu-img convert -f raw -O qcow '%s' '%s'", raw, path), 0);
    reads_as(path, raw);
    free(raw);
    free(path);
}

/* qemu-img 7.2 fails to write such images, but reads them. */
static void compressed_clusters_read_as_qemu_img_reads_them(void **state)
{
    char *raw = test_tmp("packed.raw"), *path = test_source("tests/fuzz/corpus/qcow/packed");

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("qemu-img is not installed");
    assert_int_equal(run_quietly("qemu-img convert -f qcow -O raw '%s' '%s'", path, raw), 0);
    reads_as(path, raw);
    free(raw);
    free(path);
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(a_file_that_ends_early_is_refused),
        cmocka_unit_test(missing_tables_are_one_run),
        cmocka_unit_test(an_image_by_qemu_img_reads_as_what_went_in),
        cmocka_unit_test(compressed_clusters_read_as_qemu_img_reads_them),
    };
    struct CMUnitTest tests[PL_COUNT(damages) + PL_COUNT(looks) + PL_COUNT(others)];
    struct CMUnitTest *t = tests;

    for (size_t i = 0; i < PL_COUNT(damages); i++)
        *t++ = (struct CMUnitTest){ damages[i].name, damage_is_named, NULL, NULL,
                                    (void *)&damages[i] };
    for (size_t i = 0; i < PL_COUNT(looks); i++)
        *t++ =
            (struct CMUnitTest){ looks[i].name, an_entry_is_mapped, NULL, NULL, (void *)&looks[i] };
    memcpy(t, others, sizeof others);
    return cmocka_run_group_tests_name("qcow", tests, NULL, NULL);
}
