#include "core/storage/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/storage/place.h"

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void pl_names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* Fills names, which has room for max. */
static int read_names(DIR *folder, const char *path, size_t max, char **names, size_t *count,
                      struct pl_err *e)
{
    const struct dirent *entry;

    while ((errno = 0, entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        if (*count == max)
            return pl_fail(e, PL_E_LIMIT, "%s: more than %zu files, too many to look through", path,
                           max);
        names[*count] = strdup(entry->d_name);
        if (!names[*count])
            return pl_fail(e, PL_E_NOMEM, "%s: no memory for the names in it", path);
        ++*count;
    }
    return errno ? pl_fail_sys(e, errno, "%s: reading the names in it", path) : 0;
}

int pl_names_up_to(const char *path, size_t max, char ***names, size_t *count, struct pl_err *e)
{
    DIR *folder = opendir(path);
    char **list;
    int result;

    *count = 0;
    if (!folder)
        return pl_fail_sys(e, errno, "%s: reading the names in it", path);
    list = calloc(max, sizeof *list);
    result = list ? read_names(folder, path, max, list, count, e)
                  : pl_fail(e, PL_E_NOMEM, "%s: no memory for the names in it", path);
    closedir(folder);
    if (result < 0) {
        pl_names_free(list, *count);
        return -1;
    }
    qsort(list, *count, sizeof *list, by_bytes);
    *names = list;
    return 0;
}

int pl_names_in(const char *path, char ***names, size_t *count, struct pl_err *e)
{
    return pl_names_up_to(path, PL_FOLDER_NAMES_MAX, names, count, e);
}

char *pl_name_to_say(const char *name)
{
    char *said;

    if (!strchr(name, ':'))
        return strdup(name);
    return asprintf(&said, "./%s", name) < 0 ? NULL : said;
}

int pl_names_beside(const struct pl_storage *st, char ***names, size_t *count, struct pl_err *e)
{
    PL_FREE char *path = st->path ? pl_folder_of(st->path) : NULL;

    *names = NULL;
    *count = 0;
    if (st->path && !path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for the names beside it", st->name);
    return path ? pl_names_in(path, names, count, e) : 0;
}
