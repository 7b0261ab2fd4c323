/* package.h - files that hold disk images and are none: which one it is, and the disk in it. */
#ifndef PL_CORE_GRAPH_PACKAGE_H
#define PL_CORE_GRAPH_PACKAGE_H

#include "core/graph/image.h"
#include "core/package.h"
#include "core/storage/opener.h"

/* A package that is open. */
struct pl_package {
    const struct pl_package_driver *driver;
    void *state;
    struct pl_storage *file;        /* owned unless borrowed */
    struct pl_storage *authorities; /* owned; null: none */
    bool borrowed;
    struct pl_opener opener; /* for the files that it names */
};

/* The kind of that name, null: there is none. */
const struct pl_package_driver *pl_package_kind(const char *name);

/* The kind that claims the file, null: none. */
int pl_package_probe(struct pl_storage *file, const struct pl_package_driver **kind,
                     struct pl_err *e) PL_CHECK;

/* Opens the file as a package, which owns it unless `borrowed`; on failure the file is the
 * caller's.  Of the options only allowed_dirs, force_share, authorities and report count. */
int pl_package_open(struct pl_storage *file, bool borrowed, const struct pl_package_driver *kind,
                    const struct pl_open_options *options, struct pl_package **out,
                    struct pl_err *e) PL_CHECK;

/* Closes and frees.  Null is fine. */
void pl_package_close(struct pl_package *package);

/* The disk that `wanted` means: its number from 1, its id, the name of its file; null: the only
 * one.  PL_E_NOT_FOUND lists those there are. */
int pl_package_find_disk(struct pl_package *package, const char *wanted, size_t *disk,
                         struct pl_err *e) PL_CHECK;

#endif
