/* Threads at one qcow2 image; see tests/support/threads.h. */
#include "core/base/checked.h"
#include "tests/support/threads.h"

static const struct thread_shape shapes[] = {
    { "clusters of 4 KiB", &pl_qcow2, "cluster_size=4k", .no_leaks = true },
    { "clusters of 512 bytes, a cache of 16 slices", &pl_qcow2, "cluster_size=512",
      .cache_bytes = 1, .no_leaks = true },
    { "extended L2 entries", &pl_qcow2, "cluster_size=16k,extended_l2=on", .no_leaks = true },
};

int main(void)
{
    return run_thread_shapes("qcow2 threads", shapes, PL_COUNT(shapes));
}
