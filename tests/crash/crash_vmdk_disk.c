/* A crash at any instant of random work on a VMDK disk of flat extents.
 *
 * Descriptor and extents lie in one storage, so that their changes have one order.  In every file
 * that a crash can leave each sector holds what the last flush promised or something newer.  And
 * where a file has the CID with which the disk was once closed, it has exactly the content of that
 * moment: a child that was made then must not find anything else under the same CID.
 *
 * CRASH_SEED in the environment chooses another run. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/window.h"
#include "tests/support/flaky.h"
#include "tests/support/history.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define TEXT_ROOM 2048u
#define SECTORS_A 24u
#define SECTORS_B 17u
#define SECTORS (SECTORS_A + SECTORS_B)
#define FILE_BYTES (TEXT_ROOM + SECTORS * 512)
#define SESSIONS 6u
#define STEPS 14u
#define CUTS 8u

static const char text[] = "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n"
                           "createType=\"twoGbMaxExtentFlat\"\nRW 24 FLAT \"a\" 0\n"
                           "RW 17 FLAT \"b\" 0\n"
                           "ddb.longContentID = \"c30e9133f6a8e34df61188c50a1b2c3d\"\n";

/* The disk as it was when it was closed. */
struct closed {
    uint64_t op, cid;
    uint64_t value[SECTORS];
};

struct run {
    struct pl_storage *flaky;
    struct vmdk_rig rig;
    struct history *history;
    struct closed closed[SESSIONS + 1];
    unsigned closed_count;
    uint64_t random, next_value;
    bool failing; /* failures were asked for */
};

static uint64_t below(struct run *r, uint64_t n)
{
    r->random = r->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (r->random >> 33) % n;
}

static uint64_t now(const struct run *r)
{
    return pl_flaky_operation_count(r->flaky);
}

static void add_windows(struct vmdk_rig *rig, struct pl_storage *under)
{
    static const struct {
        const char *name;
        uint64_t at, len;
    } files[] = { { "disk.vmdk", 0, TEXT_ROOM },
                  { "a", TEXT_ROOM, SECTORS_A * 512 },
                  { "b", TEXT_ROOM + SECTORS_A * 512, SECTORS_B * 512 } };

    *rig = (struct vmdk_rig){ 0 };
    for (size_t i = 0; i < PL_COUNT(files); i++) {
        struct pl_storage *window;

        OK(pl_window_storage(under, files[i].at, files[i].len, &window, &e));
        vmdk_rig_put(rig, files[i].name, window);
    }
}

/* The CID in an open disk's identity. */
static uint64_t cid_of(const struct vmdk_rig *rig)
{
    return strtoull(rig->layer.identity + strlen("cid:"), NULL, 16);
}

static void open_disk(struct run *r)
{
    OK(vmdk_rig_open(&r->rig, (struct pl_open_args){ .writable = true }, &e));
}

/* Closes as the core does, and remembers what a child could be made of. */
static void close_disk(struct run *r)
{
    struct closed *closed = &r->closed[r->closed_count++];

    OK(pl_vmdk.flush(r->rig.layer.state, &e));
    history_flushed(r->history, history_mark(r->history), now(r));
    vmdk_rig_close(&r->rig);
    OK(vmdk_rig_open(&r->rig, (struct pl_open_args){ 0 }, &e));
    closed->op = now(r);
    closed->cid = cid_of(&r->rig);
    for (uint64_t i = 0; i < SECTORS; i++)
        closed->value[i] = history_now(r->history, i);
    vmdk_rig_close(&r->rig);
}

static int change(struct run *r, uint64_t at, uint64_t count, struct pl_err *e)
{
    uint8_t bytes[SECTORS * 512];
    const uint64_t kind = below(r, 5), value = kind < 3 ? ++r->next_value : 0;

    for (uint64_t i = 0; i < count; i++)
        history_fill(bytes + i * 512, at + i, value);
    history_set(r->history, at, count, value, now(r));
    if (kind < 3)
        return vmdk_rig_write(&r->rig, at * 512, bytes, count * 512, e);
    if (kind == 3)
        return pl_vmdk.zero(r->rig.layer.state, at * 512, count * 512, true, e);
    return pl_vmdk.discard(r->rig.layer.state, at * 512, count * 512, e);
}

/* False: it failed, as it was asked to. */
static bool step(struct run *r)
{
    const uint64_t at = below(r, SECTORS), mark = history_mark(r->history);
    struct pl_err e;
    int result;

    if (below(r, 4) == 0) {
        result = pl_vmdk.flush(r->rig.layer.state, &e);
        if (result == 0)
            history_flushed(r->history, mark, now(r));
    } else {
        result = change(r, at, 1 + below(r, SECTORS - at), &e);
    }
    if (result < 0 && !r->failing)
        fail_msg("%s", e.msg);
    return result == 0;
}

/* ---- what a crash left ---- */

static void check_children(const struct run *r, const uint8_t *disk, uint64_t cid, uint64_t op)
{
    for (unsigned k = 0; k < r->closed_count; k++)
        for (uint64_t i = 0; cid == r->closed[k].cid && r->closed[k].op <= op && i < SECTORS; i++)
            if (!history_holds(disk + i * 512, i, r->closed[k].value[i]))
                fail_msg("after change %llu sector %llu is another one under CID %08llx",
                         (unsigned long long)op, (unsigned long long)i, (unsigned long long)cid);
}

static void look_at(const struct run *r, const uint8_t *bytes, size_t len, uint64_t op)
{
    uint8_t disk[SECTORS * 512];
    struct pl_storage *st;
    struct vmdk_rig rig;

    OK(pl_memory_storage(bytes, len, len, &st, &e));
    add_windows(&rig, st);
    OK(vmdk_rig_open(&rig, (struct pl_open_args){ .writable = true }, &e));
    OK(vmdk_rig_read(&rig, 0, disk, sizeof disk, &e));
    for (uint64_t i = 0; i < SECTORS; i++)
        if (!history_allows(r->history, i, disk + i * 512, op))
            fail_msg("after change %llu sector %llu is neither old nor new", (unsigned long long)op,
                     (unsigned long long)i);
    check_children(r, disk, cid_of(&rig), op);
    vmdk_rig_end(&rig);
    pl_storage_close(st, NULL);
}

static void crash_everywhere(const struct run *r)
{
    for (uint64_t op = 0; op <= now(r); op++)
        for (uint64_t i = 0; i < CUTS; i++) {
            uint8_t *bytes;
            size_t len;

            pl_flaky_cut(r->flaky, op, i < 2 ? i : 2 + op * CUTS + i, &bytes, &len);
            look_at(r, bytes, len, op);
            free(bytes);
        }
}

static void begin(struct run *r, const char *cid)
{
    uint8_t bytes[FILE_BYTES] = { 0 };

    snprintf((char *)bytes, TEXT_ROOM, text, cid);
    OK(pl_flaky_storage(bytes, sizeof bytes, sizeof bytes, &r->flaky, &e));
    r->history = history_new(SECTORS);
    add_windows(&r->rig, r->flaky);
    open_disk(r);
    close_disk(r);
}

static void end(struct run *r)
{
    vmdk_rig_end(&r->rig);
    pl_storage_close(r->flaky, NULL);
    history_free(r->history);
}

static uint64_t first_seed(void)
{
    const char *seed = getenv("CRASH_SEED");

    return seed ? strtoull(seed, NULL, 0) : 1;
}

static void crashes(void **state)
{
    for (uint64_t seed = first_seed(), i = 0; i < 4; i++) {
        struct run r = { .random = seed + i };

        print_message("# CRASH_SEED=%llu\n", (unsigned long long)(seed + i));
        begin(&r, *state);
        for (unsigned session = 0; session + 1 < SESSIONS; session++) {
            open_disk(&r);
            for (unsigned n = below(&r, STEPS); n > 0; n--)
                assert_true(step(&r));
            close_disk(&r);
        }
        crash_everywhere(&r);
        end(&r);
    }
}

/* Raises the number of the change that fails until a run has no such change. */
static void failing_changes(void **state)
{
    bool failed = true;

    for (uint64_t at = 0; failed; at++) {
        struct run r = { .random = first_seed(), .failing = true };

        failed = false;
        begin(&r, *state);
        open_disk(&r);
        pl_flaky_fail_at(r.flaky, at, at % 2 ? EIO : ENOSPC, at % 3 == 0);
        for (unsigned n = 0; n < STEPS && !failed; n++)
            failed = !step(&r);
        vmdk_rig_close(&r.rig);
        crash_everywhere(&r);
        end(&r);
    }
}

int main(void)
{
    static char eight[] = "0a1b2c3d", seven[] = "a1b2c3d";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(crashes, eight),
        cmocka_unit_test_prestate(crashes, seven),
        cmocka_unit_test_prestate(failing_changes, eight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
