/* Threads at one VHDX image; see tests/support/threads.h. */
#include "core/base/checked.h"
#include "tests/support/threads.h"

static const struct thread_shape shapes[] = {
    { "blocks of 1 MiB", &pl_vhdx, "block_size=1M", .size = 12 * PL_MIB, .steps = 120 },
    { "blocks of 1 MiB, the smallest cache", &pl_vhdx, "block_size=1M", .size = 12 * PL_MIB,
      .steps = 120, .cache_bytes = 1 },
};

int main(void)
{
    return run_thread_shapes("VHDX threads", shapes, PL_COUNT(shapes));
}
