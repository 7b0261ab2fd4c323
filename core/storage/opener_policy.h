/* opener_policy.h - where a file that an image names may be.
 *
 * The name is made absolute on paper and compared with the folders that are allowed: the image's
 * own and those of --allow-dir.  A name outside all of them is refused without a look at the
 * disk.  Inside one, the kernel finds the file (openat2, RESOLVE_BENEATH): no link and no ".."
 * leads out, whatever somebody changes meanwhile.  Where a link does lead out, or is absolute,
 * the path that it stands for gets the same treatment once.  Nothing is opened before it is
 * known to be a regular file. */
#ifndef PL_CORE_STORAGE_OPENER_POLICY_H
#define PL_CORE_STORAGE_OPENER_POLICY_H

#include "core/storage/opener.h"

/* PL_E_POLICY unless it is a plain path: a name with a prefix such as "json:" or "nbd:" asks for
 * something that is no file. */
int pl_policy_check_name(const struct pl_storage *by, const char *name, struct pl_err *e) PL_CHECK;

/* Opens the file that `by` names; *fd is then the caller's.  A block device is opened only when
 * one of the allowed folders is /dev or inside it.  PL_E_POLICY; errors of open. */
int pl_policy_open(const struct pl_opener *opener, const struct pl_storage *by, const char *name,
                   enum pl_access access, int *fd, struct pl_err *e) PL_CHECK;

#endif
