#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/formats/vmdk/extents.h"

#define SIZE (3 * SPAN)

static int try_open(struct pl_storage *st, bool writable, struct pl_err *e)
{
    struct rig rig = { .driver = &extent_driver, .st = st, .read_only = !writable };
    int r = rig_open(&rig, e);

    if (r == 0)
        rig_close(&rig);
    return r;
}

static void the_layout_tables_are_sound(void **state)
{
    (void)state;
    assert_true(pl_fields_apart(vmdk_header_fields));
    assert_true(pl_fields_apart(vmdk_cowd_header_fields));
    assert_int_equal(pl_fields_end(vmdk_header_fields), 79);
    assert_int_equal(pl_fields_end(vmdk_cowd_header_fields), 1652);
}

/* One field of a good header with another value. */
static const struct damage {
    const char *name;
    bool cowd;
    uint64_t at;
    unsigned width;
    uint64_t value;
    enum pl_kind kind; /* PL_OK: it opens */
    const char *text;  /* part of the message */
} damages[] = {
    { "another magic", false, 0, 4, 0x564d444c, PL_E_FORMAT, "magic 0x564d444c" },
    { "version 0", false, 4, 4, 0, PL_E_UNSUPPORTED, "version 0" },
    { "version 2", false, 4, 4, 2, PL_OK, "" },
    { "version 3", false, 4, 4, 3, PL_OK, "" },
    { "version 4", false, 4, 4, 4, PL_E_UNSUPPORTED, "version 4" },
    { "an unknown flag that readers may leave out", false, 8, 4, 0x83, PL_OK, "" },
    { "an unknown flag that changes reading", false, 8, 4, 0x40003, PL_E_UNSUPPORTED, "0x40000" },
    { "the compressed flag alone", false, 8, 4, 0x10003, PL_E_CORRUPT, "compressAlgorithm is 0" },
    { "markers without compression", false, 8, 4, 0x20003, PL_E_UNSUPPORTED, "markers" },
    { "a capacity of 0", false, 12, 8, 0, PL_OK, "" },
    { "a capacity of 2^54 sectors", false, 12, 8, UINT64_C(1) << 54, PL_E_LIMIT, "capacity" },
    { "a capacity of 2^64 - 1 sectors", false, 12, 8, UINT64_MAX, PL_E_LIMIT, "capacity" },
    { "a capacity that needs more directory than there is", false, 12, 8, UINT64_C(1) << 40,
      PL_E_CORRUPT, "grain directory" },
    { "grains of 0 sectors", false, 20, 8, 0, PL_E_CORRUPT, "grainSize of 0" },
    { "grains of 7 sectors", false, 20, 8, 7, PL_E_CORRUPT, "grainSize of 7" },
    { "grains of 1 sector, for which the tables do not suffice", false, 20, 8, 1, PL_OK, "" },
    { "grains of 128 MiB", false, 20, 8, 1 << 18, PL_E_CORRUPT, "grainSize" },
    { "a descriptor past the end", false, 28, 8, 1 << 20, PL_OK, "" }, /* of no sectors: none */
    { "a descriptor longer than the file", false, 28, 16, 0, PL_E_CORRUPT, "descriptor" },
    { "tables of 64 entries", false, 44, 4, 64, PL_E_CORRUPT, "numGTEsPerGT 64" },
    { "tables of 513 entries", false, 44, 4, 513, PL_E_CORRUPT, "numGTEsPerGT 513" },
    { "tables of 131072 entries", false, 44, 4, 131072, PL_E_CORRUPT, "numGTEsPerGT" },
    { "a redundant directory past the end", false, 48, 8, 1 << 30, PL_OK, "" },
    { "a directory past the end", false, 56, 8, 1 << 30, PL_OK, "" },
    { "a directory in the header", false, 56, 8, 0, PL_OK, "" },
    { "both directories past the end", false, 48, 16, 0, PL_E_CORRUPT, "grain directory" },
    { "a directory told in a footer that is not there", false, 56, 8, UINT64_MAX, PL_E_CORRUPT,
      "there is no footer" },
    { "newlines that were converted", false, 73, 4, 0x0a0a200a, PL_E_CORRUPT,
      "transferred as text" },
    { "an unknown compression", false, 77, 2, 2, PL_E_UNSUPPORTED, "compressAlgorithm 2" },
    { "compression without its flag", false, 77, 2, 1, PL_E_CORRUPT, "compressAlgorithm is 1" },
    { "COWD: another magic", true, 0, 4, 0x44574f44, PL_E_FORMAT, "magic" },
    { "COWD: version 2", true, 4, 4, 2, PL_E_UNSUPPORTED, "version 2" },
    { "COWD: grains of 3 sectors", true, 16, 4, 3, PL_E_CORRUPT, "grainSize of 3" },
    { "COWD: a directory past the end", true, 20, 4, 1 << 20, PL_E_CORRUPT, "grain directory" },
    { "COWD: a directory in the header", true, 20, 4, 3, PL_E_CORRUPT, "grain directory" },
    { "COWD: too few directory entries", true, 24, 4, 0, PL_E_CORRUPT, "numGDEntries is 0" },
    { "COWD: more directory entries than needed", true, 24, 4, 50, PL_OK, "" },
    { "COWD: no free sector", true, 28, 4, UINT32_MAX, PL_OK, "" },
};

static void a_header_is_judged(void **state)
{
    const struct damage *d = *state;
    struct pl_storage *st = d->cowd ? new_cowd(SIZE, GRAIN) : new_hosted(SIZE);

    OK(try_open(st, true, &e));
    if (d->width > 8) { /* two fields at once, both too big */
        poke_le(st, d->at, 8, 1 << 30);
        poke_le(st, d->at + 8, 8, 1 << 30);
    } else {
        poke_le(st, d->at, d->width, d->value);
    }
    if (d->kind == PL_OK)
        OK(try_open(st, false, &e));
    else
        FAILS(d->kind, d->text, try_open(st, false, &e));
    pl_storage_close(st, NULL);
}

static void a_file_that_ends_early_is_refused(void **state)
{
    struct pl_storage *whole = new_hosted(SIZE), *cowd = new_cowd(SIZE, GRAIN);

    (void)state;
    for (uint64_t len = 0; len < 512; len += 7) {
        struct pl_storage *st = memory_copy(whole, len);
        struct pl_err e = { 0 };

        assert_int_equal(try_open(st, false, &e), -1);
        pl_storage_close(st, NULL);
    }
    for (uint64_t len = 0; len < COWD_GD + 4; len += 7) {
        struct pl_storage *st = memory_copy(cowd, len);
        struct pl_err e = { 0 };

        assert_int_equal(try_open(st, false, &e), -1);
        pl_storage_close(st, NULL);
    }
    pl_storage_close(whole, NULL);
    pl_storage_close(cowd, NULL);
}

static void the_size_of_the_extent_line_wins(void **state)
{
    struct rig rig = { .driver = &extent_driver,
                       .st = new_hosted(SIZE - 512),
                       .extent_size = SIZE - GRAIN - 1024 };

    (void)state;
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, SIZE - GRAIN - 1024);
    rig_close(&rig);
    rig.extent_size = SIZE; /* the last grain has room for it */
    OK(rig_open(&rig, &e));
    rig_close(&rig);
    rig.extent_size = SIZE + 512;
    FAILS(PL_E_CORRUPT, "capacity", rig_open(&rig, &e));
    pl_storage_close(rig.st, NULL);
}

static void a_damaged_directory_is_not_written_to(void **state)
{
    struct pl_storage *st = new_hosted(SIZE);

    (void)state;
    poke_le(st, 48, 8, 1 << 30);
    FAILS(PL_E_CORRUPT, "cannot be written to", try_open(st, true, &e));
    pl_storage_close(st, NULL);
}

static void compressed_grains_are_not_written_to(void **state)
{
    struct pl_storage *st = new_hosted(SIZE);
    struct pl_err why = { 0 };

    (void)state;
    poke_le(st, 8, 4, 0x10003);
    poke_le(st, 77, 2, 1);
    OK(try_open(st, false, &e));
    assert_int_equal(try_open(st, true, &why), -1);
    assert_int_equal(why.kind, PL_E_UNSUPPORTED);
    assert_non_null(strstr(why.hint, "platter create -f qcow2"));
    pl_storage_close(st, NULL);
}

/* ---- the descriptor ---- */

static void the_descriptor_is_found(void **state)
{
    struct pl_storage *st = new_extent((struct vmdk_sparse_new){
        .size = SIZE, .grain_size = GRAIN, .descriptor = "# Disk DescriptorFile\n" });
    uint64_t off, len;
    char *text;

    (void)state;
    OK(vmdk_sparse_descriptor(st, &text, &e));
    assert_string_equal(text, "# Disk DescriptorFile\n");
    free(text);
    OK(vmdk_sparse_descriptor_place(st, &off, &len, &e));
    assert_int_equal(off, 512);
    assert_int_equal(len, 20 * 512);
    poke_le(st, 36, 8, UINT64_C(1) << 50);
    FAILS(PL_E_CORRUPT, "descriptor", vmdk_sparse_descriptor(st, &text, &e));
    pl_storage_close(st, NULL);

    st = new_cowd(SIZE, GRAIN);
    OK(vmdk_sparse_descriptor(st, &text, &e));
    assert_null(text);
    OK(vmdk_sparse_descriptor_place(st, &off, &len, &e));
    assert_int_equal(len, 0);
    pl_storage_close(st, NULL);
}

static void a_huge_descriptor_is_refused(void **state)
{
    struct pl_storage *st = new_hosted(SIZE);
    char *text;

    (void)state;
    OK(pl_storage_resize(st, 4 * PL_MIB, &e));
    poke_le(st, 28, 8, 1);
    poke_le(st, 36, 8, 4096);
    FAILS(PL_E_LIMIT, "descriptor", vmdk_sparse_descriptor(st, &text, &e));
    pl_storage_close(st, NULL);
}

/* ---- the footer ---- */

#define END 65536 /* the file without the footer */

/* The directory's place is told in a footer behind END. */
static struct pl_storage *with_footer(void)
{
    struct pl_storage *st = new_hosted(SIZE);
    uint8_t header[512];

    OK(pl_storage_resize(st, END + 1536, &e));
    OK(pl_storage_read(st, 0, header, sizeof header, &e));
    OK(pl_storage_write(st, END + 512, header, sizeof header, &e));
    poke_le(st, END, 8, 1);
    poke_le(st, END + 12, 4, 3);
    poke_le(st, 56, 8, UINT64_MAX);
    return st;
}

static void a_footer_tells_the_directorys_place(void **state)
{
    struct pl_storage *st = with_footer();
    struct pl_extent x;

    (void)state;
    OK(map_once(st, 0, SIZE, &x, &e));
    OK(pl_storage_resize(st, END + 1536 + 5000, &e)); /* padding, and no whole sector */
    OK(map_once(st, 0, SIZE, &x, &e));
    OK(pl_storage_resize(st, END + 1536 + 100000, &e));
    FAILS(PL_E_CORRUPT, "there is no footer", map_once(st, 0, SIZE, &x, &e));
    pl_storage_close(st, NULL);
}

static const struct footer_damage {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
    const char *text;
} footer_damages[] = {
    { "a footer without its magic", END + 512, 4, 0, "there is no footer" },
    { "a footer that points to a footer", END + 512 + 56, 8, UINT64_MAX, "told in the footer" },
    { "a footer of another version", END + 512 + 4, 4, 3, "version is 3, in the header 1" },
    { "a footer with other flags", END + 512 + 8, 4, 7, "flags is 7" },
    { "a footer with another capacity", END + 512 + 12, 8, 8, "capacity is 8" },
    { "a footer with other grains", END + 512 + 20, 8, 16, "grainSize is 16" },
    { "a footer with another descriptor", END + 512 + 28, 8, 16, "descriptorOffset is 16" },
    { "a footer with other tables", END + 512 + 44, 4, 1024, "numGTEsPerGT is 1024" },
    { "a footer with a bad field", END + 512 + 20, 8, 3, "footer: header: grainSize of 3" },
    { "a marker of another type", END + 12, 4, 2, "type 2" },
    { "a marker of more sectors", END, 8, 2, "2 sectors" },
    { "two footers", END, 4, VMDK_MAGIC, "there are two" },
    { "a footer and an end in front of the footer", END - 1024, 4, VMDK_MAGIC, "there are two" },
    { "something behind the footer", END + 1024, 8, 77, "there is no footer" },
};

static void a_footer_is_judged(void **state)
{
    const struct footer_damage *d = *state;
    struct pl_storage *st = with_footer();

    poke_le(st, d->at, d->width, d->value);
    FAILS(PL_E_CORRUPT, d->text, try_open(st, false, &e));
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest plain[] = {
        cmocka_unit_test(the_layout_tables_are_sound),
        cmocka_unit_test(a_file_that_ends_early_is_refused),
        cmocka_unit_test(the_size_of_the_extent_line_wins),
        cmocka_unit_test(a_damaged_directory_is_not_written_to),
        cmocka_unit_test(compressed_grains_are_not_written_to),
        cmocka_unit_test(the_descriptor_is_found),
        cmocka_unit_test(a_huge_descriptor_is_refused),
        cmocka_unit_test(a_footer_tells_the_directorys_place),
    };
    struct CMUnitTest tests[PL_COUNT(plain) + PL_COUNT(damages) + PL_COUNT(footer_damages)];
    size_t n = PL_COUNT(plain);

    memcpy(tests, plain, sizeof plain);
    for (size_t i = 0; i < PL_COUNT(damages); i++)
        tests[n++] = (struct CMUnitTest){ .name = damages[i].name,
                                          .test_func = a_header_is_judged,
                                          .initial_state = (void *)&damages[i] };
    for (size_t i = 0; i < PL_COUNT(footer_damages); i++)
        tests[n++] = (struct CMUnitTest){ .name = footer_damages[i].name,
                                          .test_func = a_footer_is_judged,
                                          .initial_state = (void *)&footer_damages[i] };
    return _cmocka_run_group_tests("test_sparse_header", tests, n, NULL, NULL);
}
