/* alias.h - a second handle on a storage that somebody else closes. */
#ifndef PL_CORE_STORAGE_ALIAS_H
#define PL_CORE_STORAGE_ALIAS_H

#include "core/storage/storage.h"

/* Everything goes to `target`, which must outlive the alias; closing the alias leaves it open. */
int pl_alias_storage(struct pl_storage *target, struct pl_storage **out, struct pl_err *e) PL_CHECK;

#endif
