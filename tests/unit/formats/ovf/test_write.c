/* test_write.c - new OVAs: what is written is read again, by platter, by tar and by xmllint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "core/storage/file.h"
#include "formats/ovf/tar_header.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/unit/formats/ovf/packages.h"

#define LEN 30000 /* no whole number of blocks */

static struct pl_storage *new_file(const char *name)
{
    char *path = test_tmp(name);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct pl_storage *st;

    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, true, &st, &e));
    free(path);
    return st;
}

/* Begins an archive in `file` for disks of 1 MiB. */
static int begin(struct pl_storage *file, const char *text, size_t disks, void **writer,
                 struct pl_err *why)
{
    static const uint64_t capacities[200] = { 1 << 20, 1 << 20, 1 << 20 };
    struct pl_options *options = options_of(text);
    const struct pl_package_create_args args = { .file = file,
                                                 .name = "my machine",
                                                 .capacities = capacities,
                                                 .disk_count = disks,
                                                 .options = options,
                                                 .reproducible = true };
    const int result = pl_ova.begin(&args, writer, why);

    pl_options_free(options);
    return result;
}

static void write_disk(void *writer, size_t disk, const uint8_t *bytes, size_t len)
{
    struct pl_storage *st;

    OK(pl_ova.disk_storage(writer, disk, &st, &e));
    assert_true(st->sequential);
    OK(pl_storage_write(st, 0, bytes, len / 2, &e));
    OK(pl_storage_write(st, len / 2, bytes + len / 2, len - len / 2, &e));
    OK(pl_storage_close(st, &e));
}

/* Writes an archive of `disks` disks with different content. */
static struct pl_storage *written(const char *name, const char *options, size_t disks)
{
    struct pl_storage *file = new_file(name);
    void *writer;

    OK(begin(file, options, disks, &writer, &e));
    for (size_t i = 0; i < disks; i++) {
        uint8_t *bytes = content(LEN, (unsigned)i);

        write_disk(writer, i, bytes, LEN);
        free(bytes);
    }
    OK(pl_ova.finish(writer, &e));
    return file;
}

static char *facts_in(struct pl_storage *file)
{
    char *facts;
    void *package;

    OK(open_package(&pl_ova, file, NULL, &package, &e));
    OK(pl_ova.verify(package, PL_PACKAGE_ALL, NULL, &e));
    facts = facts_of(&pl_ova, package);
    pl_ova.close(package);
    return facts;
}

static void what_is_written_is_read_again(void **state)
{
    struct pl_storage *file = written("a.ova", "", 2);
    const struct pl_package_disk *disks;
    struct heard heard;
    void *package;

    (void)state;
    listen(&heard);
    OK(open_package(&pl_ova, file, NULL, &package, &e));
    assert_int_equal(pl_ova.verify(package, PL_PACKAGE_ALL, &heard.report, NULL), 0);
    assert_string_equal(heard.text, "");
    assert_int_equal(pl_ova.disks(package, &disks), 2);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *bytes = content(LEN, i);

        assert_true(disk_is(&pl_ova, package, i, bytes, LEN));
        assert_int_equal(disks[i].capacity, 1 << 20);
        assert_int_equal(disks[i].file_size, LEN);
        free(bytes);
    }
    assert_string_equal(disks[1].name, "my-machine-disk2.vmdk");
    pl_ova.close(package);
    pl_storage_close(file, NULL);
}

static void defaults_are_sane(void **state)
{
    struct pl_storage *file = written("a.ova", "", 1);
    char *facts = facts_in(file);

    (void)state;
    HAS(facts, ".descriptor=my-machine.ovf");
    HAS(facts, ".machines.0.name=my machine");
    HAS(facts, ".machines.0.os=otherLinux64Guest");
    HAS(facts, ".machines.0.os-id=101");
    HAS(facts, ".machines.0.hardware=vmx-13");
    HAS(facts, ".machines.0.firmware=bios");
    HAS(facts, ".machines.0.cpus=1");
    HAS(facts, ".machines.0.memory=1073741824");
    HAS(facts, ".machines.0.network-cards.0.model=E1000");
    HAS(facts, ".networks.0=VM Network");
    HAS(facts, ".disks.0.controller=scsi");
    HAS(facts, ".disks.0.controller-model=lsilogic");
    HAS(facts, ".disks.0.address=0");
    HAS(facts, ".manifest=sha256");
    free(facts);
    pl_storage_close(file, NULL);
}

static void options_choose_the_hardware(void **state)
{
    struct pl_storage *file =
        written("a.ova",
                "name=W & <\"M\">,cpus=4,memory=8G,firmware=efi,controller=nvme,"
                "ostype=debian11_64Guest,hwversion=19,network=a>b,nic=vmxnet3,digest=sha512",
                1);
    char *facts = facts_in(file);

    (void)state;
    HAS(facts, ".descriptor=W-M.ovf");
    HAS(facts, ".machines.0.name=W & <\"M\">");
    HAS(facts, ".machines.0.os-id=96");
    HAS(facts, ".machines.0.hardware=vmx-19");
    HAS(facts, ".machines.0.firmware=efi");
    HAS(facts, ".machines.0.cpus=4");
    HAS(facts, ".machines.0.memory=8589934592");
    HAS(facts, ".machines.0.network-cards.0.model=VmxNet3");
    HAS(facts, ".machines.0.network-cards.0.network=a>b");
    HAS(facts, ".disks.0.controller=nvme");
    HAS(facts, ".manifest=sha512");
    free(facts);
    pl_storage_close(file, NULL);
}

static void disks_fill_controllers_and_leave_its_own_address(void **state)
{
    struct pl_storage *file = written("a.ova", "controller=pvscsi,network=none", 17);
    char *facts = facts_in(file);

    (void)state;
    HAS(facts, ".disks.6.address=6");
    HAS(facts, ".disks.7.address=8");
    HAS(facts, ".disks.14.address=15");
    HAS(facts, ".disks.15.controller-number=1");
    HAS(facts, ".disks.15.address=0");
    assert_null(strstr(facts, ".networks.0"));
    free(facts);
    pl_storage_close(file, NULL);
}

/* The archive is one that tar takes, plain ustar, in the order that importers want. */
static void tar_reads_it(void **state)
{
    struct pl_storage *file = written("a.ova", "digest=sha1", 2);
    char *folder = test_tmp("out"), *line;

    (void)state;
    line = run_line("tar tf '%s' | tr '\\n' ' '", file->path);
    assert_string_equal(
        line, "my-machine.ovf my-machine.mf my-machine-disk1.vmdk my-machine-disk2.vmdk ");
    free(line);
    assert_int_equal(
        run_quietly("mkdir -p '%s' && cd '%s' && tar xf '%s' && sed -E 's/SHA1\\((.*)\\)= (.*)/"
                    "\\2  \\1/' my-machine.mf | sha1sum -c",
                    folder, folder, file->path),
        0);
    line = run_line("grep -c '' '%s/my-machine.mf'", folder);
    assert_string_equal(line, "3");
    free(line);
    line = run_line("head -n 1 '%s/my-machine.mf' | cut -c 1-22", folder);
    assert_string_equal(line, "SHA1(my-machine.ovf)= ");
    free(line);
    line = run_line("dd if='%s' bs=1 skip=257 count=8 2>/dev/null | od -An -c", file->path);
    assert_string_equal(line, "   u   s   t   a   r  \\0   0   0");
    free(line);
    free(folder);
    pl_storage_close(file, NULL);
}

static void the_descriptor_follows_the_schema(void **state)
{
    static const char *const options[] = {
        "",
        "network=none,controller=ide",
        "controller=ahci,hwversion=virtualbox-2.2,firmware=efi",
        "controller=nvme,name=\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7,ostype=windows9Server64Guest",
        "controller=pvscsi,cpus=8,memory=64G,firmware=efi,hwversion=vmx-20",
        "controller=ide,network=none,firmware=efi,ostype=windows11_64Guest",
        "controller=nvme,firmware=efi,name=a & b < \"c\"",
    };
    char *schema = test_source("tests/support/ovf-1.1.rng");

    (void)state;
    if (!has_program("xmllint"))
        TEST_SKIP("xmllint is not installed");
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        struct pl_storage *file = written("a.ova", options[i], 3);

        if (run_quietly("tar xOf '%s' --wildcards '*.ovf' | xmllint --nonet --noout --relaxng '%s' "
                        "-",
                        file->path, schema) != 0)
            fail_msg("-o %s: the descriptor is not valid", options[i]);
        pl_storage_close(file, NULL);
    }
    free(schema);
}

static char *xpath(const struct pl_storage *file, const char *expression)
{
    return run_line("tar xOf '%s' --wildcards '*.ovf' | xmllint --nonet --xpath \"%s\" -",
                    file->path, expression);
}

/* VirtualBox attaches what its own section lists, each disk under the identifier that the
 * DiskSection gives it, where the items of the hardware say. */
static void virtualbox_finds_every_disk(void **state)
{
    static const struct {
        const char *options;
        size_t disks;
        const char *controllers, *third, *last; /* "port device" of those disks */
    } cases[] = {
        { "firmware=efi,controller=pvscsi", 17, "2", "2 0", "1 0" },
        { "firmware=efi,controller=ide", 4, "1", "1 0", "1 1" },
        { "firmware=efi,controller=ahci", 3, "1", "2 0", "2 0" },
    };

    (void)state;
    if (!has_program("xmllint"))
        TEST_SKIP("xmllint is not installed");
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pl_storage *file = written("a.ova", cases[i].options, cases[i].disks);
        char *line = xpath(file, "count(//*[local-name()='StorageController'])");

        assert_string_equal(line, cases[i].controllers);
        free(line);
        line = xpath(file, "count(//*[local-name()='Image'][translate(@uuid, '{}', '') ="
                           " //*[local-name()='Disk']/@*[local-name()='uuid']])");
        assert_int_equal(strtoul(line, NULL, 10), cases[i].disks);
        free(line);
        line = xpath(file, "concat((//*[local-name()='AttachedDevice'])[3]/@port, ' ',"
                           " (//*[local-name()='AttachedDevice'])[3]/@device)");
        assert_string_equal(line, cases[i].third);
        free(line);
        line = xpath(file, "concat((//*[local-name()='AttachedDevice'])[last()]/@port, ' ',"
                           " (//*[local-name()='AttachedDevice'])[last()]/@device)");
        assert_string_equal(line, cases[i].last);
        free(line);
        pl_storage_close(file, NULL);
    }
}

static void the_same_input_gives_the_same_bytes(void **state)
{
    struct pl_storage *one = written("a.ova", "firmware=efi", 1);
    struct pl_storage *other = written("b.ova", "firmware=efi", 1);

    (void)state;
    assert_int_equal(run_quietly("cmp '%s' '%s'", one->path, other->path), 0);
    pl_storage_close(one, NULL);
    pl_storage_close(other, NULL);
}

/* ---- the storage of a disk ---- */

static void a_disk_is_written_in_order_and_may_be_read_back(void **state)
{
    struct pl_storage *file = memory(), *st;
    uint8_t buf[100], expected[50000] = { 0 };
    void *writer, *package;

    (void)state;
    memcpy(expected, "head", 4);
    memcpy(expected + 20000, "middle", 6);
    OK(begin(file, "", 1, &writer, &e));
    OK(pl_ova.disk_storage(writer, 0, &st, &e));
    assert_int_equal(pl_storage_size(st), 0);
    OK(pl_storage_write(st, 0, "head", 4, &e));
    OK(pl_storage_read(st, 0, buf, 4, &e));
    assert_memory_equal(buf, "head", 4);
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(st, 2, buf, 3, &e));
    FAILS(PL_E_UNSUPPORTED, "cannot go back to 0x3", pl_storage_write(st, 3, "x", 1, &e));
    OK(pl_storage_write(st, 20000, "middle", 6, &e));
    FAILS(PL_E_UNSUPPORTED, "cannot end at 0x64", pl_storage_resize(st, 100, &e));
    OK(pl_storage_zero(st, 20006, 10, &e));
    OK(pl_storage_resize(st, 40000, &e));
    assert_int_equal(pl_storage_size(st), 40000);
    OK(pl_storage_flush(st, &e));
    OK(pl_storage_resize(st, 50000, &e));
    OK(pl_storage_close(st, &e));
    OK(pl_ova.finish(writer, &e));
    OK(open_package(&pl_ova, file, NULL, &package, &e));
    OK(pl_ova.verify(package, PL_PACKAGE_ALL, NULL, &e));
    assert_true(disk_is(&pl_ova, package, 0, expected, sizeof expected));
    pl_ova.close(package);
    pl_storage_close(file, NULL);
}

static void disks_come_in_order_and_whole(void **state)
{
    struct pl_storage *file = memory(), *st, *other;
    void *writer;

    (void)state;
    OK(begin(file, "", 2, &writer, &e));
    FAILS(PL_E_INVALID, "turn", pl_ova.disk_storage(writer, 1, &st, &e));
    OK(pl_ova.disk_storage(writer, 0, &st, &e));
    FAILS(PL_E_INVALID, "turn", pl_ova.disk_storage(writer, 0, &other, &e));
    FAILS(PL_E_INVALID, "disk1.vmdk was not written whole",
          pl_ova.disk_storage(writer, 1, &other, &e));
    OK(pl_storage_close(st, &e));
    FAILS(PL_E_INVALID, "only 1 of 2 disks", pl_ova.finish(writer, &e));
    OK(begin(file, "", 1, &writer, &e));
    pl_ova.abandon(writer);
    pl_storage_close(file, NULL);
}

static void a_full_disk_is_an_error_to_the_end(void **state)
{
    struct pl_storage *file, *st;
    uint8_t *bytes = content(LEN, 1);
    void *writer;

    (void)state;
    OK(pl_memory_storage(NULL, 0, 20000, &file, &e));
    OK(begin(file, "", 1, &writer, &e));
    OK(pl_ova.disk_storage(writer, 0, &st, &e));
    FAILS(PL_E_NO_SPACE, "", pl_storage_write(st, 0, bytes, LEN, &e));
    FAILS(PL_E_INVALID, "earlier write failed", pl_storage_write(st, 0, bytes, 10, &e));
    FAILS(PL_E_INVALID, "not written whole", pl_storage_close(st, &e));
    FAILS(PL_E_INVALID, "not written whole", pl_ova.finish(writer, &e));
    pl_storage_close(file, NULL);
    free(bytes);
}

/* From 8 GiB on the size is no octal number; sparse, so that it takes no room. */
static void large_disks_are_possible(void **state)
{
    const uint64_t size = (UINT64_C(8) << 30) + 12345;
    struct pl_storage *file = new_file("big.ova");
    uint8_t header[512] = { 0 };

    (void)state;
    OK(pl_storage_write(file, 0, "x", 1, &e));
    pl_storage_close(file, NULL);
    assert_int_equal(ovf_tar_header("disk.vmdk", size, 0, header, NULL), 0);
    file = new_file("big.ova");
    OK(pl_storage_write(file, 0, header, sizeof header, &e));
    OK(pl_storage_resize(file, 512 + (size + 511) / 512 * 512 + 1024, &e));
    {
        char *line = run_line("tar tvf '%s' | tr -s ' ' | cut -d ' ' -f 3", file->path);

        assert_string_equal(line, "8589946937");
        free(line);
    }
    pl_storage_close(file, NULL);
}

/* ---- refusals ---- */

static void refuses(enum pl_kind kind, const char *why, const char *options, size_t disks)
{
    struct pl_storage *file = memory();
    void *writer;

    FAILS(kind, why, begin(file, options, disks, &writer, &e));
    assert_int_equal(pl_storage_size(file), 0);
    pl_storage_close(file, NULL);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    refuses(PL_E_INVALID, "name: it has 0 bytes", "name=", 1);
    refuses(PL_E_INVALID, "no plain text", "name=a\tb", 1);
    refuses(PL_E_INVALID, "no plain text", "name=\xc3(", 1);
    refuses(PL_E_INVALID, "no plain text", "name=\xed\xa0\x80", 1); /* half a surrogate pair */
    refuses(PL_E_INVALID, "no plain text", "network=\xef\xbf\xbf", 1);
    refuses(PL_E_INVALID, "name: it has 81 bytes",
            "name=1234567890123456789012345678901234567890123456789012345678901234567890"
            "12345678901",
            1);
    refuses(PL_E_INVALID, "from 1 to 768", "cpus=0", 1);
    refuses(PL_E_LIMIT, "no multiple of 4 MiB", "memory=1025", 1);
    refuses(PL_E_LIMIT, "no multiple of 4 MiB", "memory=0", 1);
    refuses(PL_E_INVALID, "memory", "memory=much", 1);
    refuses(PL_E_INVALID, "firmware", "firmware=uboot", 1);
    refuses(PL_E_INVALID, "controller", "controller=virtio", 1);
    refuses(PL_E_INVALID, "nvme needs hwversion=vmx-13", "controller=nvme,hwversion=vmx-11", 1);
    refuses(PL_E_INVALID, "firmware=efi needs", "firmware=efi,hwversion=7", 1);
    refuses(PL_E_INVALID, "hwversion", "hwversion=xen-3", 1);
    refuses(PL_E_INVALID, "digest", "digest=md5", 1);
    refuses(PL_E_LIMIT, "5 disks are not possible with controller=ide: 1 to 4", "controller=ide",
            5);
    refuses(PL_E_LIMIT, "0 disks", "", 0);
}

static void a_pipe_is_refused(void **state)
{
    struct pl_storage *out;
    void *writer;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    OK(pl_file_storage(ends[1], "pipe", true, &out, &e));
    FAILS(PL_E_UNSUPPORTED, "cannot be written to a pipe", begin(out, "", 1, &writer, &e));
    pl_storage_close(out, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(defaults_are_sane),
        cmocka_unit_test(options_choose_the_hardware),
        cmocka_unit_test(disks_fill_controllers_and_leave_its_own_address),
        cmocka_unit_test(tar_reads_it),
        cmocka_unit_test(the_descriptor_follows_the_schema),
        cmocka_unit_test(virtualbox_finds_every_disk),
        cmocka_unit_test(the_same_input_gives_the_same_bytes),
        cmocka_unit_test(a_disk_is_written_in_order_and_may_be_read_back),
        cmocka_unit_test(disks_come_in_order_and_whole),
        cmocka_unit_test(a_full_disk_is_an_error_to_the_end),
        cmocka_unit_test(large_disks_are_possible),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(a_pipe_is_refused),
    };

    return cmocka_run_group_tests_name("writing OVAs", tests, NULL, NULL);
}
