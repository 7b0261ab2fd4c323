/* Threads at one VDI image; see tests/support/threads.h. */
#include "core/base/checked.h"
#include "tests/support/threads.h"

#define PARENT_ID "uuid:00112233-4455-6677-8899-aabbccddeeff"

static const struct thread_shape shapes[] = {
    { "blocks of 4 KiB", &pl_vdi, "block_size=4k", .write_len = 512 },
    { "blocks of 512 bytes over a parent, a cache of 4 slices", &pl_vdi, "block_size=512",
      .cache_bytes = 1, .parent_identity = PARENT_ID },
    { "static", &pl_vdi, "block_size=4k,static=on", .cache_bytes = 1, .write_len = 512 },
};

int main(void)
{
    return run_thread_shapes("VDI threads", shapes, PL_COUNT(shapes));
}
