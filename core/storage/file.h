/* file.h - storage in a host file, a block device or a pipe, made from an open descriptor.
 * Paths are opened by opener.h and nobody else. */
#ifndef PL_CORE_STORAGE_FILE_H
#define PL_CORE_STORAGE_FILE_H

#include "core/storage/storage.h"

/* Wraps fd, which belongs to the storage from now on (closed even on failure).  Regular files,
 * block devices, and pipes, sockets or terminals (sequential; size UINT64_MAX when read).  Others
 * are refused.  `path` (copied; may be null) is the name in messages. */
int pl_file_storage(int fd, const char *path, bool writable, struct pl_storage **out,
                    struct pl_err *e) PL_CHECK;

/* When the content of a regular file was last changed, in ns since 1970.  False: not known. */
bool pl_file_changed_at(struct pl_storage *st, uint64_t *ns);

/* The descriptor of a file storage, -1 for another kind: for locks and for opener.c. */
int pl_file_descriptor(struct pl_storage *st);

#endif
