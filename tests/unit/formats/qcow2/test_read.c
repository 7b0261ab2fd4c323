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

#define SIZE (5 * 1024 * 1024 + 512)

/* Stretches of noise, of text that packs well, and of zeros, of odd lengths. */
static uint8_t *content(void)
{
    uint8_t *bytes = calloc(1, SIZE);
    uint64_t state = 88172645463325252u;
    size_t at = 0;

    while (at < SIZE) {
        const unsigned kind = (unsigned)(state % 3);
        const size_t end = PL_MIN(at + 1000 + state % 200000, (size_t)SIZE);

        for (; kind != 0 && at < end; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[at] = kind == 1 ? (uint8_t)state : (uint8_t)(at / 40);
        }
        at = end;
        state = state * 6364136223846793005u + 1442695040888963407u;
    }
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

/* Reads the image in pieces of all lengths. */
static void reads_as(const char *path, const uint8_t *want, const char *what)
{
    uint8_t *got = malloc(SIZE);
    struct pl_image *img;
    size_t piece = 1;

    OK(pl_open(path, NULL, &img, &e));
    assert_int_equal(pl_size(img), SIZE);
    for (size_t at = 0; at < SIZE; at += piece) {
        piece = PL_MIN(piece * 3 % 300007 + 1, SIZE - at);
        OK(pl_read(img, at, got + at, piece, &e));
    }
    if (memcmp(got, want, SIZE) != 0)
        fail_msg("%s: the content differs", what);
    OK(pl_close(img, &e));
    free(got);
}

static void images_by_qemu_img_read_as_what_went_in(void **state)
{
    static const char *const rows[] = {
        "-o compat=0.10",
        "-o cluster_size=512",
        "-o cluster_size=2M",
        "-o extended_l2=on",
        "-o extended_l2=on,cluster_size=16k",
        "-o refcount_bits=1,cluster_size=4k",
        "-o preallocation=metadata",
        "-o preallocation=metadata,extended_l2=on",
        "-c",
        "-c -o cluster_size=512",
        "-c -o cluster_size=2M",
        "-c -o compression_type=zstd",
        "-c -o compression_type=zstd,cluster_size=4k",
        "-c -o extended_l2=on",
        "-S 0",
        "-o data_file=ext.raw",
        "-o data_file=ext.raw,data_file_raw=on",
    };
    char *raw = test_tmp("content.raw"), *image = test_tmp("image.qcow2");
    uint8_t *bytes = content();

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("qemu-img is not installed");
    write_file(raw, bytes, SIZE);
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        if (run_quietly("cd \"$TEST_TMP\" && rm -f image.qcow2 ext.raw && "
                        "qemu-img convert -f raw -O qcow2 %s content.raw image.qcow2",
                        rows[i]))
            fail_msg("qemu-img convert %s fails", rows[i]);
        reads_as(image, bytes, rows[i]);
    }
    free(bytes);
    free(raw);
    free(image);
}

static void overlays_by_qemu_img_read_as_their_chain(void **state)
{
    static const char *const rows[] = { "cluster_size=64k", "cluster_size=16k,extended_l2=on",
                                        "cluster_size=512" };
    char *raw = test_tmp("base.raw"), *image = test_tmp("over.qcow2");
    uint8_t *bytes = content();

    (void)state;
    if (!has_program("qemu-img") || !has_program("qemu-io"))
        TEST_SKIP("qemu-img or qemu-io is not installed");
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        write_file(raw, bytes, SIZE);
        assert_int_equal(
            run_quietly("cd \"$TEST_TMP\" && rm -f over.qcow2 && "
                        "qemu-img create -f qcow2 -F raw -b base.raw -o %s over.qcow2 && "
                        "qemu-io -f qcow2 -c 'write -z 64k 200k' -c 'write -P 7 1M 5000' "
                        "-c 'write -zu 2M 1M' -c 'write -P 9 2500k 512' over.qcow2",
                        rows[i]),
            0);
        memset(bytes + 65536, 0, 204800);
        memset(bytes + 1048576, 7, 5000);
        memset(bytes + 2097152, 0, 1048576);
        memset(bytes + 2560000, 9, 512);
        reads_as(image, bytes, rows[i]);
    }
    free(bytes);
    free(raw);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_by_qemu_img_read_as_what_went_in),
        cmocka_unit_test(overlays_by_qemu_img_read_as_their_chain),
    };

    return cmocka_run_group_tests_name("qcow2 read", tests, NULL, NULL);
}
