/* test_tar.c - OVA archives of all kinds of tar, good and bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/ovf/tar_header.h"
#include "tests/support/images.h"
#include "tests/unit/formats/ovf/packages.h"

#define LEN 20000
#define OVF_TEST_LONG 1100
/* Where the second header is, behind the first one and the descriptor. */
#define DISK_HEADER ((512 + sizeof SMALL_OVF - 1 + 511) / 512 * 512)

/* The archive of a package whose only disk has this content; the caller closes both. */
static void opens_with(struct pl_storage *file, const uint8_t *disk, size_t len)
{
    void *state;

    OK(open_package(&pl_ova, file, NULL, &state, &e));
    assert_true(disk_is(&pl_ova, state, 0, disk, len));
    pl_ova.close(state);
    pl_storage_close(file, NULL);
}

static void every_kind_of_tar_is_read(void **state)
{
    static const int formats[] = { ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_TAR_GNUTAR,
                                   ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE,
                                   ARCHIVE_FORMAT_TAR_PAX_RESTRICTED };
    uint8_t *disk = content(LEN, 1);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct tar *tar = tar_begin(formats[i]);

        tar_text(tar, "vm.ovf", SMALL_OVF);
        tar_file(tar, "disk.vmdk", disk, LEN);
        opens_with(tar_end(tar), disk, LEN);
    }
    free(disk);
}

static void members_come_in_any_order_and_with_dots(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    uint8_t *disk = content(LEN, 2);

    (void)state;
    tar_member(tar, "./", AE_IFDIR, NULL, NULL, 0);
    tar_file(tar, "./disk.vmdk", disk, LEN);
    tar_text(tar, "./readme.txt", "hello");
    tar_text(tar, "./vm.ovf", SMALL_OVF);
    opens_with(tar_end(tar), disk, LEN);
    free(disk);
}

static void long_and_foreign_names_are_read(void **state)
{
    static const int formats[] = { ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE };
    uint8_t *disk = content(LEN, 3);
    char name[301] = { 0 }, text[4096];

    (void)state;
    memset(name, 'x', 280);
    memcpy(name + 280, "\xc3\xa4\xe2\x82\xac.vmdk", 11);
    snprintf(text, sizeof text,
             ENVELOPE_1 "<References><File ovf:id=\"f\" ovf:href=\"%s\"/></References><DiskSection>"
                        "<Disk ovf:diskId=\"d\" ovf:fileRef=\"f\" ovf:capacity=\"1\"/>"
                        "</DiskSection></Envelope>",
             name);
    for (unsigned i = 0; i < 2; i++) {
        struct tar *tar = tar_begin(formats[i]);

        tar_text(tar, "vm.ovf", text);
        tar_file(tar, name, disk, LEN);
        opens_with(tar_end(tar), disk, LEN);
    }
    free(disk);
}

static void a_descriptor_in_a_folder_names_files_there(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    uint8_t *disk = content(LEN, 4);

    (void)state;
    tar_member(tar, "vm", AE_IFDIR, NULL, NULL, 0);
    tar_text(tar, "vm/vm.ovf", SMALL_OVF);
    tar_text(tar, "disk.vmdk", "another");
    tar_file(tar, "vm/disk.vmdk", disk, LEN);
    tar_member(tar, "vm", AE_IFDIR, NULL, NULL, 0);
    opens_with(tar_end(tar), disk, LEN);
    free(disk);
}

static void escaped_names_are_found(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    uint8_t *disk = content(LEN, 5);

    (void)state;
    tar_text(tar, "vm.ovf",
             ENVELOPE_1 "<References><File ovf:id=\"f\" ovf:href=\"my%20disk.vmdk\"/></References>"
                        "<DiskSection><Disk ovf:diskId=\"d\" ovf:fileRef=\"f\" ovf:capacity=\"1\"/>"
                        "</DiskSection></Envelope>");
    tar_file(tar, "my disk.vmdk", disk, LEN);
    opens_with(tar_end(tar), disk, LEN);
    free(disk);
}

/* ---- bad ones ---- */

static void refuses_member(const char *name, enum pl_kind kind, const char *text)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    void *state;

    tar_text(tar, "vm.ovf", SMALL_OVF);
    tar_text(tar, name, "x");
    FAILS(kind, text, open_package(&pl_ova, tar_end(tar), NULL, &state, &e));
}

static void names_that_lead_out_are_refused(void **state)
{
    char name[OVF_TEST_LONG + 1];

    (void)state;
    refuses_member("../disk.vmdk", PL_E_POLICY, "leads out");
    refuses_member("a/../../disk.vmdk", PL_E_POLICY, "leads out");
    refuses_member("a/..", PL_E_POLICY, "leads out");
    refuses_member("/disk.vmdk", PL_E_POLICY, "leads out");
    memset(name, 'x', OVF_TEST_LONG);
    name[OVF_TEST_LONG] = '\0';
    refuses_member(name, PL_E_LIMIT, "1100 bytes");
}

static void two_of_a_name_are_refused(void **state)
{
    (void)state;
    refuses_member("vm.ovf", PL_E_CORRUPT, "two members named vm.ovf");
    refuses_member("./vm.ovf", PL_E_CORRUPT, "two members named vm.ovf");
    refuses_member("other.ovf", PL_E_CORRUPT, "two descriptors");
}

/* An archive whose disk.vmdk is no plain file opens, but that disk does not. */
static void disk_refused(struct pl_storage *file, const char *text)
{
    struct pl_storage *st;
    void *state;

    OK(open_package(&pl_ova, file, NULL, &state, &e));
    FAILS(PL_E_CORRUPT, text, pl_ova.storage(state, 0, &st, &e));
    pl_ova.close(state);
    pl_storage_close(file, NULL);
}

static void links_and_folders_are_no_disks(void **state)
{
    static const struct {
        mode_t type;
        const char *link, *text;
    } kinds[] = {
        { AE_IFLNK, "/etc/passwd", "a symbolic link" },
        { AE_IFREG, "vm.ovf", "a hard link" },
        { AE_IFDIR, NULL, "a folder" },
        { AE_IFIFO, NULL, "no plain file" },
    };

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);

        tar_text(tar, "vm.ovf", SMALL_OVF);
        tar_member(tar, "disk.vmdk", kinds[i].type, kinds[i].link, NULL, 0);
        disk_refused(tar_end(tar), kinds[i].text);
    }
}

static void a_sparse_member_is_no_disk(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    struct archive_entry *entry = archive_entry_new();

    (void)state;
    tar_text(tar, "vm.ovf", SMALL_OVF);
    archive_entry_set_pathname(entry, "disk.vmdk");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, 1 << 20);
    archive_entry_sparse_add_entry(entry, 65536, 4096);
    assert_true(archive_write_header(tar->a, entry) >= ARCHIVE_WARN);
    for (unsigned i = 0; i < 256; i++) {
        uint8_t block[4096] = { 0 };

        assert_int_equal(archive_write_data(tar->a, block, sizeof block), sizeof block);
    }
    archive_entry_free(entry);
    disk_refused(tar_end(tar), "a sparse member");
}

static void an_archive_without_a_descriptor_is_refused(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    struct pl_storage *st;
    void *package;

    (void)state;
    tar_text(tar, "disk.vmdk", "x");
    FAILS(PL_E_FORMAT, "no descriptor", open_package(&pl_ova, tar_end(tar), NULL, &package, &e));
    OK(pl_memory_storage(NULL, 65536, 65536, &st, &e));
    FAILS(PL_E_FORMAT, "no descriptor", open_package(&pl_ova, st, NULL, &package, &e));
    OK(pl_memory_storage("no tar at all", 13, 13, &st, &e));
    FAILS(PL_E_FORMAT, "not a tar archive", open_package(&pl_ova, st, NULL, &package, &e));
    OK(pl_memory_storage(NULL, 0, 0, &st, &e));
    FAILS(PL_E_FORMAT, "", open_package(&pl_ova, st, NULL, &package, &e));
}

/* The same archive cut after `len` bytes. */
static struct pl_storage *cut(uint64_t len)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    uint8_t *disk = content(LEN, 6);
    struct pl_storage *whole, *part;

    tar_text(tar, "vm.ovf", SMALL_OVF);
    tar_file(tar, "disk.vmdk", disk, LEN);
    whole = tar_end(tar);
    part = memory_copy(whole, len);
    pl_storage_close(whole, NULL);
    free(disk);
    return part;
}

static void a_truncated_archive_is_refused(void **state)
{
    void *package;

    (void)state;
    FAILS(PL_E_CORRUPT, "past the end of the archive",
          open_package(&pl_ova, cut(DISK_HEADER + 512 + LEN - 1), NULL, &package, &e));
    FAILS(PL_E_CORRUPT, "past the end of the archive",
          open_package(&pl_ova, cut(DISK_HEADER + 512 + 440), NULL, &package, &e));
    FAILS(PL_E_CORRUPT, "tar archive",
          open_package(&pl_ova, cut(DISK_HEADER + 100), NULL, &package, &e));
    FAILS(PL_E_CORRUPT, "", open_package(&pl_ova, cut(600), NULL, &package, &e));
}

/* Sets the size field of the second header, and its checksum. */
static struct pl_storage *with_size_field(const char field[static 12])
{
    struct pl_storage *file = cut(DISK_HEADER + 512 + LEN + 480 + 1024);
    uint8_t header[512];
    char text[8];
    unsigned sum = 0;

    OK(pl_storage_read(file, DISK_HEADER, header, 512, &e));
    assert_memory_equal(header, "disk.vmdk", 10);
    memcpy(header + 124, field, 12);
    memset(header + 148, ' ', 8);
    for (unsigned i = 0; i < 512; i++)
        sum += header[i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(header + 148, text, 7);
    OK(pl_storage_write(file, DISK_HEADER, header, 512, &e));
    return file;
}

static void huge_sizes_are_refused(void **state)
{
    static const char *const fields[] = {
        "77777777777",                                      /* 8 GiB - 1 */
        "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",       /* 2^63 - 1 */
        "\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",       /* 2^64 - 1 */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0", /* -16 */
    };
    void *package;

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        FAILS(PL_E_CORRUPT, "",
              open_package(&pl_ova, with_size_field(fields[i]), NULL, &package, &e));
}

static void too_many_members_are_refused(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    char name[20];
    void *package;

    (void)state;
    tar_text(tar, "vm.ovf", SMALL_OVF);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "m%u", i);
        tar_text(tar, name, "");
    }
    FAILS(PL_E_LIMIT, "more than 4096 members",
          open_package(&pl_ova, tar_end(tar), NULL, &package, &e));
}

static void a_member_without_a_name_is_refused(void **state)
{
    uint8_t bytes[2048] = { 0 };
    struct pl_storage *file;
    void *package;

    (void)state;
    assert_int_equal(ovf_tar_header("", 0, 0, bytes, NULL), 0);
    assert_false(pl_ova.probe(bytes, sizeof bytes));
    OK(pl_memory_storage(bytes, sizeof bytes, sizeof bytes, &file, &e));
    FAILS(PL_E_CORRUPT, "", open_package(&pl_ova, file, NULL, &package, &e));
}

static void what_is_an_ova_shows_at_its_start(void **state)
{
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    uint8_t head[65536] = { 0 };
    struct pl_storage *file;

    (void)state;
    assert_false(pl_ova.probe(head, sizeof head));
    assert_false(pl_ova.probe(head, 0));
    assert_false(pl_ova.probe((const uint8_t *)"QFI\xfb", 4));
    tar_file(tar, "disk.raw", head, 1000);
    tar_text(tar, "vm.ovf", SMALL_OVF);
    file = tar_end(tar);
    OK(pl_storage_read_padded(file, 0, head, sizeof head, &e));
    assert_true(pl_ova.probe(head, sizeof head));
    assert_true(pl_ova.probe(head, 1536)); /* pax header, its data, the disk's header */
    assert_false(pl_ova.probe(head, 600));
    pl_storage_close(file, NULL);
    tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    tar_text(tar, "Makefile", "all:");
    tar_text(tar, "disk.img", "x");
    file = tar_end(tar);
    OK(pl_storage_read_padded(file, 0, head, sizeof head, &e));
    assert_false(pl_ova.probe(head, sizeof head));
    pl_storage_close(file, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_tar_is_read),
        cmocka_unit_test(members_come_in_any_order_and_with_dots),
        cmocka_unit_test(long_and_foreign_names_are_read),
        cmocka_unit_test(a_descriptor_in_a_folder_names_files_there),
        cmocka_unit_test(escaped_names_are_found),
        cmocka_unit_test(names_that_lead_out_are_refused),
        cmocka_unit_test(two_of_a_name_are_refused),
        cmocka_unit_test(links_and_folders_are_no_disks),
        cmocka_unit_test(a_sparse_member_is_no_disk),
        cmocka_unit_test(an_archive_without_a_descriptor_is_refused),
        cmocka_unit_test(a_truncated_archive_is_refused),
        cmocka_unit_test(huge_sizes_are_refused),
        cmocka_unit_test(too_many_members_are_refused),
        cmocka_unit_test(a_member_without_a_name_is_refused),
        cmocka_unit_test(what_is_an_ova_shows_at_its_start),
    };

    return cmocka_run_group_tests_name("OVA archives", tests, NULL, NULL);
}
