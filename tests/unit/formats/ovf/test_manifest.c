/* test_manifest.c - manifests as tools write them, wrong ones, and packages against theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/digest.h"
#include "formats/ovf/manifest.h"
#include "tests/support/images.h"
#include "tests/unit/formats/ovf/packages.h"

#define HEX40 "da39a3ee5e6b4b0d3255bfef95601890afd80709"
#define HEX64 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void all_spellings_are_read(void **state)
{
    static const char text[] = "SHA256(vm.ovf)= " HEX64 "\r\n"
                               "\n"
                               "SHA1 (disk (1).vmdk) = " HEX40 "\n"
                               "  \t\r\n"
                               "sha-1(a)=" HEX40 "\n"
                               "SHA512(a)= " HEX64 HEX64 "  ";
    struct ovf_manifest manifest;

    (void)state;
    OK(ovf_manifest_parse(text, strlen(text), &manifest, &e));
    assert_int_equal(manifest.count, 4);
    assert_string_equal(manifest.list[0].name, "a");
    assert_string_equal(manifest.list[0].algorithm, "sha1");
    assert_string_equal(manifest.list[1].algorithm, "sha512");
    assert_string_equal(manifest.list[2].name, "disk (1).vmdk");
    assert_string_equal(manifest.list[2].hex, HEX40);
    assert_string_equal(manifest.list[3].name, "vm.ovf");
    assert_true(ovf_manifest_has(&manifest, "vm.ovf"));
    assert_false(ovf_manifest_has(&manifest, "vm"));
    ovf_manifest_free(&manifest);
    OK(ovf_manifest_parse("", 0, &manifest, &e));
    assert_int_equal(manifest.count, 0);
    ovf_manifest_free(&manifest);
}

static void refuses(enum pl_kind kind, const char *why, const char *text)
{
    struct ovf_manifest manifest;

    FAILS(kind, why, ovf_manifest_parse(text, strlen(text), &manifest, &e));
    ovf_manifest_free(&manifest);
}

static void wrong_lines_are_refused(void **state)
{
    struct ovf_manifest manifest;

    (void)state;
    refuses(PL_E_CORRUPT, "line 2: \"hello\" is no line", "SHA1(a)= " HEX40 "\nhello");
    refuses(PL_E_CORRUPT, "is no line", "SHA1 a)= " HEX40);
    refuses(PL_E_CORRUPT, "is no line", "SHA1(a= " HEX40);
    refuses(PL_E_CORRUPT, "no = behind", "SHA1(a) " HEX40);
    refuses(PL_E_CORRUPT, "no name", "SHA1()= " HEX40);
    refuses(PL_E_CORRUPT, "no sha1 digest of 40", "SHA1(a)= " HEX64);
    refuses(PL_E_CORRUPT, "no sha256 digest of 64", "SHA256(a)= x" HEX64);
    refuses(PL_E_CORRUPT, "no sha1 digest", "SHA1(a)= ");
    refuses(PL_E_CORRUPT, "no sha1 digest", "SHA1(a)= g" HEX40);
    refuses(PL_E_UNSUPPORTED, "\"MD5\" is none of", "MD5(a)= 00");
    refuses(PL_E_CORRUPT, "two different sha1 digests of a",
            "SHA1(a)= " HEX40 "\nSHA1(a)= 0000000000000000000000000000000000000000");
    FAILS(PL_E_CORRUPT, "no text", ovf_manifest_parse("a\0b", 3, &manifest, &e));
    ovf_manifest_free(&manifest);
}

/* ---- packages ---- */

static char *line_of(const char *word, const char *algorithm, const char *name, const void *bytes,
                     size_t len)
{
    char hex[PL_DIGEST_TEXT], *line;
    struct pl_digest *digest;

    OK(pl_digest_new(algorithm, &digest, &e));
    OK(pl_digest_update(digest, bytes, len, &e));
    OK(pl_digest_finish(digest, hex, &e));
    pl_digest_free(digest);
    assert_true(asprintf(&line, "%s(%s)= %s\n", word, name, hex) > 0);
    return line;
}

/* A package of one disk whose manifest has the digests of these bytes. */
static struct pl_storage *package_of(const char *disk, const char *signed_disk,
                                     const char *signed_ovf, const char *more)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    char *one = line_of("SHA256", "sha256", "vm.ovf", signed_ovf, strlen(signed_ovf));
    char *two = line_of("SHA512", "sha512", "disk.vmdk", signed_disk, strlen(signed_disk));
    char *text;

    assert_true(asprintf(&text, "%s%s%s", one, two, more) > 0);
    tar_text(tar, "vm.ovf", SMALL_OVF);
    tar_text(tar, "vm.mf", text);
    tar_text(tar, "disk.vmdk", disk);
    free(one);
    free(two);
    free(text);
    return tar_end(tar);
}

static int verify(struct pl_storage *file, size_t disk, struct heard *heard, struct pl_err *why)
{
    void *package;
    int result;

    listen(heard);
    OK(open_package(&pl_ova, file, NULL, &package, &e));
    result = pl_ova.verify(package, disk, &heard->report, why);
    pl_ova.close(package);
    pl_storage_close(file, NULL);
    return result;
}

static void a_good_package_agrees_with_its_manifest(void **state)
{
    struct heard heard;

    (void)state;
    OK(verify(package_of("content", "content", SMALL_OVF, ""), PL_PACKAGE_ALL, &heard, &e));
    OK(verify(package_of("content", "content", SMALL_OVF, ""), 0, &heard, &e));
    assert_string_equal(heard.text, "");
}

static void a_changed_file_is_found(void **state)
{
    struct heard heard;

    (void)state;
    FAILS(PL_E_MISMATCH, "disk.vmdk: its sha512 is",
          verify(package_of("content", "contents", SMALL_OVF, ""), PL_PACKAGE_ALL, &heard, &e));
    FAILS(PL_E_MISMATCH, "disk.vmdk",
          verify(package_of("content", "contents", SMALL_OVF, ""), 0, &heard, &e));
    FAILS(PL_E_MISMATCH, "vm.ovf: its sha256 is",
          verify(package_of("content", "content", "another", ""), 0, &heard, &e));
    FAILS(PL_E_INVALID, "no disk 1",
          verify(package_of("content", "content", SMALL_OVF, ""), 1, &heard, &e));
}

static void a_listed_file_must_be_there(void **state)
{
    struct heard heard;

    (void)state;
    FAILS(PL_E_NOT_FOUND, "the manifest lists other.iso",
          verify(package_of("c", "c", SMALL_OVF, "SHA1(other.iso)= " HEX40 "\n"), PL_PACKAGE_ALL,
                 &heard, &e));
    OK(verify(package_of("c", "c", SMALL_OVF, "SHA1(other.iso)= " HEX40 "\n"), 0, &heard, &e));
}

static void an_unlisted_file_is_told(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    char *line = line_of("SHA1", "sha1", "vm.ovf", SMALL_OVF, strlen(SMALL_OVF));
    struct heard heard;

    (void)state;
    tar_text(tar, "vm.ovf", SMALL_OVF);
    tar_text(tar, "disk.vmdk", "x");
    tar_text(tar, "vm.mf", line);
    free(line);
    OK(verify(tar_end(tar), PL_PACKAGE_ALL, &heard, &e));
    HAS(heard.text, "disk.vmdk: the manifest has no digest of it");
}

static void without_a_manifest_there_is_nothing_to_verify(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    struct heard heard;

    (void)state;
    tar_text(tar, "vm.ovf", SMALL_OVF);
    tar_text(tar, "disk.vmdk", "x");
    assert_int_equal(verify(tar_end(tar), PL_PACKAGE_ALL, &heard, NULL), 1);
}

static bool say_stop(void *ctx)
{
    (void)ctx;
    return true;
}

static void verifying_can_be_stopped(void **state)
{
    const struct pl_report report = { .cancelled = say_stop };
    struct pl_storage *file = package_of("content", "content", SMALL_OVF, "");
    void *package;

    (void)state;
    OK(open_package(&pl_ova, file, NULL, &package, &e));
    FAILS(PL_E_CANCELLED, "", pl_ova.verify(package, PL_PACKAGE_ALL, &report, &e));
    pl_ova.close(package);
    pl_storage_close(file, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_spellings_are_read),
        cmocka_unit_test(wrong_lines_are_refused),
        cmocka_unit_test(a_good_package_agrees_with_its_manifest),
        cmocka_unit_test(a_changed_file_is_found),
        cmocka_unit_test(a_listed_file_must_be_there),
        cmocka_unit_test(an_unlisted_file_is_told),
        cmocka_unit_test(without_a_manifest_there_is_nothing_to_verify),
        cmocka_unit_test(verifying_can_be_stopped),
    };

    return cmocka_run_group_tests_name("OVF manifests", tests, NULL, NULL);
}
