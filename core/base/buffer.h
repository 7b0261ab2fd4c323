/* buffer.h - page-aligned buffers for image data. */
#ifndef PL_CORE_BASE_BUFFER_H
#define PL_CORE_BASE_BUFFER_H

#include <stdlib.h>

/* Memory aligned to 4096 bytes, released by free; null when there is none. */
static inline void *pl_buffer(size_t len)
{
    void *p;

    return posix_memalign(&p, 4096, len ? len : 1) ? NULL : p;
}

#endif
