#include "core/storage/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/scope.h"

/* As many links as the kernel follows. */
#define LINKS_MAX 40

char *pl_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* What the link `path` points to, seen from where `path` is seen; null with errno. */
static char *link_target(const char *path)
{
    char target[PATH_MAX];
    const ssize_t len = readlink(path, target, sizeof target - 1);
    PL_FREE char *folder = NULL;
    char *joined;

    if (len < 0)
        return NULL;
    target[len] = '\0';
    if (target[0] == '/')
        return strdup(target);
    folder = pl_folder_of(path);
    if (!folder || asprintf(&joined, "%s/%s", folder, target) < 0)
        return NULL;
    return joined;
}

/* Follows links at the end of the path; null with errno. */
static char *follow_links(const char *path)
{
    PL_FREE char *at = strdup(path);

    for (int i = 0; at && i < LINKS_MAX; i++) {
        char *next = link_target(at);

        if (!next) /* not a link, or nothing there: opening it tells what is wrong, if anything */
            return errno == ENOMEM ? NULL : pl_take(at);
        free(at);
        at = next;
    }
    errno = at ? ELOOP : ENOMEM;
    return NULL;
}

int pl_place_find(const char *path, struct pl_place *place, struct pl_err *e)
{
    PL_FREE char *at = follow_links(path);
    PL_FREE char *folder = at ? pl_folder_of(at) : NULL;
    const char *slash;

    *place = (struct pl_place){ .folder = -1 };
    if (!folder)
        return pl_fail_sys(e, errno, "%s", path);
    slash = strrchr(at, '/');
    place->name = strdup(slash ? slash + 1 : at);
    if (!place->name)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for its name", path);
    if (!*place->name)
        return pl_fail(e, PL_E_INVALID, "%s: is no file name", *path ? path : "(empty)");
    place->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->folder < 0 && errno == EACCES) /* a folder that may be used but not listed */
        place->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return place->folder < 0 ? pl_fail_sys(e, errno, "%s: its folder %s", path, folder) : 0;
}

void pl_place_release(struct pl_place *place)
{
    if (place->folder >= 0)
        close(place->folder);
    free(place->name);
}

int pl_place_sync(const struct pl_place *place)
{
    while (fsync(place->folder) < 0) {
        if (errno == EINTR)
            continue;
        /* EBADF: opened by O_PATH */
        return errno == EINVAL || errno == EBADF || errno == EROFS ? 0 : -1;
    }
    return 0;
}
