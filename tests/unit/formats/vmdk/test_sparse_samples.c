/* Sparse extents that other software wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/base/checked.h"
#include "core/base/digest.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/support/rig.h"
#include "tests/support/extent_driver.h"

#define CONTENT "42ff1d1dec3aec49ead4efcdbd4f6966cbeeb80a25b6687f0547ea50bacf9227"
#define SMALL "86769c6648ad0d4ba860d6950ca3d2a96a5d611a4b81adae80c784769ec71201"
#define FILE_LIMIT (64 << 20)

static const struct sample {
    const char *file;
    uint64_t size;
    const char *sha256; /* null: all zeros, and told in few runs */
    const char *parent; /* flat file under a child */
    uint64_t line_size; /* by the extent line, where that is not the header's */
    bool has_descriptor;
} samples[] = {
    { "vmdk/vmware-monolithic-sparse.vmdk", 10485760,
      "a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727", .has_descriptor = true },
    { "vmdk/esxi-vmfs/vmfs_thick-000001-delta.vmdk", 2097152,
      "8e68d1116802d0493332352cbc1c91117191888b36d92d5c8e9c5faec8eadb28",
      .parent = "vmdk/esxi-vmfs/vmfs_thick-flat.vmdk" },
    { "vmdk/cowd/cowd-base-delta.vmdk", 41943040,
      .sha256 = "afcb7c8a462592f58fdbc37fdf38a8bcf7cfeb70071a82b6c0645cd747a18ba2" },
    { "vmdk/mochaos-disk-1.vmdk", 16777216,
      "ad24ab4e56568dabf3b9c472d27e63a7e13e1e7f6b8eb1ab5921d01638200ca9", .has_descriptor = true },
    { "vmdk/mochaos-disk-2.vmdk", 16777216,
      "a8aba27de3cd29d78c29d32c2ca1e32ef53539b7afb807c10d787c5642926ed0", .has_descriptor = true },
    { "vmdk/stream-cot-input.vmdk", 1073741824, NULL, .has_descriptor = true },
    { "vmdk/stream-cot-blank.vmdk", 536870912, NULL, .has_descriptor = true },
    { "vmdk/stream-version3-1g.vmdk", 1073741824, NULL, .has_descriptor = true },
    { "vmdk/myvaros-test.vmdk", 524288000, NULL, .has_descriptor = true },
    { "vmdk/stream-with-markers.vmdk", 1048576,
      "92c0f8b4280377437056f57c51ef51a5f8aeb1462ac630ef0633febcbfc3db4e", .has_descriptor = true },
    { "vmdk/qemu-monolithic-64k.vmdk", 65536,
      "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31", .has_descriptor = true },
    { "vmdk/qemu-ext2.vmdk", 4194304,
      "ec09b82aa57a3fff111b2c8cc3009c5d6bcbc74bcb0074b183467a7c5ac1b06e", .has_descriptor = true },
    { "vmdk/vbox-sparse.vmdk", 6292992, CONTENT, .line_size = 6292992, .has_descriptor = true },
    { "vmdk/vbox-stream.vmdk", 6292992, CONTENT, .line_size = 6292992, .has_descriptor = true },
    { "vmdk/qemu-sparse.vmdk", 6292992, CONTENT, .has_descriptor = true },
    { "vmdk/qemu-stream.vmdk", 6292992, CONTENT, .has_descriptor = true },
    { "vmdk/qemu-compat6.vmdk", 6292992, CONTENT, .has_descriptor = true },
    { "vmdk/qemu-zeroedgrain.vmdk", 6292992,
      "67ecbae241a64ad5322223ea5e270c8b1a1214f1b4dc24c0c79baccb0719875b", .has_descriptor = true },
    { "vmdk/openvmdk-small.vmdk", 3145728, SMALL, .has_descriptor = true },
    { "vmdk/openvmdk-stream.vmdk", 6292992, CONTENT, .has_descriptor = true },
    { "vmdk/vmdkstream-py.vmdk", 6292992, CONTENT, .has_descriptor = true },
};

static struct pl_storage *load(const char *name)
{
    char *path = test_image(name);
    struct pl_storage *st;

    if (!path)
        TEST_SKIP("no sample images");
    OK(rig_load(path, FILE_LIMIT, &st, &e));
    free(path);
    return st;
}

/* Reads in pieces of all lengths. */
static void digest_of(struct rig *rig, char text[static PL_DIGEST_TEXT])
{
    uint8_t *buf = malloc(400000);
    struct pl_digest *digest;
    uint64_t piece = 1;

    OK(pl_digest_new("sha256", &digest, &e));
    for (uint64_t at = 0; at < rig->layer.size; at += piece) {
        piece = PL_MIN(piece * 3 % 300007 + 1, rig->layer.size - at);
        OK(rig_read(rig, at, buf, piece, &e));
        OK(pl_digest_update(digest, buf, piece, &e));
    }
    OK(pl_digest_finish(digest, text, &e));
    pl_digest_free(digest);
    free(buf);
}

static void is_empty(struct rig *rig)
{
    unsigned runs = 0;

    for (uint64_t at = 0; at < rig->layer.size; runs++) {
        struct pl_extent x;

        OK(extent_driver.map(rig->layer.state, at, rig->layer.size - at, &x, &e));
        assert_int_equal(x.state, PL_PARENT);
        at += x.len;
    }
    assert_true(runs <= 32);
}

static void a_sample_has_its_content(void **state)
{
    const struct sample *s = *state;
    struct rig rig = { .driver = &extent_driver, .read_only = true, .extent_size = s->line_size };
    struct pl_storage *parent = NULL;
    uint8_t *bytes = NULL;
    char text[PL_DIGEST_TEXT], *descriptor;

    rig.st = load(s->file);
    if (s->parent) {
        parent = load(s->parent);
        rig.parent_len = pl_storage_size(parent);
        rig.parent = bytes = malloc(rig.parent_len);
        OK(pl_storage_read(parent, 0, bytes, rig.parent_len, &e));
        pl_storage_close(parent, NULL);
    }
    OK(vmdk_sparse_descriptor(rig.st, &descriptor, &e));
    assert_int_equal(descriptor != NULL, s->has_descriptor);
    if (descriptor)
        assert_non_null(strstr(descriptor, "createType"));
    free(descriptor);
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, s->size);
    if (s->sha256) {
        digest_of(&rig, text);
        assert_string_equal(text, s->sha256);
    } else {
        is_empty(&rig);
    }
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    free(bytes);
}

static const struct bad {
    const char *file;
    enum pl_kind kind;
    const char *text; /* null: opens, but cannot be read */
} bads[] = {
    { "malformed/cdi-invalid-qcow-backing-file.vmdk", PL_E_CORRUPT, "grainSize of 1025" },
    { "malformed/vmdk-grain-size-0.vmdk", PL_E_CORRUPT, "grainSize of 0" },
    { "malformed/vmdk-grain-size-not-pow2.vmdk", PL_E_CORRUPT, "grainSize of 100" },
    { "malformed/vmdk-gtes-huge.vmdk", PL_E_CORRUPT, "numGTEsPerGT" },
    { "malformed/vmdk-capacity-huge.vmdk", PL_E_LIMIT, "capacity" },
    { "malformed/vmdk-compress-algo-9.vmdk", PL_E_UNSUPPORTED, "compressAlgorithm 9" },
    { "malformed/vmdk-descriptor-size-huge.vmdk", PL_E_CORRUPT, "descriptor" },
    { "malformed/vmdk-gd-past-eof.vmdk", PL_E_CORRUPT, "grain directory" },
    { "malformed/vmdk-gte-past-eof.vmdk", PL_E_CORRUPT, NULL },
    { "malformed/vmdk-truncated-header.vmdk", PL_E_CORRUPT, "ends inside it" },
    { "malformed/vmdk-stream-grain-size-huge.vmdk", PL_E_CORRUPT, NULL },
    { "malformed/vmdk-stream-short-inflate.vmdk", PL_E_CORRUPT, NULL },
};

static void a_malformed_sample_is_refused(void **state)
{
    const struct bad *b = *state;
    struct rig rig = { .driver = &extent_driver, .read_only = true };
    uint8_t *buf;

    rig.st = load(b->file);
    if (b->text) {
        FAILS(b->kind, b->text, rig_open(&rig, &e));
    } else {
        OK(rig_open(&rig, &e));
        buf = malloc(rig.layer.size);
        FAILS(b->kind, "", rig_read(&rig, 0, buf, rig.layer.size, &e));
        free(buf);
        rig_close(&rig);
    }
    pl_storage_close(rig.st, NULL);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(samples) + PL_COUNT(bads)];
    size_t n = 0;

    for (size_t i = 0; i < PL_COUNT(samples); i++)
        tests[n++] = (struct CMUnitTest){ .name = samples[i].file,
                                          .test_func = a_sample_has_its_content,
                                          .initial_state = (void *)&samples[i] };
    for (size_t i = 0; i < PL_COUNT(bads); i++)
        tests[n++] = (struct CMUnitTest){ .name = bads[i].file,
                                          .test_func = a_malformed_sample_is_refused,
                                          .initial_state = (void *)&bads[i] };
    return _cmocka_run_group_tests("test_sparse_samples", tests, n, NULL, NULL);
}
