/* Threads at one sparse extent; see tests/support/threads.h. */
#include "core/base/checked.h"
#include "tests/support/extent_driver.h"
#include "tests/support/threads.h"

static const struct thread_shape shapes[] = {
    { "hosted", &extent_driver, "grain_size=4k", .cache_bytes = 0 },
    { "hosted, a cache of 16 sectors", &extent_driver, "grain_size=4k", .cache_bytes = 1 },
    { "COWD, a cache of 16 sectors", &extent_driver, "grain_size=512,cowd=on", .cache_bytes = 1 },
};

int main(void)
{
    return run_thread_shapes("sparse extent threads", shapes, PL_COUNT(shapes));
}
