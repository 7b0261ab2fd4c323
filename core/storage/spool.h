/* spool.h - what only comes in order as something that can be read at any offset. */
#ifndef PL_CORE_STORAGE_SPOOL_H
#define PL_CORE_STORAGE_SPOOL_H

#include "core/storage/storage.h"

/* Standard input: a file or block device there is used as it is; a pipe is first copied, zeros left
 * out, into a file without a name in $TMPDIR or /var/tmp, which goes when the storage is closed. */
int pl_spool_stdin(struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* An empty writable file without a name, which goes when the storage is closed; `name` stands for
 * it in messages. */
int pl_spool_file(const char *name, struct pl_storage **out, struct pl_err *e) PL_CHECK;

#endif
