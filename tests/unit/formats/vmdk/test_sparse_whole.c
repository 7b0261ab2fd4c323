/* Creating, growing and compacting extents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/rig.h"
#include "tests/unit/formats/vmdk/extents.h"

static void done_with(struct rig *rig)
{
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
}

/* ---- creating ---- */

static void a_new_extent_is_laid_out_like_vmwares(void **state)
{
    struct pl_storage *st = new_extent((struct vmdk_sparse_new){
        .size = 10 * PL_MIB, .grain_size = 65536, .descriptor = "# Disk DescriptorFile\n" });

    (void)state;
    assert_int_equal(peek_le(st, 48, 8), 0x15);
    assert_int_equal(peek_le(st, 56, 8), 0x1a);
    assert_int_equal(peek_le(st, 64, 8), 128);
    assert_int_equal(peek_le(st, 0x15 * 512, 4), 0x16);
    assert_int_equal(peek_le(st, 0x1a * 512, 4), 0x1b);
    assert_int_equal(pl_storage_size(st), 65536);
    pl_storage_close(st, NULL);
}

static const struct refusal {
    const char *name;
    struct vmdk_sparse_new what;
    enum pl_kind kind;
    const char *text;
} refusals[] = {
    { "half a sector", { .size = 256, .grain_size = GRAIN }, PL_E_INVALID, "multiple of 512" },
    { "grains of 2 KiB", { .size = 512, .grain_size = 2048 }, PL_E_INVALID, "2048" },
    { "grains of 5000 bytes", { .size = 512, .grain_size = 5000 }, PL_E_INVALID, "5000" },
    { "grains of 16 MiB", { .size = 512, .grain_size = 16 * PL_MIB }, PL_E_INVALID, "16777216" },
    { "a COWD extent of 2 TiB",
      { .size = 2 * PL_TIB, .grain_size = 512, .cowd = true },
      PL_E_LIMIT,
      "2 TiB" },
    { "a disk of 2^62 bytes", { .size = UINT64_C(1) << 62, .grain_size = GRAIN }, PL_E_LIMIT, "" },
    { "a disk of 2^63 bytes", { .size = UINT64_C(1) << 63, .grain_size = 65536 }, PL_E_LIMIT, "" },
};

static void a_new_extent_is_refused(void **state)
{
    const struct refusal *r = *state;
    struct pl_storage *st = memory();

    FAILS(r->kind, r->text, vmdk_sparse_create(st, &r->what, &e));
    assert_int_equal(pl_storage_size(st), 0);
    pl_storage_close(st, NULL);
}

static void qemu_reads_what_was_written(void **state)
{
    static const char descriptor[] = "# Disk DescriptorFile\nversion=1\nCID=12345678\n"
                                     "parentCID=ffffffff\ncreateType=\"monolithicSparse\"\n"
                                     "RW 12291 SPARSE \"written.vmdk\"\n";
    struct rig rig = { .driver = &extent_driver,
                       .st = new_extent((struct vmdk_sparse_new){ .size = 12291 * 512,
                                                                  .grain_size = 65536,
                                                                  .zeroed_grain = true,
                                                                  .descriptor = descriptor }) };
    char *path = test_tmp("written.vmdk"), *raw = test_tmp("read.raw");
    struct rig copy = { .driver = &extent_driver };
    uint8_t *want = malloc(12291 * 512), *got = malloc(12291 * 512);

    (void)state;
    OK(rig_open(&rig, &e));
    for (uint64_t n = 0; n < 30; n++)
        write_noise(&rig, n * 7919 * 31 % (12291 * 512 - 70000), 70000, n);
    write_noise(&rig, 12290 * 512, 512, 99);
    OK(extent_driver.discard(rig.layer.state, 3 * 65536, 5 * 65536, &e));
    flush_extent(&rig);
    OK(rig_read(&rig, 0, want, rig.layer.size, &e));
    OK(rig_dump(rig.st, path, &e));
    done_with(&rig);
    if (!has_program("qemu-img")) {
        free(path), free(raw), free(want), free(got);
        TEST_SKIP("no qemu-img");
    }
    assert_int_equal(run_quietly("qemu-img check -f vmdk %s", path), 0);
    assert_int_equal(run_quietly("qemu-img convert -f vmdk -O raw %s %s", path, raw), 0);
    OK(rig_load(raw, MEMORY_LIMIT, &copy.st, &e));
    OK(pl_storage_read(copy.st, 0, got, 12291 * 512, &e));
    assert_memory_equal(want, got, 12291 * 512);
    pl_storage_close(copy.st, NULL);
    free(path), free(raw), free(want), free(got);
}

/* ---- growing ---- */

static void grow(struct rig *rig, uint64_t size, enum pl_prealloc prealloc)
{
    OK(extent_resize(rig, size, prealloc, &e));
    rig->layer.size = size; /* as vmdk.c does */
}

static void growing_keeps_what_there_is(void **state)
{
    (void)state;
    for (unsigned cowd = 0; cowd < 2; cowd++) {
        struct rig rig = { .driver = &extent_driver,
                           .st = cowd ? new_cowd(SPAN - 512, GRAIN) : new_hosted(SPAN - 512) };

        OK(rig_open(&rig, &e));
        write_noise(&rig, 0, 3 * GRAIN, 1);
        write_noise(&rig, SPAN - 1024, 512, 2);
        for (uint64_t size = SPAN; size <= 40 * SPAN; size += 13 * SPAN) {
            grow(&rig, size, PL_PREALLOC_OFF);
            reopen(&rig);
            assert_int_equal(rig.layer.size, size);
            has_noise(&rig, 0, 3 * GRAIN, 1);
            has_noise(&rig, SPAN - 1024, 512, 2);
            has_zeros(&rig, SPAN - 512, size - SPAN + 512);
            is_sound(&rig);
        }
        write_noise(&rig, 38 * SPAN, GRAIN, 3);
        reopen(&rig);
        has_noise(&rig, 38 * SPAN, GRAIN, 3);
        is_sound(&rig);
        FAILS(PL_E_UNSUPPORTED, "smaller", extent_resize(&rig, SPAN, PL_PREALLOC_OFF, &e));
        FAILS(PL_E_INVALID, "multiple of 512",
              extent_resize(&rig, 41 * SPAN + 1, PL_PREALLOC_OFF, &e));
        FAILS(PL_E_LIMIT, "", extent_resize(&rig, UINT64_C(1) << 63, PL_PREALLOC_OFF, &e));
        done_with(&rig);
    }
}

static void room_is_made_ahead(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(GRAIN + 512) };
    struct pl_extent x;

    (void)state;
    OK(rig_open(&rig, &e));
    grow(&rig, 2 * SPAN, PL_PREALLOC_FULL);
    reopen(&rig);
    OK(extent_driver.map(rig.layer.state, 2 * GRAIN, SPAN, &x, &e));
    assert_int_equal(x.state, PL_DATA);
    assert_int_equal(x.len, SPAN - 2 * GRAIN);
    has_zeros(&rig, 0, 2 * SPAN);
    is_sound(&rig);
    done_with(&rig);
}

static void junk_behind_the_old_end_does_not_appear(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(4 * GRAIN + 512) };

    (void)state;
    OK(rig_open(&rig, &e));
    write_noise(&rig, 0, 4 * GRAIN + 512, 1);
    flush_extent(&rig);
    /* Bytes behind the end of the last grain, and an entry for a grain that is not of the disk. */
    poke_le(rig.st, DATA + 4 * GRAIN + 512, 8, 77);
    rig_close(&rig);
    poke_le(rig.st, GT + 20, 4, DATA / 512);
    poke_le(rig.st, RGT + 28, 4, DATA / 512);
    OK(rig_open(&rig, &e));
    grow(&rig, 8 * GRAIN, PL_PREALLOC_OFF);
    has_noise(&rig, 0, 4 * GRAIN + 512, 1);
    has_zeros(&rig, 4 * GRAIN + 512, 4 * GRAIN - 512);
    write_noise(&rig, 5 * GRAIN, GRAIN, 2);
    reopen(&rig);
    has_noise(&rig, 0, 4 * GRAIN + 512, 1);
    has_noise(&rig, 5 * GRAIN, GRAIN, 2);
    is_sound(&rig);
    done_with(&rig);
}

/* Grains of one sector and tables of 128 entries: a directory of 128 entries fills its sector with
 * a disk of 8 MiB. */
#define TINY_SPAN (128 * 512)
#define TINY_SIZE (128 * (uint64_t)TINY_SPAN)

static struct pl_storage *tiny(void)
{
    struct pl_storage *st = new_hosted(512);

    poke_le(st, 12, 8, TINY_SIZE / 512);
    poke_le(st, 20, 8, 1);
    poke_le(st, 44, 4, 128);
    poke_le(st, 48, 8, 1);
    poke_le(st, 56, 8, 2);
    poke_le(st, 64, 8, 3 + 256);
    for (unsigned i = 0; i < 128; i++) {
        poke_le(st, 512 + 4 * i, 4, 3 + i);
        poke_le(st, 1024 + 4 * i, 4, 3 + 128 + i);
    }
    OK(pl_storage_zero(st, 3 * 512, 256 * 512, &e));
    return st;
}

/* The disk has its old content and size, or the new size with zeros behind. */
static void is_old_or_new(uint8_t *bytes, size_t len)
{
    struct rig rig = { .driver = &extent_driver };
    struct pl_check_result r;

    OK(pl_memory_storage(bytes, len, MEMORY_LIMIT, &rig.st, &e));
    OK(rig_open(&rig, &e));
    assert_true(rig.layer.size == TINY_SIZE || rig.layer.size == TINY_SIZE + 3 * TINY_SPAN);
    has_noise(&rig, 5 * TINY_SPAN, 2 * TINY_SPAN, 1);
    has_zeros(&rig, TINY_SIZE - TINY_SPAN, rig.layer.size - TINY_SIZE + TINY_SPAN);
    r = checked(&rig, PL_REPAIR_NONE);
    assert_int_equal(r.corruptions + r.check_errors, 0);
    done_with(&rig);
}

static void directories_move_unharmed_by_a_crash(void **state)
{
    struct pl_storage *made = tiny();
    struct rig rig = { .driver = &extent_driver, .st = made };
    uint64_t first, count;
    uint8_t *bytes;
    size_t len;

    (void)state;
    OK(rig_open(&rig, &e));
    write_noise(&rig, 5 * TINY_SPAN, 2 * TINY_SPAN, 1);
    flush_extent(&rig);
    rig_close(&rig);
    len = pl_storage_size(made);
    bytes = malloc(len);
    OK(pl_storage_read(made, 0, bytes, len, &e));
    OK(pl_flaky_storage(bytes, len, MEMORY_LIMIT, &rig.st, &e));
    free(bytes);
    OK(rig_open(&rig, &e));
    first = pl_flaky_operation_count(rig.st);
    grow(&rig, TINY_SIZE + 3 * TINY_SPAN, PL_PREALLOC_OFF);
    write_noise(&rig, TINY_SIZE + 2 * TINY_SPAN, TINY_SPAN, 2);
    has_noise(&rig, TINY_SIZE + 2 * TINY_SPAN, TINY_SPAN, 2);
    count = pl_flaky_operation_count(rig.st);
    for (uint64_t op = first; op <= count; op++)
        for (uint64_t seed = 0; seed < 6; seed++) {
            pl_flaky_cut(rig.st, op, seed < 2 ? seed : op * 7 + seed, &bytes, &len);
            is_old_or_new(bytes, len);
            free(bytes);
        }
    reopen(&rig);
    assert_int_equal(rig.layer.size, TINY_SIZE + 3 * TINY_SPAN);
    has_noise(&rig, TINY_SIZE + 2 * TINY_SPAN, TINY_SPAN, 2);
    done_with(&rig);
    pl_storage_close(made, NULL);
}

/* ---- compacting ---- */

static void compacting_cuts_what_was_freed(void **state)
{
    (void)state;
    for (unsigned cowd = 0; cowd < 2; cowd++) {
        struct rig rig = { .driver = &extent_driver,
                           .st = cowd ? new_cowd(SPAN, GRAIN) : new_hosted(SPAN) };
        uint64_t freed, before, used = 0;

        OK(rig_open(&rig, &e));
        write_noise(&rig, 0, 100 * GRAIN, 1);
        for (uint64_t n = 0; n < 99; n += 3) {
            OK(extent_driver.discard(rig.layer.state, n * GRAIN, 2 * GRAIN, &e));
            used = n + 3;
        }
        reopen(&rig);
        before = pl_storage_size(rig.st);
        OK(extent_driver.compact(rig.layer.state, NULL, &freed, &e));
        assert_int_equal(freed, before - pl_storage_size(rig.st));
        assert_int_equal(freed, 66 * GRAIN);
        for (uint64_t n = 2; n < used; n += 3) {
            uint8_t *want = malloc(100 * GRAIN), got[GRAIN];

            noise(want, 100 * GRAIN, 1);
            OK(rig_read(&rig, n * GRAIN, got, GRAIN, &e));
            assert_memory_equal(want + n * GRAIN, got, GRAIN);
            free(want);
        }
        is_sound(&rig);
        OK(extent_driver.compact(rig.layer.state, NULL, &freed, &e));
        assert_int_equal(freed, 0);
        write_noise(&rig, 200 * GRAIN, 2 * GRAIN, 2);
        reopen(&rig);
        has_noise(&rig, 200 * GRAIN, 2 * GRAIN, 2);
        is_sound(&rig);
        done_with(&rig);
    }
}

static void an_unsound_extent_is_not_compacted(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(SPAN) };
    uint64_t freed;

    (void)state;
    poke_le(rig.st, GT, 4, 0x7fffffff);
    OK(rig_open(&rig, &e));
    FAILS(PL_E_CORRUPT, "not moved", extent_driver.compact(rig.layer.state, NULL, &freed, &e));
    done_with(&rig);
}

int main(void)
{
    const struct CMUnitTest plain[] = {
        cmocka_unit_test(a_new_extent_is_laid_out_like_vmwares),
        cmocka_unit_test(qemu_reads_what_was_written),
        cmocka_unit_test(growing_keeps_what_there_is),
        cmocka_unit_test(room_is_made_ahead),
        cmocka_unit_test(junk_behind_the_old_end_does_not_appear),
        cmocka_unit_test(directories_move_unharmed_by_a_crash),
        cmocka_unit_test(compacting_cuts_what_was_freed),
        cmocka_unit_test(an_unsound_extent_is_not_compacted),
    };
    struct CMUnitTest tests[PL_COUNT(plain) + PL_COUNT(refusals)];
    size_t n = PL_COUNT(plain);

    memcpy(tests, plain, sizeof plain);
    for (size_t i = 0; i < PL_COUNT(refusals); i++)
        tests[n++] = (struct CMUnitTest){ .name = refusals[i].name,
                                          .test_func = a_new_extent_is_refused,
                                          .initial_state = (void *)&refusals[i] };
    return _cmocka_run_group_tests("test_sparse_whole", tests, n, NULL, NULL);
}
