#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/images.h"

/* Clusters of 4 KiB, so that an L2 table has 512 entries for 2 MiB; L1 table at 0x3000. */
#define CLUSTER UINT64_C(0x1000)
#define TABLE_SPAN (512 * CLUSTER)
#define SIZE (8 * PL_MIB)
#define L1 0x3000
#define L2 0x4000         /* the table of the first 2 MiB, of our own making */
#define FILE_SIZE 0x80000 /* with room for data from 0x5000 on */

#define C QCOW2_COPIED
#define P QCOW2_PACKED
#define PACKED_AT(off, sectors) (P | (uint64_t)((sectors)-1) << 58 | (off))

static struct pl_storage *crafted(const char *options, uint64_t size)
{
    struct pl_storage *st = new_image(&pl_qcow2, options, size, NULL);

    poke(st, L1, 8, L2 | C);
    OK(pl_storage_resize(st, FILE_SIZE, &e));
    return st;
}

static void open_it(struct pl_storage *st, struct pl_layer *layer)
{
    OK(pl_qcow2.open(&(struct pl_open_args){ .file = st }, layer, &e));
}

/* The first L2 entries, and what map then says at one address. */
static const struct look {
    const char *name;
    uint64_t entry[6];
    uint64_t at, len;
    enum pl_state state;
    bool allocated;
    uint64_t want_len, want_off;
    const char *text; /* not null: PL_E_CORRUPT with this in the message */
} looks[] = {
    { "an empty entry is the parent's",
      { 0, 0x5000 | C },
      0,
      CLUSTER * 2,
      PL_PARENT,
      false,
      CLUSTER,
      0,
      NULL },
    { "clusters that follow each other are one run",
      { 0x5000 | C, 0x6000 | C, 0x7000, 0x9000 },
      0,
      SIZE,
      PL_DATA,
      false,
      3 * CLUSTER,
      0x5000,
      NULL },
    { "a run starts inside a cluster",
      { 0x5000 | C, 0x6000 | C },
      0x123,
      SIZE,
      PL_DATA,
      false,
      2 * CLUSTER - 0x123,
      0x5123,
      NULL },
    { "a run is cut to what was asked",
      { 0x5000 | C, 0x6000 | C },
      0x123,
      5,
      PL_DATA,
      false,
      5,
      0x5123,
      NULL },
    { "backward clusters are two runs",
      { 0x6000 | C, 0x5000 | C },
      0,
      SIZE,
      PL_DATA,
      false,
      CLUSTER,
      0x6000,
      NULL },
    { "zeros without room", { 1, 1, 0 }, 0, SIZE, PL_ZERO, false, 2 * CLUSTER, 0, NULL },
    { "zeros that keep their room",
      { 0x5001 | C, 0x6001 | C, 1 },
      0,
      SIZE,
      PL_ZERO,
      true,
      2 * CLUSTER,
      0x5000,
      NULL },
    { "a compressed cluster is alone",
      { PACKED_AT(0x5003, 2), PACKED_AT(0x53ff, 1) },
      0,
      SIZE,
      PL_PACKED,
      false,
      CLUSTER,
      0x5003,
      NULL },
    { "a compressed cluster read from its middle",
      { PACKED_AT(0x5003, 2) },
      100,
      SIZE,
      PL_PACKED,
      false,
      CLUSTER - 100,
      0x5003,
      NULL },
    { "a run ends before a broken entry",
      { 0x5000 | C, 0x6002 | C },
      0,
      SIZE,
      PL_DATA,
      false,
      CLUSTER,
      0x5000,
      NULL },
    { "reserved bits", { 0x5002 | C }, 0, 1, 0, false, 0, 0, "reserved" },
    { "high reserved bits", { 0x5000 | UINT64_C(1) << 56 }, 0, 1, 0, false, 0, 0, "reserved" },
    { "a cluster that is not aligned", { 0x5200 | C }, 0, 1, 0, false, 0, 0, "not aligned" },
    { "a cluster at the end of the file", { FILE_SIZE | C }, 0, 1, 0, false, 0, 0, "past the end" },
    { "a cluster at the end of all",
      { QCOW2_OFFSET_MASK & ~0xfff },
      0,
      1,
      0,
      false,
      0,
      0,
      "past the end" },
    { "a compressed cluster past the end",
      { PACKED_AT(FILE_SIZE, 1) },
      0,
      1,
      0,
      false,
      0,
      0,
      "past the end" },
    { "a compressed cluster beyond 2^56",
      { PACKED_AT(UINT64_C(1) << 56, 1) },
      0,
      1,
      0,
      false,
      0,
      0,
      "reserved" },
};

static void an_entry_is_mapped(void **state)
{
    const struct look *look = *state;
    struct pl_storage *st = crafted("cluster_size=4k", SIZE);
    struct pl_layer layer;
    struct pl_extent x;

    for (unsigned i = 0; i < PL_COUNT(look->entry); i++)
        poke(st, L2 + 8 * i, 8, look->entry[i]);
    open_it(st, &layer);
    if (look->text) {
        FAILS(PL_E_CORRUPT, look->text, pl_qcow2.map(layer.state, look->at, look->len, &x, &e));
    } else {
        OK(pl_qcow2.map(layer.state, look->at, look->len, &x, &e));
        assert_int_equal(x.state, look->state);
        assert_int_equal(x.allocated, look->allocated);
        assert_int_equal(x.len, look->want_len);
        assert_int_equal(x.off, look->want_off);
        assert_ptr_equal(x.st, look->want_off ? st : NULL);
    }
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

/* Extended L2 entries of clusters of 16 KiB: L1 table at 0xc000, L2 table at 0x10000, subclusters
 * of 512. */
static const struct look2 {
    const char *name;
    uint64_t entry[4]; /* word, bitmap, word, bitmap */
    uint64_t at;
    enum pl_state state;
    bool allocated;
    uint64_t want_len, want_off;
    const char *text;
} extended_looks[] = {
    { "all of a cluster and of the next",
      { 0x14000 | C, UINT32_MAX, 0x18000 | C, UINT32_MAX },
      0,
      PL_DATA,
      false,
      0x8000,
      0x14000,
      NULL },
    { "the first subclusters",
      { 0x14000 | C, 7, 0, 0 },
      0x200,
      PL_DATA,
      false,
      0x400,
      0x14200,
      NULL },
    { "the middle one, from inside",
      { 0x14000 | C, 2, 0, 0 },
      0x210,
      PL_DATA,
      false,
      0x1f0,
      0x14210,
      NULL },
    { "subclusters that show the parent",
      { 0x14000 | C, 8, 0, 0 },
      0,
      PL_PARENT,
      false,
      0x600,
      0,
      NULL },
    { "zeros with room",
      { 0x14000 | C, UINT64_C(6) << 32, 0, 0 },
      0x200,
      PL_ZERO,
      true,
      0x400,
      0x14200,
      NULL },
    { "zeros without room run on",
      { 0, UINT64_C(0xffffffff) << 32, 0, UINT64_C(3) << 32 },
      0x400,
      PL_ZERO,
      false,
      0x4000 - 0x400 + 0x400,
      0,
      NULL },
    { "the last subcluster and what follows",
      { 0x14000 | C, UINT64_C(1) << 31, 0x18000 | C, 1 },
      0x3e00,
      PL_DATA,
      false,
      0x400,
      0x17e00,
      NULL },
    { "a cluster that does not follow",
      { 0x14000 | C, UINT64_C(1) << 31, 0x1c000 | C, 1 },
      0x3e00,
      PL_DATA,
      false,
      0x200,
      0x17e00,
      NULL },
    { "both data and zeros",
      { 0x14000 | C, UINT64_C(0x100000001), 0, 0 },
      0,
      0,
      false,
      0,
      0,
      "both" },
    { "data without a place", { 0, 1, 0, 0 }, 0, 0, false, 0, 0, "no place" },
    { "the zero flag of plain entries", { 0x14001 | C, 1, 0, 0 }, 0, 0, false, 0, 0, "zero flag" },
    { "a compressed cluster has no subclusters",
      { P | 0x14000, 0x55, 0, 0 },
      0x200,
      PL_PACKED,
      false,
      0x4000 - 0x200,
      0x14000,
      NULL },
};

static void an_extended_entry_is_mapped(void **state)
{
    const struct look2 *look = *state;
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=16k,extended_l2=on", SIZE, NULL);
    struct pl_layer layer;
    struct pl_extent x;

    poke(st, 0xc000, 8, 0x10000 | C);
    OK(pl_storage_resize(st, FILE_SIZE, &e));
    for (unsigned i = 0; i < PL_COUNT(look->entry); i++)
        poke(st, 0x10000 + 8 * i, 8, look->entry[i]);
    open_it(st, &layer);
    assert_int_equal(layer.granule, 512);
    if (look->text) {
        FAILS(PL_E_CORRUPT, look->text, pl_qcow2.map(layer.state, look->at, SIZE, &x, &e));
    } else {
        OK(pl_qcow2.map(layer.state, look->at, SIZE - look->at, &x, &e));
        assert_int_equal(x.state, look->state);
        assert_int_equal(x.allocated, look->allocated);
        assert_int_equal(x.len, look->want_len);
        assert_int_equal(x.off, look->want_off);
    }
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void a_packed_extent_tells_unit_and_codec(void **state)
{
    struct pl_storage *st = crafted("cluster_size=4k,compression_type=zstd", SIZE);
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    poke(st, L2 + 8, 8, PACKED_AT(0x5003, 3));
    open_it(st, &layer);
    OK(pl_qcow2.map(layer.state, CLUSTER + 7, 1, &x, &e));
    assert_int_equal(x.unit_at, CLUSTER);
    assert_int_equal(x.unit_len, CLUSTER);
    assert_int_equal(x.packed_len, 3 * 512 - 3);
    assert_ptr_equal(x.codec, &pl_codec_zstd);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void missing_tables_are_one_run(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "", PL_TIB, NULL);
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    open_it(st, &layer);
    OK(pl_qcow2.map(layer.state, 5, PL_TIB - 5, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    assert_int_equal(x.len, PL_TIB - 5);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void missing_tables_end_at_one_that_is_there(void **state)
{
    struct pl_storage *st = crafted("cluster_size=4k", SIZE);
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    poke(st, L1, 8, 0);
    poke(st, L1 + 16, 8, L2 | C);
    open_it(st, &layer);
    OK(pl_qcow2.map(layer.state, CLUSTER, SIZE - CLUSTER, &x, &e));
    assert_int_equal(x.len, 2 * TABLE_SPAN - CLUSTER);
    OK(pl_qcow2.map(layer.state, 2 * TABLE_SPAN, SIZE - 2 * TABLE_SPAN, &x, &e));
    assert_int_equal(x.len, TABLE_SPAN); /* an empty table: as far as it reaches */
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void a_long_run_is_one_call(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "preallocation=metadata", 32 * PL_MIB, NULL);
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    open_it(st, &layer);
    OK(pl_qcow2.map(layer.state, 0, 32 * PL_MIB, &x, &e));
    assert_int_equal(x.state, PL_DATA);
    assert_int_equal(x.len, 32 * PL_MIB);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static const struct l1_entry {
    const char *name;
    uint64_t word;
    const char *text;
} l1_entries[] = {
    { "an L1 entry with reserved bits", L2 | C | 1, "reserved" },
    { "an L1 entry with high reserved bits", L2 | UINT64_C(1) << 62, "reserved" },
    { "an L2 table that is not aligned", (L2 + 0x200) | C, "not aligned" },
    { "an L2 table past the end", FILE_SIZE | C, "past the end" },
};

static void a_bad_l1_entry_is_named(void **state)
{
    const struct l1_entry *row = *state;
    struct pl_storage *st = crafted("cluster_size=4k", SIZE);
    struct pl_layer layer;
    struct pl_extent x;

    poke(st, L1 + 8, 8, row->word);
    open_it(st, &layer);
    FAILS(PL_E_CORRUPT, row->text, pl_qcow2.map(layer.state, TABLE_SPAN, 1, &x, &e));
    FAILS(PL_E_CORRUPT, "L1 entry 1", pl_qcow2.map(layer.state, TABLE_SPAN, 1, &x, &e));
    OK(pl_qcow2.map(layer.state, 0, SIZE, &x, &e)); /* the rest can be read */
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void version_2_has_no_zero_flag(void **state)
{
    struct pl_storage *st = crafted("compat=0.10,cluster_size=4k", SIZE);
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    poke(st, L2, 8, 1);
    open_it(st, &layer);
    FAILS(PL_E_CORRUPT, "zero flag", pl_qcow2.map(layer.state, 0, 1, &x, &e));
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void a_cluster_cut_by_the_end_of_the_file_is_mapped(void **state)
{
    struct pl_storage *st = crafted("cluster_size=4k", SIZE);
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    poke(st, L2, 8, 0x5000 | C);
    poke(st, L2 + 8, 8, 0x6000 | C);
    OK(pl_storage_resize(st, 0x5001, &e));
    open_it(st, &layer);
    OK(pl_qcow2.map(layer.state, 0, SIZE, &x, &e));
    assert_int_equal(x.len, CLUSTER);
    FAILS(PL_E_CORRUPT, "past the end", pl_qcow2.map(layer.state, CLUSTER, 1, &x, &e));
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static int give_data_file(const struct pl_open_args *args, const char *name,
                          struct pl_storage **out, struct pl_err *e)
{
    assert_string_equal(name, "data.raw");
    assert_null(args->ctx);
    return pl_memory_storage(NULL, 0, MEMORY_LIMIT, out, e);
}

static int make_data_file(const struct pl_create_args *args, const char *name,
                          struct pl_storage **out, struct pl_err *e)
{
    (void)args;
    (void)name;
    return pl_memory_storage(NULL, 0, MEMORY_LIMIT, out, e);
}

static void clusters_in_a_data_file_lie_where_the_guest_says(void **state)
{
    struct pl_options *options = options_of("cluster_size=4k,data_file=data.raw,data_file_raw=on");
    const struct pl_create_args create = {
        .file = memory(), .size = SIZE, .options = options, .create_file = make_data_file
    };
    const struct pl_open_args args = { .file = create.file, .open_file = give_data_file };
    struct pl_layer layer;
    struct pl_extent x;

    (void)state;
    OK(pl_qcow2.create(&create, &e));
    pl_options_free(options);
    poke(create.file, L2 + 8, 8, 0x5000 | C);
    poke(create.file, L2 + 16, 8, P | 0x2000);
    OK(pl_qcow2.open(&args, &layer, &e));
    assert_null(layer.codec);
    OK(pl_qcow2.map(layer.state, 0, SIZE, &x, &e));
    assert_int_equal(x.state, PL_DATA);
    assert_int_equal(x.off, 0);
    assert_int_equal(x.len, CLUSTER);
    assert_ptr_not_equal(x.st, create.file);
    FAILS(PL_E_CORRUPT, "not the guest's", pl_qcow2.map(layer.state, CLUSTER, 1, &x, &e));
    FAILS(PL_E_CORRUPT, "data file", pl_qcow2.map(layer.state, 2 * CLUSTER, 1, &x, &e));
    OK(pl_qcow2.map(layer.state, 3 * CLUSTER, SIZE - 3 * CLUSTER, &x, &e));
    assert_int_equal(x.off, 3 * CLUSTER);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(create.file, NULL);
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(a_packed_extent_tells_unit_and_codec),
        cmocka_unit_test(missing_tables_are_one_run),
        cmocka_unit_test(missing_tables_end_at_one_that_is_there),
        cmocka_unit_test(a_long_run_is_one_call),
        cmocka_unit_test(version_2_has_no_zero_flag),
        cmocka_unit_test(a_cluster_cut_by_the_end_of_the_file_is_mapped),
        cmocka_unit_test(clusters_in_a_data_file_lie_where_the_guest_says),
    };
    struct CMUnitTest
        tests[PL_COUNT(looks) + PL_COUNT(extended_looks) + PL_COUNT(l1_entries) + PL_COUNT(others)];
    struct CMUnitTest *t = tests;

    for (size_t i = 0; i < PL_COUNT(looks); i++)
        *t++ =
            (struct CMUnitTest){ looks[i].name, an_entry_is_mapped, NULL, NULL, (void *)&looks[i] };
    for (size_t i = 0; i < PL_COUNT(extended_looks); i++)
        *t++ = (struct CMUnitTest){ extended_looks[i].name, an_extended_entry_is_mapped, NULL, NULL,
                                    (void *)&extended_looks[i] };
    for (size_t i = 0; i < PL_COUNT(l1_entries); i++)
        *t++ = (struct CMUnitTest){ l1_entries[i].name, a_bad_l1_entry_is_named, NULL, NULL,
                                    (void *)&l1_entries[i] };
    memcpy(t, others, sizeof others);
    return cmocka_run_group_tests_name("qcow2 map", tests, NULL, NULL);
}
