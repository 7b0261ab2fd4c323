/* A crash at any instant of a real repair, for each format: what the journal has of it brings the
 * file back to what it was, and without one nothing was changed.
 *
 * Images are written to, then some of their bytes are overwritten; a repair may fail on what comes
 * of that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/rig.h"
#include "tests/support/undo_rig.h"

#define LIMIT (64 * PL_MIB)
#define CUTS 3u
#define INSTANTS 50u /* of a repair, about; all of a short one */
#define ROUNDS 5u

/* Bytes of a file that are overwritten. */
struct span {
    uint64_t from, to;
};

struct image {
    const char *name;
    const struct pl_driver *driver;
    const char *options;
    uint64_t size;
    struct span tables; /* where its tables are, or ... */
    void (*find)(struct pl_storage *st, uint64_t *random, struct span *tables); /* ... finds them */
};

static uint64_t number_at(struct pl_storage *st, uint64_t at)
{
    uint8_t bytes[8];

    OK(pl_storage_read(st, at, bytes, 8, &e));
    return load_be64(bytes) & (UINT64_MAX >> 1);
}

/* The first entries of the first L2 table or refcount block. */
static void find_qcow2_table(struct pl_storage *st, uint64_t *random, struct span *tables)
{
    uint64_t at = number_at(st, rig_below(random, 2) ? 40 : 48);

    while (number_at(st, at) == 0)
        at += 8;
    tables->from = number_at(st, at);
    tables->to = tables->from + 128;
}

/* Both copies of the first grain table of a sparse extent as qemu-img makes it. */
static void find_vmdk_table(struct pl_storage *st, uint64_t *random, struct span *tables)
{
    uint8_t bytes[8];

    OK(pl_storage_read(st, rig_below(random, 2) ? 48 : 56, bytes, 8, &e));
    OK(pl_storage_read(st, load_le64(bytes) * 512, bytes, 4, &e));
    tables->from = (uint64_t)load_le32(bytes) * 512;
    tables->to = tables->from + 64;
}

static const struct image images[] = {
    { .name = "qcow2",
      .driver = &pl_qcow2,
      .options = "cluster_size=4k",
      .size = 2 * PL_MIB,
      .find = find_qcow2_table },
    { .name = "qcow2 with lazy refcounts",
      .driver = &pl_qcow2,
      .options = "cluster_size=512,lazy_refcounts=on",
      .size = PL_MIB,
      .find = find_qcow2_table },
    { .name = "vmdk",
      .driver = &pl_vmdk,
      .options = "",
      .size = 2 * PL_MIB,
      .find = find_vmdk_table },
    { .name = "vhd",
      .driver = &pl_vhd,
      .options = "block_size=512k",
      .size = 4 * PL_MIB,
      .tables = { 1536, 1568 } },
    { .name = "vdi",
      .driver = &pl_vdi,
      .options = "",
      .size = 4 * PL_MIB,
      .tables = { PL_MIB, PL_MIB + 16 } },
    { .name = "vhdx",
      .driver = &pl_vhdx,
      .options = "block_size=1M",
      .size = 4 * PL_MIB,
      .tables = { 3 * PL_MIB, 3 * PL_MIB + 32 } },
};

/* A damaged image, and what it was before the repair. */
struct run {
    struct undo_rig rig;
    uint8_t *before;
    size_t before_len;
};

static void fill(struct rig *rig, uint64_t *random)
{
    static uint8_t bytes[100000];

    for (unsigned i = 0; i < 12; i++) {
        const uint64_t at = pl_round_down(rig_below(random, rig->layer.size - sizeof bytes), 512);

        memset(bytes, (int)i + 1, sizeof bytes);
        OK(rig_write(rig, at, bytes, 512 * (1 + rig_below(random, 190)), &e));
    }
}

/* Entries of tables get other values, or that of another one. */
static void damage(const struct image *image, struct pl_storage *st, uint64_t *random)
{
    for (unsigned i = 0; i < 3; i++) {
        struct span tables = image->tables;
        uint8_t bytes[8];
        uint64_t at;

        if (image->find)
            image->find(st, random, &tables);
        at = tables.from + pl_round_down(rig_below(random, tables.to - tables.from), 8);
        OK(pl_storage_read(st, rig_below(random, 2) ? tables.from : at, bytes, 8, &e));
        if (rig_below(random, 2))
            bytes[rig_below(random, 8)] ^= (uint8_t)(1 + rig_below(random, 255));
        OK(pl_storage_write(st, at, bytes, 8, &e));
    }
}

static void begin(struct run *r, const struct image *image, uint64_t seed)
{
    struct rig rig = { .driver = image->driver };
    struct pl_storage *file, *journal;
    uint64_t random = seed;

    OK(pl_memory_storage(NULL, 0, LIMIT, &rig.st, &e));
    OK(rig_create(&rig, image->options, image->size, &e));
    OK(rig_open(&rig, &e));
    fill(&rig, &random);
    OK(rig_flush(&rig, &e));
    fill(&rig, &random);
    if (seed % 3)
        OK(rig_finish(&rig, &e));
    else
        rig_close(&rig); /* a crash */
    damage(image, rig.st, &random);
    r->before = undo_rig_bytes(rig.st, &r->before_len);
    OK(pl_storage_close(rig.st, &e));
    OK(pl_flaky_storage(r->before, r->before_len, LIMIT, &file, &e));
    OK(pl_flaky_storage(NULL, 0, LIMIT, &journal, &e));
    pl_flaky_pair(file, journal);
    undo_rig_init(&r->rig, file, NULL, journal);
}

static void end(struct run *r)
{
    undo_rig_end(&r->rig);
    free(r->before);
}

/* As the core repairs; what fails on the way leaves a journal as well. */
static bool repair(const struct image *image, struct undo_rig *undo)
{
    struct rig rig = { .driver = image->driver, .check_only = true };
    struct pl_check_result result;
    bool mended = false;

    undo_rig_begin(undo);
    rig.st = undo->view;
    if (rig_open(&rig, NULL) == 0) {
        mended = rig_check(&rig, PL_REPAIR_ALL, &result, NULL) == 0 && !result.corruptions;
        if (rig_finish(&rig, NULL) < 0)
            mended = false;
    }
    OK(undo_rig_finish(undo, NULL, &e));
    return mended;
}

/* A second repair finds nothing. */
static void is_sound(const struct image *image, struct undo_rig *undo)
{
    struct rig rig = {
        .driver = image->driver, .st = undo->file, .read_only = true, .check_only = true
    };
    struct pl_check_result result;

    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    rig_close(&rig);
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, 0);
}

static struct pl_storage *left_of(struct pl_storage *flaky, uint64_t op, uint64_t seed)
{
    PL_FREE uint8_t *bytes = NULL;
    struct pl_storage *left;
    size_t len;

    pl_flaky_cut(flaky, op, seed, &bytes, &len);
    OK(pl_memory_storage(bytes, len, LIMIT, &left, &e));
    return left;
}

static void is_as_before(const struct run *r, struct undo_rig *rig, uint64_t op)
{
    size_t len;
    PL_FREE uint8_t *bytes = undo_rig_bytes(rig->file, &len);

    if (len != r->before_len || memcmp(bytes, r->before, len) != 0)
        fail_msg("crash after operation %llu: it is not as it was", (unsigned long long)op);
}

static void crash_everywhere(const struct run *r)
{
    const uint64_t count = pl_flaky_operation_count(r->rig.file);

    for (uint64_t op = 0; op <= count; op += 1 + count / INSTANTS)
        for (uint64_t i = 0; i < CUTS; i++) {
            const uint64_t seed = i < 2 ? i : op * CUTS + i;
            struct pl_undo_facts facts;
            struct undo_rig left;

            undo_rig_init(&left, left_of(r->rig.file, op, seed), NULL,
                          left_of(r->rig.journal, op, seed + 1));
            OK(undo_rig_back(&left, false, &facts, &e));
            is_as_before(r, &left, op);
            undo_rig_end(&left);
        }
}

static void every_cut_of_a_repair_can_be_taken_back(void **state)
{
    const struct image *image = *state;
    const uint64_t first = test_number("CRASH_SEED", 1);
    unsigned mended = 0, changed = 0;

    for (uint64_t seed = first; seed < first + ROUNDS; seed++) {
        struct run r;

        begin(&r, image, seed);
        if (repair(image, &r.rig)) {
            mended++;
            is_sound(image, &r.rig);
        }
        changed += r.rig.exists;
        if (r.rig.exists)
            crash_everywhere(&r);
        else
            is_as_before(&r, &r.rig, 0);
        end(&r);
    }
    print_message("# %u of %u repairs changed something, %u made it sound\n", changed, ROUNDS,
                  mended);
    assert_true(changed > 1);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(images)];

    for (size_t i = 0; i < PL_COUNT(images); i++)
        tests[i] = (struct CMUnitTest){ .name = images[i].name,
                                        .test_func = every_cut_of_a_repair_can_be_taken_back,
                                        .initial_state = (void *)(uintptr_t)&images[i] };
    return cmocka_run_group_tests_name("crash: repairs are taken back", tests, NULL, NULL);
}
