/* Logs that our own writing leaves behind when it is cut off: qemu-img replays them to the content
 * that we read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/rig.h"
#include "tests/unit/formats/vhdx/edit.h"

#define SIZE (4 * PL_MIB)

static void compare(struct pl_storage *work, uint64_t op, uint64_t seed)
{
    PL_FREE char *image = test_tmp("cut.vhdx");
    PL_FREE char *model = test_tmp("model.raw");
    PL_FREE char *raw = test_tmp("cut.raw");
    PL_FREE uint8_t *content = malloc(SIZE);
    PL_FREE uint8_t *bytes = NULL;
    struct rig rig = { .driver = &pl_vhdx, .read_only = true };
    FILE *file = fopen(model, "wb");
    size_t len;

    pl_flaky_cut(work, op, seed, &bytes, &len);
    OK(pl_memory_storage(bytes, len, len, &rig.st, &e));
    OK(rig_open(&rig, &e));
    OK(rig_read(&rig, 0, content, SIZE, &e));
    rig_close(&rig);
    OK(rig_dump(rig.st, image, &e));
    pl_storage_close(rig.st, NULL);
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, SIZE, file), SIZE);
    assert_int_equal(fclose(file), 0);
    run_quietly("qemu-img check -r all -f vhdx %s", image);
    if (run_quietly("qemu-img convert -f vhdx -O raw %s %s", image, raw) != 0)
        fail_msg("cut after operation %llu: qemu-img cannot read it", (unsigned long long)op);
    if (run_quietly("cmp %s %s", raw, model) != 0)
        fail_msg("cut after operation %llu: qemu-img reads something else", (unsigned long long)op);
}

/* An image whose last entries of the log were written and not yet put in their place. */
static struct pl_storage *work_on_an_image(void)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    const size_t len = pl_storage_size(rig.st);
    PL_FREE uint8_t *bytes = malloc(len);
    uint64_t random = 5;

    OK(pl_storage_read(rig.st, 0, bytes, len, &e));
    pl_storage_close(rig.st, NULL);
    OK(pl_flaky_storage(bytes, len, 64 * PL_MIB, &rig.st, &e));
    OK(rig_open(&rig, &e));
    for (unsigned i = 0; i < 6; i++) {
        uint8_t sectors[4096];

        memset(sectors, (int)i + 1, sizeof sectors);
        OK(rig_write(&rig, pl_round_down(rig_random(&random) % SIZE, 4096), sectors, sizeof sectors,
                     &e));
        OK(pl_vhdx.flush(rig.layer.state, &e));
    }
    OK(rig_finish(&rig, &e));
    return rig.st;
}

static void qemu_replays_what_we_wrote(void **state)
{
    struct pl_storage *work;

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img to compare with");
    work = work_on_an_image();
    for (uint64_t op = 0; op <= pl_flaky_operation_count(work); op++)
        compare(work, op, op % 2); /* all of it, or nothing since the last sync */
    pl_storage_close(work, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qemu_replays_what_we_wrote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
