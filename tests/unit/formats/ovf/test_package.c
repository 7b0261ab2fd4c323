/* test_package.c - the content of disks: chunks, gzip, files beside the descriptor, and the sample
 * that open-vmdk made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <zlib.h>

#include "core/base/digest.h"
#include "core/storage/file.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/unit/formats/ovf/packages.h"

#define LEN 25000

/* A descriptor whose one File has these attributes. */
#define OVF_OF_FILE(attributes, disk_attributes)                                                   \
    ENVELOPE_1                                                                                     \
    "<References><File ovf:id=\"f\" " attributes "/></References><DiskSection>"                    \
    "<Disk ovf:diskId=\"d\" ovf:fileRef=\"f\" ovf:capacity=\"1048576\" " disk_attributes           \
    "/></DiskSection></Envelope>"

static void *open_ovf(const char *text, const struct beside *files, struct pl_storage **file)
{
    void *package;

    *file = named("folder/vm.ovf", text, strlen(text));
    OK(open_package(&pl_ovf, *file, files, &package, &e));
    return package;
}

static void has_disk(const char *text, const struct beside *files, const void *bytes, size_t len)
{
    struct pl_storage *file;
    void *package = open_ovf(text, files, &file);

    assert_true(disk_is(&pl_ovf, package, 0, bytes, len));
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

static void has_no_disk(const char *text, const struct beside *files, enum pl_kind kind,
                        const char *why)
{
    struct pl_storage *file, *st;
    void *package = open_ovf(text, files, &file);

    FAILS(kind, why, pl_ovf.storage(package, 0, &st, &e));
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

static void files_beside_come_through_the_callback(void **state)
{
    uint8_t *disk = content(LEN, 1);
    const struct beside files[] = { { "disk.vmdk", disk, LEN }, { 0 } };

    (void)state;
    has_disk(OVF_OF_FILE("ovf:href=\"disk.vmdk\"", ""), files, disk, LEN);
    has_disk(OVF_OF_FILE("ovf:href=\"disk%2Evmdk\" ovf:size=\"25000\"", ""), files, disk, LEN);
    has_no_disk(OVF_OF_FILE("ovf:href=\"disk%00.vmdk\"", ""), files, PL_E_NOT_FOUND, "disk%00");
    has_no_disk(OVF_OF_FILE("ovf:href=\"disk.vmdk\" ovf:size=\"25001\"", ""), files, PL_E_CORRUPT,
                "disk.vmdk: has 25000 bytes, the descriptor says 25001");
    has_no_disk(OVF_OF_FILE("ovf:href=\"disk.vmdk\"", "ovf:parentRef=\"base\""), files,
                PL_E_UNSUPPORTED, "differences to disk base");
    has_no_disk(OVF_OF_FILE("ovf:href=\"disk.vmdk\" ovf:compression=\"bzip2\"", ""), files,
                PL_E_UNSUPPORTED, "compression \"bzip2\"");
    free(disk);
}

static void chunks_are_joined(void **state)
{
    uint8_t *disk = content(LEN, 2);
    const struct beside files[] = { { "d.000000000", disk, 10000 },
                                    { "d.000000001", disk + 10000, 10000 },
                                    { "d.000000002", disk + 20000, LEN - 20000 },
                                    { 0 } };

    (void)state;
    has_disk(OVF_OF_FILE("ovf:href=\"d\" ovf:chunkSize=\"10000\"", ""), files, disk, LEN);
    has_disk(OVF_OF_FILE("ovf:href=\"d\" ovf:chunkSize=\"10000\" ovf:size=\"25000\"", ""), files,
             disk, LEN);
    has_no_disk(OVF_OF_FILE("ovf:href=\"d\" ovf:chunkSize=\"10000\" ovf:size=\"35000\"", ""), files,
                PL_E_CORRUPT, "d.000000002: has 5000 bytes, the descriptor says 10000");
    has_no_disk(OVF_OF_FILE("ovf:href=\"d\" ovf:chunkSize=\"5000\" ovf:size=\"25000\"", ""), files,
                PL_E_CORRUPT, "d.000000000: has 10000 bytes, the descriptor says 5000");
    has_no_disk(OVF_OF_FILE("ovf:href=\"x\" ovf:chunkSize=\"5000\"", ""), files, PL_E_NOT_FOUND,
                "x.000000000");
    free(disk);
}

static void whole_chunks_end_where_no_other_follows(void **state)
{
    uint8_t *disk = content(20000, 3);
    const struct beside files[] = { { "d.000000000", disk, 10000 },
                                    { "d.000000001", disk + 10000, 10000 },
                                    { 0 } };

    (void)state;
    has_disk(OVF_OF_FILE("ovf:href=\"d\" ovf:chunkSize=\"10000\"", ""), files, disk, 20000);
    has_no_disk(OVF_OF_FILE("ovf:href=\"d\" ovf:chunkSize=\"10000\" ovf:size=\"20001\"", ""), files,
                PL_E_NOT_FOUND, "d.000000002");
    free(disk);
}

/* The bytes as gzip writes them. */
static uint8_t *gzipped(const void *bytes, size_t len, size_t *packed_len)
{
    uint8_t *packed = malloc(len + 4096);
    z_stream z = { 0 };

    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
    z.next_in = (uint8_t *)(uintptr_t)bytes;
    z.avail_in = (uInt)len;
    z.next_out = packed;
    z.avail_out = (uInt)len + 4096;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *packed_len = z.total_out;
    deflateEnd(&z);
    return packed;
}

static void gzip_is_unpacked_also_from_chunks(void **state)
{
    uint8_t *disk = content(LEN, 4);
    size_t len, first;
    uint8_t *packed = gzipped(disk, LEN, &len);

    (void)state;
    first = len / 2 + 1;
    {
        const struct beside files[] = { { "d.gz", packed, len },
                                        { "c.000000000", packed, first },
                                        { "c.000000001", packed + first, len - first },
                                        { 0 } };
        char text[2048];

        has_disk(OVF_OF_FILE("ovf:href=\"d.gz\" ovf:compression=\"gzip\"", ""), files, disk, LEN);
        has_disk(OVF_OF_FILE("ovf:href=\"d.gz\" ovf:compression=\"identity\"", ""), files, packed,
                 len);
        snprintf(text, sizeof text,
                 OVF_OF_FILE("ovf:href=\"c\" ovf:compression=\"gzip\" ovf:chunkSize=\"%zu\"", ""),
                 first);
        has_disk(text, files, disk, LEN);
    }
    free(packed);
    free(disk);
}

/* 100 MiB of zeros for a disk of 1 MiB. */
static void a_gzip_bomb_is_refused(void **state)
{
    const size_t zeros_len = 100u << 20;
    uint8_t *zeros = calloc(1, zeros_len);
    size_t len;
    uint8_t *packed = gzipped(zeros, zeros_len, &len);
    const struct beside files[] = { { "d.gz", packed, len }, { 0 } };

    (void)state;
    has_no_disk(OVF_OF_FILE("ovf:href=\"d.gz\" ovf:compression=\"gzip\"", ""), files, PL_E_LIMIT,
                "unpacks to more than");
    free(packed);
    free(zeros);
}

static void damaged_gzip_is_refused(void **state)
{
    uint8_t *disk = content(LEN, 5);
    size_t len;
    uint8_t *packed = gzipped(disk, LEN, &len);
    const struct beside cut[] = { { "d.gz", packed, len - 5 }, { 0 } };
    const struct beside whole[] = { { "d.gz", packed, len }, { 0 } };
    static const char text[] = OVF_OF_FILE("ovf:href=\"d.gz\" ovf:compression=\"gzip\"", "");

    (void)state;
    has_no_disk(text, cut, PL_E_CORRUPT, "cut off");
    packed[len - 6] ^= 1;
    has_no_disk(text, whole, PL_E_CORRUPT, "damaged");
    packed[0] = 'x';
    has_no_disk(text, whole, PL_E_CORRUPT, "no gzip data");
    free(packed);
    free(disk);
}

static void a_stream_has_nothing_beside_it(void **state)
{
    static const char text[] = SMALL_OVF;
    const struct pl_package_open_args args = { .file =
                                                   named("standard input", text, sizeof text - 1) };
    struct pl_storage *st;
    void *package;

    (void)state;
    OK(pl_ovf.open(&args, &package, &e));
    FAILS(PL_E_UNSUPPORTED, "disk.vmdk", pl_ovf.storage(package, 0, &st, &e));
    pl_ovf.close(package);
    pl_storage_close(args.file, NULL);
}

/* ---- the sample ---- */

static struct pl_storage *sample(const char *name)
{
    char *path = test_image(name);
    struct pl_storage *st;
    int fd;

    if (!path)
        TEST_SKIP("no sample images");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, false, &st, &e));
    free(path);
    return st;
}

static void the_sample_s_disk_is_what_tar_extracts(void **state)
{
    struct pl_storage *file = sample("ova/openvmdk.ova"), *disk;
    char found[PL_DIGEST_TEXT], *line, *facts;
    struct pl_digest *digest;
    uint8_t *bytes;
    void *package;

    (void)state;
    OK(open_package(&pl_ova, file, NULL, &package, &e));
    OK(pl_ova.verify(package, PL_PACKAGE_ALL, NULL, &e));
    OK(pl_ova.storage(package, 0, &disk, &e));
    assert_int_equal(pl_storage_size(disk), 81920);
    bytes = malloc(81920);
    OK(pl_storage_read(disk, 0, bytes, 81920, &e));
    OK(pl_digest_new("sha256", &digest, &e));
    OK(pl_digest_update(digest, bytes, 81920, &e));
    OK(pl_digest_finish(digest, found, &e));
    pl_digest_free(digest);
    line = run_line("tar xOf '%s' openvmdk-small.vmdk | sha256sum | cut -d ' ' -f 1", file->path);
    assert_string_equal(line, found);
    facts = facts_of(&pl_ova, package);
    HAS(facts, ".machines.0.name=platter-sample");
    HAS(facts, ".machines.0.firmware=efi");
    HAS(facts, ".machines.0.hardware=vmx-14");
    HAS(facts, ".disks.0.capacity=3145728");
    HAS(facts, ".disks.0.controller-model=vmware.sata.ahci");
    HAS(facts, ".manifest=sha256");
    free(facts);
    free(line);
    free(bytes);
    pl_storage_close(disk, NULL);
    pl_ova.close(package);
    pl_storage_close(file, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_beside_come_through_the_callback),
        cmocka_unit_test(chunks_are_joined),
        cmocka_unit_test(whole_chunks_end_where_no_other_follows),
        cmocka_unit_test(gzip_is_unpacked_also_from_chunks),
        cmocka_unit_test(a_gzip_bomb_is_refused),
        cmocka_unit_test(damaged_gzip_is_refused),
        cmocka_unit_test(a_stream_has_nothing_beside_it),
        cmocka_unit_test(the_sample_s_disk_is_what_tar_extracts),
    };

    return cmocka_run_group_tests_name("OVF packages", tests, NULL, NULL);
}
