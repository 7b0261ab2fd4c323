/* folder.h - the names of the files in a folder. */
#ifndef PL_CORE_STORAGE_FOLDER_H
#define PL_CORE_STORAGE_FOLDER_H

#include "core/storage/storage.h"

/* The folder part of a path ("." without one), which the caller frees; null without memory. */
char *pl_folder_of(const char *path);

/* No more names than that are given: who keeps more files in one folder names the right one. */
#define PL_FOLDER_NAMES_MAX 1024

/* The names in the folder `path`, hidden ones left out, sorted by their bytes.  Free them by
 * pl_names_free.  PL_E_LIMIT when there are too many; PL_E_NOMEM, PL_E_NOT_FOUND, PL_E_SYS. */
int pl_names_in(const char *path, char ***names, size_t *count, struct pl_err *e) PL_CHECK;

/* The same with another limit. */
int pl_names_up_to(const char *path, size_t max, char ***names, size_t *count, struct pl_err *e)
    PL_CHECK;

/* As pl_names_in for the folder of st's path, st's own name among them; none for a storage without
 * a path. */
int pl_names_beside(const struct pl_storage *st, char ***names, size_t *count, struct pl_err *e)
    PL_CHECK;

/* How an image says the file `name` beside it: "./a:1.vmdk", for "a:" alone would be taken for a
 * protocol.  The caller's to free; null without memory. */
char *pl_name_to_say(const char *name);

/* Frees what these gave. */
void pl_names_free(char **names, size_t count);

#endif
