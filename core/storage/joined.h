/* joined.h - several storages behind each other as one: the chunks of a file that was cut. */
#ifndef PL_CORE_STORAGE_JOINED_H
#define PL_CORE_STORAGE_JOINED_H

#include "core/storage/storage.h"

/* The bytes of all `count` (>= 1) parts in order, read-only, of fixed size, called `name` in
 * messages.  The parts belong to it from now on (closed even on failure); the array does not.
 * PL_E_LIMIT when they are longer than PL_OFFSET_MAX together. */
int pl_joined_storage(struct pl_storage *const *parts, size_t count, const char *name,
                      struct pl_storage **out, struct pl_err *e) PL_CHECK;

#endif
