/* The log: which of its entries count, and what they may say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/formats/vhdx/edit.h"

#define SIZE (6 * PL_MIB)
#define SECTOR 4096u
#define GUID UINT64_C(0x1122334455667788)

/* One entry: data sectors for the BAT's first sector, or zeros. */
struct entry {
    uint32_t at; /* in the log */
    uint32_t tail;
    uint64_t number; /* sequence number */
    uint64_t target; /* file offset of its change, 0: none */
    uint64_t bat[3]; /* the first entries that its data sector puts there */
    uint64_t zeros;  /* length: a zero descriptor instead of a data sector */
    uint64_t flushed, last;
    uint32_t torn; /* 1: its data sector has another sequence number */
};

static void put(struct pl_storage *st, const struct entry *x)
{
    const uint32_t len = x->target && !x->zeros ? 2 * SECTOR : SECTOR;
    uint8_t *raw = calloc(1, len);

    memcpy(raw, "loge", 4);
    store_le32(raw + 8, len);
    store_le32(raw + 12, x->tail);
    store_le64(raw + 16, x->number);
    store_le32(raw + 24, x->target ? 1 : 0);
    store_le64(raw + 32, GUID);
    store_le64(raw + 48, x->flushed);
    store_le64(raw + 56, x->last ? x->last : pl_storage_size(st));
    if (x->target) {
        memcpy(raw + 64, x->zeros ? "zero" : "desc", 4);
        store_le64(raw + 72, x->zeros ? x->zeros : x->bat[0]);
        store_le64(raw + 80, x->target);
        store_le64(raw + 88, x->number);
    }
    if (len > SECTOR) {
        memcpy(raw + SECTOR, "data", 4);
        store_le32(raw + SECTOR + 4, (uint32_t)(x->number >> 32));
        store_le64(raw + SECTOR + 8, x->bat[1]);
        store_le64(raw + SECTOR + 16, x->bat[2]);
        store_le32(raw + SECTOR + 4092, (uint32_t)x->number + x->torn);
    }
    store_le32(raw + 4, pl_crc32c(0, raw, len));
    for (uint32_t i = 0; i < len; i += SECTOR)
        OK(pl_storage_write(st, LOG_AT + (x->at + i) % PL_MIB, raw + i, SECTOR, &e));
    free(raw);
}

/* Two blocks of data in the file and an empty BAT: the log is to say where they are. */
static struct rig image(void)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    uint8_t *bytes = malloc(2 * PL_MIB);

    memset(bytes, 0x11, PL_MIB);
    memset(bytes + PL_MIB, 0x22, PL_MIB);
    OK(pl_storage_write(rig.st, DATA_AT, bytes, 2 * PL_MIB, &e));
    free(bytes);
    poke_headers(rig.st, 48, 8, GUID);
    return rig;
}

#define BLOCK(i) ((DATA_AT + (i)*PL_MIB) | VHDX_FULLY_PRESENT)

/* What guest block i begins with. */
static uint8_t seen(struct rig *rig, unsigned i)
{
    uint8_t byte;

    OK(rig_read(rig, i * PL_MIB, &byte, 1, &e));
    return byte;
}

static const struct entry first = { .number = 5, .target = BAT_AT, .bat = { BLOCK(0) } };
static const struct entry second = {
    .at = 2 * SECTOR, .tail = 2 * SECTOR, .number = 6, .target = BAT_AT, .bat = { BLOCK(1) }
};

static void a_log_is_replayed_in_memory_for_a_reader(void **state)
{
    struct rig rig = image();
    uint8_t *before = malloc(6 * PL_MIB), *after = malloc(6 * PL_MIB);
    struct pl_image_flags flags = { 0 };

    (void)state;
    put(rig.st, &first);
    OK(pl_storage_read(rig.st, 0, before, 6 * PL_MIB, &e));
    rig.read_only = true;
    OK(rig_open(&rig, &e));
    assert_int_equal(seen(&rig, 0), 0x11);
    assert_int_equal(seen(&rig, 1), 0);
    pl_vhdx.flags(rig.layer.state, &flags);
    assert_true(flags.dirty);
    rig_close(&rig);
    OK(pl_storage_read(rig.st, 0, after, 6 * PL_MIB, &e));
    assert_memory_equal(before, after, 6 * PL_MIB);
    pl_storage_close(rig.st, NULL);
    free(before);
    free(after);
}

static void a_writer_replays_it_into_the_file(void **state)
{
    struct rig rig = image();

    (void)state;
    put(rig.st, &first);
    OK(rig_open(&rig, &e));
    assert_int_equal(seen(&rig, 0), 0x11);
    rig_close(&rig);
    assert_int_equal(peek_le(rig.st, BAT_AT, 8), BLOCK(0));
    assert_int_equal(peek_le(rig.st, VHDX_HEADER_AT(newer_header(rig.st)) + 48, 8), 0);
    pl_storage_close(rig.st, NULL);
}

static void expect(const struct entry *entries, size_t count, uint8_t block0, uint8_t block1)
{
    struct rig rig = image();

    for (size_t i = 0; i < count; i++)
        put(rig.st, &entries[i]);
    rig.read_only = true;
    OK(rig_open(&rig, &e));
    assert_int_equal(seen(&rig, 0), block0);
    assert_int_equal(seen(&rig, 1), block1);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void refuse(const struct entry *entries, size_t count, const char *text)
{
    struct rig rig = image();

    for (size_t i = 0; i < count; i++)
        put(rig.st, &entries[i]);
    FAILS(PL_E_CORRUPT, text, try_open(rig.st, false, &e));
    FAILS(PL_E_CORRUPT, text, try_open(rig.st, true, &e));
    pl_storage_close(rig.st, NULL);
}

static void only_what_follows_the_tail_is_replayed(void **state)
{
    struct entry entries[] = { first, second };

    (void)state;
    entries[0].target = BAT_AT + SECTOR; /* would be out of the way */
    entries[0].bat[0] = 0;
    expect(entries, 2, 0x22, 0);
    entries[0].target = DATA_AT + PL_MIB; /* would change the data */
    expect(entries, 2, 0x22, 0);
    entries[1].tail = 0; /* now it does */
    expect(entries, 2, 0, 0);
}

static void the_later_of_two_sequences_counts(void **state)
{
    struct entry entries[] = { first, second };

    (void)state;
    entries[1].at = entries[1].tail = 10 * SECTOR;
    entries[1].number = 4;
    expect(entries, 2, 0x11, 0);
    entries[1].number = 9;
    expect(entries, 2, 0x22, 0);
}

static void a_sequence_may_go_around_the_end(void **state)
{
    struct entry entries[] = { first, second };

    (void)state;
    entries[0].at = PL_MIB - 3 * SECTOR;
    entries[0].tail = entries[0].at;
    entries[0].target = DATA_AT + PL_MIB;
    entries[0].bat[0] = 0x5555555555555555;
    entries[1].at = PL_MIB - SECTOR;
    entries[1].tail = entries[0].at;
    expect(entries, 2, 0x55, 0);
}

static void a_torn_entry_ends_the_sequence(void **state)
{
    struct entry entries[] = { first, second };

    (void)state;
    entries[1].torn = 1;
    expect(entries, 2, 0x11, 0);
}

static void a_gap_in_the_numbers_ends_the_sequence(void **state)
{
    struct entry entries[] = { first, second };

    (void)state;
    entries[1].number = 7;
    entries[1].tail = 0; /* not in its own sequence: it is incomplete */
    expect(entries, 2, 0x11, 0);
}

static void a_sequence_without_its_tail_is_none(void **state)
{
    struct entry x = first;

    (void)state;
    x.tail = 8 * SECTOR;
    refuse(&x, 1, "no complete sequence");
}

static void entries_of_another_log_do_not_count(void **state)
{
    struct rig rig = image();

    (void)state;
    put(rig.st, &first);
    poke_headers(rig.st, 48, 8, GUID + 1);
    FAILS(PL_E_CORRUPT, "no complete sequence", try_open(rig.st, false, &e));
    pl_storage_close(rig.st, NULL);
}

static void zeros_of_any_length(void **state)
{
    struct entry entries[] = { first, second };

    (void)state;
    entries[1].tail = 0;
    entries[1].target = DATA_AT;
    entries[1].zeros = SECTOR;
    expect(entries, 2, 0, 0);
    entries[1].zeros = 2 * PL_MIB;
    expect(entries, 2, 0, 0);
}

static void a_file_that_was_cut_is_refused(void **state)
{
    struct entry x = first;

    (void)state;
    x.flushed = 7 * PL_MIB;
    refuse(&x, 1, "it was cut");
}

static void a_file_grows_to_what_the_log_says(void **state)
{
    struct rig rig = image();
    struct entry x = first;

    (void)state;
    x.last = 9 * PL_MIB;
    x.bat[0] = (8 * PL_MIB) | VHDX_FULLY_PRESENT;
    put(rig.st, &x);
    rig.read_only = true;
    OK(rig_open(&rig, &e));
    assert_int_equal(seen(&rig, 0), 0);
    rig_close(&rig);
    assert_int_equal(pl_storage_size(rig.st), 6 * PL_MIB);
    OK(try_open(rig.st, true, &e));
    assert_int_equal(pl_storage_size(rig.st), 9 * PL_MIB);
    pl_storage_close(rig.st, NULL);
}

static const struct bad {
    const char *name;
    uint64_t target, zeros, last;
    const char *text;
} bads[] = {
    { "a change of the headers", 0x10000, 0, 0, "into the headers" },
    { "a change of the log", LOG_AT, 0, 0, "the log itself" },
    { "zeros up to the log", 0x30000, PL_MIB, 0, "the log itself" },
    { "a change past the end", 6 * PL_MIB, 0, 0, "past the end" },
    { "zeros past the end", DATA_AT, 3 * PL_MIB, 0, "past the end" },
    { "zeros of nearly 2^64 bytes", DATA_AT, UINT64_MAX << 12, 0, "past the end" },
    { "a change at the end of all", UINT64_MAX << 12, 0, 0, "past the end" },
    { "a file of 2^63 bytes", BAT_AT, 0, UINT64_C(1) << 63, "too big" },
    { "a change that is not aligned", BAT_AT + 8, 0, 0, "no complete sequence" },
};

static void check_bad(void **state)
{
    const struct bad *b = *state;
    struct entry x = first;

    x.target = b->target;
    x.zeros = b->zeros;
    x.last = b->last;
    refuse(&x, 1, b->text);
}

/* Each sector claims to begin an entry as long as the log. */
static void entries_in_each_other_take_no_time(void **state)
{
    struct rig rig = image();
    uint8_t raw[64] = "loge";

    (void)state;
    store_le32(raw + 8, PL_MIB);
    store_le64(raw + 16, 1);
    store_le64(raw + 32, GUID);
    for (uint32_t at = 0; at < PL_MIB; at += SECTOR)
        OK(pl_storage_write(rig.st, LOG_AT + at, raw, sizeof raw, &e));
    FAILS(PL_E_CORRUPT, "lie in each other", try_open(rig.st, false, &e));
    pl_storage_close(rig.st, NULL);
}

/* A log full of entries that follow each other, the last one's tail being the first. */
static void a_log_that_is_one_circle_ends(void **state)
{
    struct rig rig = image();

    (void)state;
    for (uint32_t i = 0; i < PL_MIB / SECTOR; i++)
        put(rig.st, &(struct entry){ .at = i * SECTOR, .number = i + 1 });
    rig.read_only = true;
    OK(rig_open(&rig, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

int main(void)
{
    struct CMUnitTest tests[14 + PL_COUNT(bads)] = {
        cmocka_unit_test(a_log_is_replayed_in_memory_for_a_reader),
        cmocka_unit_test(a_writer_replays_it_into_the_file),
        cmocka_unit_test(only_what_follows_the_tail_is_replayed),
        cmocka_unit_test(the_later_of_two_sequences_counts),
        cmocka_unit_test(a_sequence_may_go_around_the_end),
        cmocka_unit_test(a_torn_entry_ends_the_sequence),
        cmocka_unit_test(a_gap_in_the_numbers_ends_the_sequence),
        cmocka_unit_test(a_sequence_without_its_tail_is_none),
        cmocka_unit_test(entries_of_another_log_do_not_count),
        cmocka_unit_test(zeros_of_any_length),
        cmocka_unit_test(a_file_that_was_cut_is_refused),
        cmocka_unit_test(a_file_grows_to_what_the_log_says),
        cmocka_unit_test(entries_in_each_other_take_no_time),
        cmocka_unit_test(a_log_that_is_one_circle_ends),
    };

    for (size_t i = 0; i < PL_COUNT(bads); i++)
        tests[14 + i] = (struct CMUnitTest){ .name = bads[i].name,
                                             .test_func = check_bad,
                                             .initial_state = (void *)&bads[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
