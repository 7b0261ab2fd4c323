/* memory.h - storage in memory: tests, fuzzers, small staged files. */
#ifndef PL_CORE_STORAGE_MEMORY_H
#define PL_CORE_STORAGE_MEMORY_H

#include "core/storage/storage.h"

/* A writable storage that starts with a copy of `len` bytes (null: zeros) and grows up to `limit`
 * bytes, beyond which writes fail with PL_E_NO_SPACE. */
int pl_memory_storage(const void *bytes, size_t len, size_t limit, struct pl_storage **out,
                      struct pl_err *e) PL_CHECK;

#endif
