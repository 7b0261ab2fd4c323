/* crash_left.c - see crash_left.h. */
#include "tests/support/crash_left.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"
#include "tests/support/flaky.h"

#define FILE_LIMIT (64 * PL_MIB)

/* Ends the test with what is wrong after a crash. */
#define WRONG(op, seed, fmt, ...)                                                                  \
    fail_msg("crash after operation %llu (seed %llu): " fmt, (unsigned long long)(op),             \
             (unsigned long long)(seed), __VA_ARGS__)

size_t crash_file_limit(const struct crash_format *format)
{
    return format->file_limit ? format->file_limit : FILE_LIMIT;
}

static void count_warning(void *ctx, const char *message)
{
    (void)message;
    ++*(unsigned *)ctx;
}

static void check_tables(const struct crash_run *r, struct rig *rig, uint64_t op, uint64_t seed,
                         bool leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    if (result.corruptions > r->format->corruptions || result.check_errors ||
        (leaks && result.leaks))
        WRONG(op, seed, "%llu corruptions, %llu leaks", (unsigned long long)result.corruptions,
              (unsigned long long)result.leaks);
}

static void check_sectors(struct crash_run *r, struct rig *rig, uint64_t op, uint64_t seed)
{
    const uint64_t size = rig->layer.size;
    struct pl_err e;

    if (!history_allows_value(r->history, SIZE_CELL(r), size / HISTORY_SECTOR, op))
        WRONG(op, seed, "a disk of %llu bytes", (unsigned long long)size);
    must(rig_read(rig, 0, r->base.buf, size, &e), &e);
    for (uint64_t i = 0; i < size / HISTORY_SECTOR; i++) {
        const uint8_t *bytes = r->base.buf + i * HISTORY_SECTOR;
        uint64_t value;

        if (history_allows(r->history, i, bytes, op) ||
            (r->format->excuses && r->format->excuses(rig, bytes)))
            continue;
        memcpy(&value, bytes, sizeof value);
        WRONG(op, seed, "sector %llu holds what is like value %llx", (unsigned long long)i,
              (unsigned long long)value);
    }
}

static void repair(struct crash_run *r, struct rig *rig, uint64_t op, uint64_t seed)
{
    struct pl_check_result result;
    struct pl_err e;

    must(rig_check(rig, r->format->repair, &result, &e), &e);
    assert_int_equal(result.corruptions, 0);
    check_tables(r, rig, op, seed, true);
}

static void write_on(struct rig *rig, uint64_t random)
{
    uint8_t bytes[1024];
    struct pl_err e;

    memset(bytes, 0x5a, sizeof bytes);
    for (unsigned i = 0; i < 20; i++) {
        const uint64_t most = rig->layer.size - sizeof bytes;

        must(rig_write(rig, pl_round_down(rig_below(&random, most), HISTORY_SECTOR), bytes,
                       sizeof bytes, &e),
             &e);
    }
    must(rig_flush(rig, &e), &e);
}

/* The image is still good to work with: write to it, take back what leaked. */
static void go_on(struct crash_run *r, struct rig *rig, uint64_t op, uint64_t seed)
{
    if (r->format->repairs_first) {
        repair(r, rig, op, seed);
        check_sectors(r, rig, op, seed);
    }
    write_on(rig, op ^ seed);
    check_tables(r, rig, op, seed, r->format->repairs_first);
    repair(r, rig, op, seed);
}

/* What a crash after operation `op` left of a storage, in memory. */
static struct pl_storage *left_of(const struct crash_run *r, struct pl_storage *flaky, uint64_t op,
                                  uint64_t seed)
{
    PL_FREE uint8_t *bytes = NULL;
    struct pl_storage *left;
    struct pl_err e;
    size_t len;

    pl_flaky_cut(flaky, op, seed, &bytes, &len);
    must(pl_memory_storage(bytes, len, crash_file_limit(r->format), &left, &e), &e);
    return left;
}

/* Of an external data file everything or nothing may be left, whatever is left of the image. */
static uint64_t data_seed(uint64_t seed)
{
    return seed % 5 == 3 ? seed / 5 % 2 : seed;
}

static void open_left(const struct crash_run *r, struct rig *rig, uint64_t op, uint64_t seed)
{
    const unsigned *warnings = rig->report->ctx;
    struct pl_err e;

    if (rig_open(rig, &e) < 0)
        WRONG(op, seed, "%s", e.msg);
    if (run_changes_parent(&r->base)) {
        const enum run_parent which = run_parent_of(&r->base, &rig->layer);

        if (!history_allows_value(r->history, PARENT_CELL(r), which, op))
            WRONG(op, seed, "parent %d", (int)which);
        run_use_parent(&r->base, rig, which);
    }
    if (*warnings && r->format->silent)
        WRONG(op, seed, "%u warnings", *warnings);
}

void crash_look_at(struct crash_run *r, uint64_t op, uint64_t seed)
{
    unsigned warnings = 0;
    const struct pl_report report = { .ctx = &warnings, .warn = count_warning };
    struct rig rig = { .driver = r->base.rig.driver,
                       .parent = r->base.rig.parent,
                       .parent_len = r->base.rig.parent_len,
                       .report = &report };

    rig.st = left_of(r, r->base.rig.st, op, seed);
    if (r->base.rig.data)
        rig.data = left_of(r, r->base.rig.data, op, data_seed(seed));
    if (r->format->read_only_too) {
        rig.read_only = true;
        open_left(r, &rig, op, seed);
        check_tables(r, &rig, op, seed, false);
        check_sectors(r, &rig, op, seed);
        memcpy(r->second, r->base.buf, rig.layer.size);
        rig_close(&rig);
        rig.read_only = false;
    }
    open_left(r, &rig, op, seed);
    check_tables(r, &rig, op, seed, false);
    check_sectors(r, &rig, op, seed);
    if (r->format->read_only_too && memcmp(r->second, r->base.buf, rig.layer.size) != 0)
        WRONG(op, seed, "%s", "opened for reading and for writing are two things");
    if (op % 5 == 0)
        go_on(r, &rig, op, seed);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    pl_storage_close(rig.data, NULL);
}
