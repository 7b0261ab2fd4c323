/* The text that describes a VMDK disk, in the styles of all its writers and in none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "formats/vmdk/descriptor.h"
#include "tests/support/images.h"

#define HEAD "# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n"

static int parse(const char *text, struct vmdk_descriptor *d, struct pl_err *e)
{
    return vmdk_descriptor_parse(strdup(text), strlen(text), d, e);
}

static struct vmdk_descriptor parsed(const char *text)
{
    struct vmdk_descriptor d;

    OK(parse(text, &d, &e));
    return d;
}

/* ---- extent lines ---- */

static const struct extent_row {
    const char *name, *line;
    enum vmdk_access access;
    enum vmdk_type type;
    uint64_t sectors, offset;
    const char *file; /* null: none */
} extent_rows[] = {
    { "a flat extent", "RW 63 FLAT \"a-flat.vmdk\" 0", VMDK_RW, VMDK_FLAT, 63, 0, "a-flat.vmdk" },
    { "a flat extent at an offset", "RW 63 FLAT \"a\" 128", VMDK_RW, VMDK_FLAT, 63, 65536, "a" },
    { "a sparse extent", "RW 4192256 SPARSE \"a-s001.vmdk\"", VMDK_RW, VMDK_SPARSE, 4192256, 0,
      "a-s001.vmdk" },
    { "an extent for reading", "RDONLY 1 SPARSE \"a\"", VMDK_RDONLY, VMDK_SPARSE, 1, 0, "a" },
    { "an extent that is closed", "NOACCESS 1 FLAT \"a\" 0", VMDK_NOACCESS, VMDK_FLAT, 1, 0, "a" },
    { "zeros without a file", "RW 8 ZERO", VMDK_RW, VMDK_ZERO, 8, 0, NULL },
    { "zeros with a file", "RW 8 ZERO \"a\" 3", VMDK_RW, VMDK_ZERO, 8, 1536, "a" },
    { "vmfs without an offset", "RW 8 VMFS \"a\"", VMDK_RW, VMDK_VMFS, 8, 0, "a" },
    { "vmfs with an offset", "RW 8 VMFS \"a\" 0", VMDK_RW, VMDK_VMFS, 8, 0, "a" },
    { "a delta", "RW 8 VMFSSPARSE \"a\"", VMDK_RW, VMDK_VMFSSPARSE, 8, 0, "a" },
    { "a device mapping", "RW 8 VMFSRDM \"a\"", VMDK_RW, VMDK_VMFSRDM, 8, 0, "a" },
    { "a raw device", "RW 8 VMFSRAW \"a\"", VMDK_RW, VMDK_VMFSRAW, 8, 0, "a" },
    { "a space-efficient extent", "RW 8 SESPARSE \"a\"", VMDK_RW, VMDK_SESPARSE, 8, 0, "a" },
    { "a partition", "RW 8 FLAT \"\\\\.\\PhysicalDrive0\" 63 1234-5678 \"id\"", VMDK_RW, VMDK_FLAT,
      8, 63 * 512, "\\\\.\\PhysicalDrive0" },
    { "blanks in a name", "RW 8 FLAT \"Windows 7 x64-flat.vmdk\" 0", VMDK_RW, VMDK_FLAT, 8, 0,
      "Windows 7 x64-flat.vmdk" },
    { "a name of other letters", "RW 8 FLAT \"\xd0\xc2-flat.vmdk\" 0", VMDK_RW, VMDK_FLAT, 8, 0,
      "\xd0\xc2-flat.vmdk" },
    { "any case", "rw 8 flat \"A\" 0", VMDK_RW, VMDK_FLAT, 8, 0, "A" },
    { "blanks around", "  \tRW\t8   FLAT  \"a\"   0  \t", VMDK_RW, VMDK_FLAT, 8, 0, "a" },
    { "no sectors", "RW 0 FLAT \"a\" 0", VMDK_RW, VMDK_FLAT, 0, 0, "a" },
    { "the most sectors", "RW 18014398509481983 FLAT \"a\" 0", VMDK_RW, VMDK_FLAT,
      18014398509481983, 0, "a" },
};

static void extent_lines_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(extent_rows); i++) {
        const struct extent_row *row = &extent_rows[i];
        struct vmdk_descriptor d;
        char text[400];

        snprintf(text, sizeof text, HEAD "%s\n", row->line);
        d = parsed(text);
        if (d.line_count != 1 || d.lines[0].access != row->access || d.lines[0].type != row->type ||
            d.lines[0].sectors != row->sectors || d.lines[0].offset != row->offset)
            fail_msg("%s", row->name);
        if (row->file)
            assert_string_equal(d.lines[0].name, row->file);
        else
            assert_null(d.lines[0].name);
        assert_int_equal(d.sectors, row->sectors);
        assert_memory_equal(d.text + d.lines[0].digits.at, strpbrk(row->line, "0123456789"),
                            d.lines[0].digits.len);
        vmdk_descriptor_free(&d);
    }
}

static const struct bad_row {
    const char *text;
    enum pl_kind kind;
    const char *message;
} bad_rows[] = {
    { "RW\n", PL_E_CORRUPT, "line 5: size '' is not a number" },
    { "RW x FLAT \"a\" 0\n", PL_E_CORRUPT, "size 'x'" },
    { "RW -1 FLAT \"a\" 0\n", PL_E_CORRUPT, "size '-1'" },
    { "RW 0x10 FLAT \"a\" 0\n", PL_E_CORRUPT, "size '0x10'" },
    { "RW 99999999999999999999 FLAT \"a\" 0\n", PL_E_CORRUPT, "size '99999999999999999999'" },
    { "RW 8\n", PL_E_UNSUPPORTED, "unknown type of extent ''" },
    { "RW 8 FUTURE \"a\" 0\n", PL_E_UNSUPPORTED, "unknown type of extent 'FUTURE'" },
    { "RW 8 FLAT\n", PL_E_CORRUPT, "no file name in quotes behind FLAT" },
    { "RW 8 FLAT a 0\n", PL_E_CORRUPT, "no file name" },
    { "RW 8 FLAT \"\" 0\n", PL_E_CORRUPT, "no file name" },
    { "RW 8 FLAT \"a\n", PL_E_CORRUPT, "no file name" },
    { "RW 8 FLAT \"a\" -1\n", PL_E_CORRUPT, "offset '-1'" },
    { "RW 8 FLAT \"a\" zero\n", PL_E_CORRUPT, "offset 'zero'" },
    { "RW 8 FLAT \"a\" 18014398509481984\n", PL_E_LIMIT, "offset of 18014398509481984" },
    { "RW 1152921504606846976 FLAT \"a\" 0\n", PL_E_LIMIT, "a disk of more than" },
    { "RW 18014398509481983 FLAT \"a\" 0\nRW 1 FLAT \"b\" 0\n", PL_E_LIMIT, "line 6: a disk" },
    { "RW 18446744073709551615 ZERO\nRW 2 ZERO\n", PL_E_LIMIT, "a disk of more than" },
    { "encryptionKeys=\"vmware:key/list/(pair/(phrase\"\n", PL_E_UNSUPPORTED, "encrypted" },
    { "encoding=\"UTF-16LE\"\n", PL_E_UNSUPPORTED, "encoding UTF-16LE" },
};

static void broken_lines_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(bad_rows); i++) {
        struct vmdk_descriptor d;
        char text[400];

        snprintf(text, sizeof text, HEAD "%s", bad_rows[i].text);
        FAILS(bad_rows[i].kind, bad_rows[i].message, parse(text, &d, &e));
    }
}

static void more_extents_than_the_limit_are_refused(void **state)
{
    const size_t lines = VMDK_EXTENTS_MAX + 1;
    char *text = calloc(lines, 11);
    struct vmdk_descriptor d;

    (void)state;
    for (size_t i = 0; i < lines; i++)
        memcpy(text + 10 * i, "RW 1 ZERO\n", 10);
    FAILS(PL_E_LIMIT, "more than 65536 extents", parse(text, &d, &e));
    text[10 * (lines - 1)] = '\0';
    d = parsed(text);
    assert_int_equal(d.line_count, VMDK_EXTENTS_MAX);
    vmdk_descriptor_free(&d);
    free(text);
}

static void longer_texts_than_the_limit_are_refused(void **state)
{
    char *text = malloc(VMDK_DESCRIPTOR_MAX + 2);
    struct vmdk_descriptor d;

    (void)state;
    memset(text, '\n', VMDK_DESCRIPTOR_MAX + 1);
    text[VMDK_DESCRIPTOR_MAX + 1] = '\0';
    FAILS(PL_E_LIMIT, "1048577 bytes", parse(text, &d, &e));
    text[VMDK_DESCRIPTOR_MAX] = '\0';
    d = parsed(text);
    vmdk_descriptor_free(&d);
    free(text);
}

/* ---- values ---- */

static const struct value_row {
    const char *text, *key, *value; /* null: none */
} value_rows[] = {
    { "createType=\"monolithicFlat\"\n", "createType", "monolithicFlat" },
    { "createType = \"monolithicFlat\" \n", "createType", "monolithicFlat" },
    { "CREATETYPE=\"vmfs\"\n", "createType", "vmfs" },
    { "version=1\n", "version", "1" },
    { "version = 1 \r\n", "version", "1" },
    { "  version=1", "version", "1" },
    { "a=\"has = and # in it\"\n", "a", "has = and # in it" },
    { "a=\"two\" \"values\"\n", "a", "two" },
    { "a=\"not closed\n", "a", "not closed" },
    { "a=\n", "a", NULL },
    { "a=\"\"\n", "a", NULL },
    { "a=1\na=2\n", "a", "1" },
    { "#a=1\na=2\n", "a", "2" },
    { "aa=1\n", "a", NULL },
    { "a\n", "a", NULL },
    { "=1\n", "a", NULL },
    { "ddb.uuid = \"60 00 C2 9a 1d 7b 49 44-dc 53 e6 d3 e5 89 7b 0d\"\n", "ddb.uuid",
      "60 00 C2 9a 1d 7b 49 44-dc 53 e6 d3 e5 89 7b 0d" },
    { "ddb.comment=\"x\"\n", "ddb.comment", "x" },
};

static void values_are_found_by_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(value_rows); i++) {
        struct vmdk_descriptor d = parsed(value_rows[i].text);
        char *value = vmdk_descriptor_value(&d, value_rows[i].key);

        if (!value != !value_rows[i].value || (value && strcmp(value, value_rows[i].value) != 0))
            fail_msg("row %zu: '%s'", i, value ? value : "(none)");
        free(value);
        vmdk_descriptor_free(&d);
    }
}

static const struct cid_row {
    const char *text;
    bool has;
    uint32_t cid, parent;
} cid_rows[] = {
    { "CID=0a1b2c3d\nparentCID=ffffffff\n", true, 0x0a1b2c3d, 0xffffffff },
    { "CID=77161c8\nparentCID=1\n", true, 0x77161c8, 1 },
    { "CID=0\n", true, 0, 0xffffffff },
    { "CID = FFFFFFFE\nPARENTCID = ABCDEF01\n", true, 0xfffffffe, 0xabcdef01 },
    { "CID=b1ccbfdc \r\nparentCID=ffffffff \r\n", true, 0xb1ccbfdc, 0xffffffff },
    { "CID=\nparentCID=\n", false, 0, 0xffffffff },
    { "CID=123456789\n", false, 0, 0xffffffff },
    { "CID=12g4\nparentCID=nothing\n", false, 0, 0xffffffff },
    { "parentCID=00000001\n", false, 0, 1 },
    { "", false, 0, 0xffffffff },
};

static void content_identifiers_of_any_length_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(cid_rows); i++) {
        struct vmdk_descriptor d = parsed(cid_rows[i].text);

        if (d.has_cid != cid_rows[i].has || (d.has_cid && d.cid != cid_rows[i].cid) ||
            d.parent_cid != cid_rows[i].parent)
            fail_msg("row %zu", i);
        vmdk_descriptor_free(&d);
    }
}

static void text_ends_at_the_padding(void **state)
{
    static const char text[] = HEAD "RW 8 FLAT \"a\" 0\n\0\0\0\0RW 8 FLAT \"b\" 0\n";
    char *copy = malloc(sizeof text);
    struct vmdk_descriptor d;

    (void)state;
    memcpy(copy, text, sizeof text);
    OK(vmdk_descriptor_parse(copy, sizeof text - 1, &d, &e));
    assert_int_equal(d.line_count, 1);
    assert_int_equal(d.len, strlen(text));
    vmdk_descriptor_free(&d);
}

static void every_line_is_kept(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf# Disk DescriptorFile\r\nversion=1\r\n\r\nfuture=\"x\"\r\n"
        "RW 8 FLAT \"a\" 0\r\nRWsomething=1\r\nnonsense\r\nddb.x = \"y\"\r\n";
    struct vmdk_descriptor d = parsed(text);

    (void)state;
    assert_string_equal(d.text, text);
    assert_int_equal(d.line_count, 1);
    vmdk_descriptor_free(&d);
}

/* ---- recognising ---- */

static const struct probe_row {
    const char *text;
    bool yes;
} probe_rows[] = {
    { "# Disk DescriptorFile\nversion=1\n", true },
    { "# Disk DescriptorFile\r\nversion=1\r\n", true },
    { "# Disk Descriptor File\n# Created by VMDKstream\nversion=1\n", true },
    { "#Disk DescriptorFile\n", true },
    { "#Disk Descriptor File", true },
    { "\xef\xbb\xbf# Disk DescriptorFile\n", true },
    { "\n\n  \n# disk descriptorfile\n", true },
    { "# a comment\n\n# Disk DescriptorFile\n", true },
    { "# a comment\nversion=1\nCID=1\nparentCID=ffffffff\n", true },
    { "version=3\r\ncreateType=\"vmfs\"\r\n", true },
    { "version=1\nname=a\n", false },
    { "version=9\ncreateType=\"vmfs\"\n", false },
    { "# Disk\n", false },
    { "# Disk DescriptorFil", false },
    { "#!/bin/sh\nversion=1\n", false },
    { "RW 8 FLAT \"a\" 0\n", false },
    { "first\n# Disk DescriptorFile\n", false },
    { "", false },
    { "QFI\xfb", false },
};

static void texts_are_recognised_by_their_first_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(probe_rows); i++)
        if (vmdk_descriptor_probe((const uint8_t *)probe_rows[i].text,
                                  strlen(probe_rows[i].text)) != probe_rows[i].yes)
            fail_msg("row %zu: %s", i, probe_rows[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extent_lines_are_read),
        cmocka_unit_test(broken_lines_are_named),
        cmocka_unit_test(more_extents_than_the_limit_are_refused),
        cmocka_unit_test(longer_texts_than_the_limit_are_refused),
        cmocka_unit_test(values_are_found_by_key),
        cmocka_unit_test(content_identifiers_of_any_length_are_read),
        cmocka_unit_test(text_ends_at_the_padding),
        cmocka_unit_test(every_line_is_kept),
        cmocka_unit_test(texts_are_recognised_by_their_first_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
