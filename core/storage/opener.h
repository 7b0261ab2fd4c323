/* opener.h - the only code in the library that opens a path.
 *
 * What the user names is opened as it is.  What an *image* names (parent, data file, extent file)
 * is opened under one policy: the name is a plain path without a protocol prefix ("json:", "nbd:",
 * "file:" ...), it leads, links followed, to a regular file inside the folder of the image that
 * names it or inside one of the allowed folders ("/": anywhere), and never to a device, but for
 * block devices when /dev or a folder in it is allowed by name.  An error names the flag
 * (--allow-dir) that would permit it.
 *
 * Locks: every file is locked the way QEMU locks images (OFD locks on bytes 100.. and 200..), so
 * that a running virtual machine is respected and respects us: readers exclude writers, writers
 * everybody; force_share takes no lock and checks none. */
#ifndef PL_CORE_STORAGE_OPENER_H
#define PL_CORE_STORAGE_OPENER_H

#include "core/storage/storage.h"

struct pl_opener {
    const char *const *allowed; /* folders besides the image's own; null-terminated, or null */
    bool force_share;           /* qemu-img's -U: neither take nor respect locks; read-only opens */
};

enum pl_access { PL_READ, PL_READ_WRITE };

/* Opens a path that the user named.  "-" is not special here.  PL_E_NOT_FOUND, PL_E_LOCKED (names
 * the holder's process where the kernel tells it), PL_E_SYS. */
int pl_open_path(const struct pl_opener *opener, const char *path, enum pl_access access,
                 struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* Opens a file that the image in `by` names, under the policy above.  Relative names are relative
 * to the folder of by's path.  PL_E_POLICY; else as pl_open_path. */
int pl_open_named(const struct pl_opener *opener, struct pl_storage *by, const char *name,
                  enum pl_access access, struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* Makes a new file in the folder of by's path, with by's permissions, locked for writing; its name
 * is on stable storage.  `name` is plain, without a folder (PL_E_POLICY).  PL_E_EXISTS where there
 * is anything of that name; PL_E_SYS, PL_E_NOMEM. */
int pl_create_named(struct pl_storage *by, const char *name, struct pl_storage **out,
                    struct pl_err *e) PL_CHECK;

/* Takes the name away from such a file, unless it is another file's by now.  st stays open. */
void pl_remove_named(struct pl_storage *by, const char *name, struct pl_storage *st);

/* The same for a path that the user named, or that was made of one: a new file there with the
 * permissions of `like`. */
int pl_create_path(struct pl_storage *like, const char *path, struct pl_storage **out,
                   struct pl_err *e) PL_CHECK;

/* pl_remove_named for a file of pl_create_path or pl_open_path; the folder is synced. */
void pl_remove_path(const char *path, struct pl_storage *st);

/* Raises a read lock to a write lock or the reverse.  Only the lock changes: st must have been
 * opened by PL_READ_WRITE, without force_share.  PL_E_LOCKED: the read lock is kept;
 * PL_E_INVALID: st is read-only. */
int pl_storage_relock(struct pl_storage *st, enum pl_access access, struct pl_err *e) PL_CHECK;

#endif
