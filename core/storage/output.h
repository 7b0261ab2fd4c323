/* output.h - a new file that appears under its final name only when it is complete.
 *
 * A new or replaced regular file is written without a name (O_TMPFILE) or, where the file system
 * cannot do that, under a temporary one; finishing syncs it, gives it its name by rename and syncs
 * the folder.  Until then an older file of that name is untouched, and a process that is killed
 * leaves nothing that looks like an image.  Devices and pipes are written in place. */
#ifndef PL_CORE_STORAGE_OUTPUT_H
#define PL_CORE_STORAGE_OUTPUT_H

#include "core/storage/storage.h"

struct pl_output;

/* Begins the file `path`.  The mode of an older file, or 0666 less the umask, is used.  The storage
 * of a pipe or a device is the thing itself.  "-" is standard output, duplicated. */
int pl_output_begin(const char *path, struct pl_output **out, struct pl_err *e) PL_CHECK;

/* The same for the file that `older` is open on, under the name that it was opened by: its owner
 * and permissions are taken, and its lock, which must be a writer's, keeps others away.  It may be
 * closed before the output is.  PL_E_INVALID where the name is another file's by now. */
int pl_output_begin_over(struct pl_storage *older, struct pl_output **out, struct pl_err *e)
    PL_CHECK;

/* Begins a file that does not exist yet, with the owner and the permissions of `like`, which is
 * open on a regular file.  PL_E_EXISTS. */
int pl_output_begin_like(const char *path, struct pl_storage *like, struct pl_output **out,
                         struct pl_err *e) PL_CHECK;

/* The storage to write to; belongs to the output until pl_output_finish or _abandon. */
struct pl_storage *pl_output_storage(struct pl_output *output);

/* Finishing will leave it to the host when the file reaches stable storage: qemu-img's cache mode
 * "unsafe". */
void pl_output_leave_unsynced(struct pl_output *output);

/* Syncs, closes and names the file.  On failure nothing is left and an older file is as it was.
 * Frees the output either way.  The storage must not be in use. */
int pl_output_finish(struct pl_output *output, struct pl_err *e) PL_CHECK;

/* pl_storage_replace for a regular file that is open for writing and locked: makes a new file,
 * which gets the old one's name, owner and permissions, and then st's descriptor. */
int pl_output_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                      struct pl_err *e) PL_CHECK;

/* Removes what was written.  Null is fine. */
void pl_output_abandon(struct pl_output *output);

#endif
