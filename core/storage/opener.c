#include "core/storage/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/scope.h"
#include "core/storage/file.h"
#include "core/storage/file_lock.h"
#include "core/storage/opener_policy.h"
#include "core/storage/place.h"

/* Locks fd and makes it a storage; fd is taken over, also on failure. */
static int finish(const struct pl_opener *opener, int fd, const char *path, enum pl_access access,
                  struct pl_storage **out, struct pl_err *e)
{
    if (!opener->force_share && pl_lock_file(fd, access, path, e) < 0) {
        close(fd);
        return -1;
    }
    return pl_file_storage(fd, path, access == PL_READ_WRITE, out, e);
}

static int check_access(const struct pl_opener *opener, const char *path, enum pl_access access,
                        struct pl_err *e)
{
    if (access == PL_READ_WRITE && opener->force_share)
        return pl_fail(e, PL_E_INVALID, "%s: cannot be written without its lock (-U)", path);
    return 0;
}

/* Whether a path that the user named can be opened that way. */
static int check_type(const char *path, mode_t mode, enum pl_access access, struct pl_err *e)
{
    if (S_ISREG(mode) || S_ISBLK(mode) || (S_ISFIFO(mode) && access == PL_READ))
        return 0;
    if (S_ISDIR(mode))
        return pl_fail(e, PL_E_INVALID, "%s: is a folder, not an image", path);
    if (S_ISFIFO(mode))
        return pl_fail(e, PL_E_INVALID, "%s: is a pipe, which cannot be changed in place", path);
    return pl_fail(e, PL_E_INVALID, "%s: is neither a file nor a block device", path);
}

int pl_open_path(const struct pl_opener *opener, const char *path, enum pl_access access,
                 struct pl_storage **out, struct pl_err *e)
{
    int flags = (access == PL_READ ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
    struct stat status;
    int fd;

    if (check_access(opener, path, access, e) < 0)
        return -1;
    if (stat(path, &status) < 0)
        return pl_fail_sys(e, errno, "%s", path);
    if (check_type(path, status.st_mode, access, e) < 0)
        return -1;
    if (S_ISBLK(status.st_mode) && access == PL_READ_WRITE)
        flags |= O_EXCL; /* on a block device: fails while it is mounted or part of another */
    fd = open(path, flags);
    if (fd < 0 && errno == EBUSY) {
        pl_fail(e, PL_E_LOCKED, "%s: is mounted or part of another device", path);
        return pl_hint(e, "unmount it first");
    }
    if (fd < 0)
        return pl_fail_sys(e, errno, access == PL_READ ? "%s" : "%s: opening it for writing", path);
    return finish(opener, fd, path, access, out, e);
}

/* The path under which `by` knows a file of that name. */
static char *path_seen_from(const struct pl_storage *by, const char *name)
{
    const char *slash = by->path ? strrchr(by->path, '/') : NULL;
    char *path;

    if (name[0] == '/' || !slash)
        return strdup(name);
    if (asprintf(&path, "%.*s/%s", (int)(slash - by->path), by->path, name) < 0)
        return NULL;
    return path;
}

int pl_open_named(const struct pl_opener *opener, struct pl_storage *by, const char *name,
                  enum pl_access access, struct pl_storage **out, struct pl_err *e)
{
    PL_FREE char *path = path_seen_from(by, name);
    int fd;

    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open \"%s\"", by->name, name);
    if (check_access(opener, path, access, e) < 0 || pl_policy_check_name(by, name, e) < 0 ||
        pl_policy_open(opener, by, name, access, &fd, e) < 0)
        return -1;
    return finish(opener, fd, path, access, out, e);
}

/* The folder of by's path. */
static int open_folder(const struct pl_storage *by, struct pl_place *place, struct pl_err *e)
{
    PL_FREE char *path = by->path ? pl_folder_of(by->path) : NULL;

    if (!path)
        return pl_fail(e, by->path ? PL_E_NOMEM : PL_E_UNSUPPORTED,
                       "%s: its folder cannot be found", by->name);
    place->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return place->folder < 0 ? pl_fail_sys(e, errno, "%s", path) : 0;
}

/* The new file in an open folder; *fd is -1 where it could not be made. */
static int create_in(const struct pl_place *place, struct pl_storage *by, int *fd, struct pl_err *e)
{
    struct stat like;

    *fd = -1;
    if (fstat(pl_file_descriptor(by), &like) < 0)
        return pl_fail_sys(e, errno, "%s", by->name);
    *fd = openat(place->folder, place->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                 0600);
    if (*fd < 0)
        return pl_fail_sys(e, errno, "%s: creating it", place->name);
    if (geteuid() == 0)
        (void)!fchown(*fd, like.st_uid, like.st_gid);
    if ((fchmod(*fd, like.st_mode & 0777) < 0 && errno != EPERM) || pl_place_sync(place) < 0)
        return pl_fail_sys(e, errno, "%s: creating it", place->name);
    return 0;
}

/* The new file becomes a storage, called `path`; on failure nothing is left. */
static int create_at(const struct pl_place *place, struct pl_storage *by, const char *path,
                     struct pl_storage **out, struct pl_err *e)
{
    static const struct pl_opener opener;
    int fd;
    int result = create_in(place, by, &fd, e);

    if (fd < 0)
        return -1;
    if (result < 0)
        close(fd);
    else
        result = finish(&opener, fd, path, PL_READ_WRITE, out, e);
    if (result < 0)
        unlinkat(place->folder, place->name, 0);
    return result;
}

int pl_create_named(struct pl_storage *by, const char *name, struct pl_storage **out,
                    struct pl_err *e)
{
    PL_FREE char *path = path_seen_from(by, name);
    PL_FREE char *plain = strdup(name);
    struct pl_place place = { .folder = -1, .name = plain };
    int result;

    if (!path || !plain)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to create \"%s\"", by->name, name);
    if (!*name || strchr(name, '/'))
        return pl_fail(e, PL_E_POLICY, "%s: \"%s\" is no name for a file beside it", by->name,
                       name);
    if (open_folder(by, &place, e) < 0)
        return -1;
    result = create_at(&place, by, path, out, e);
    close(place.folder);
    return result;
}

int pl_create_path(struct pl_storage *like, const char *path, struct pl_storage **out,
                   struct pl_err *e)
{
    struct pl_place place;
    int result = pl_place_find(path, &place, e);

    if (result == 0)
        result = create_at(&place, like, path, out, e);
    pl_place_release(&place);
    return result;
}

static void remove_from(const struct pl_place *place, struct pl_storage *st)
{
    struct stat mine, there;

    if (fstat(pl_file_descriptor(st), &mine) == 0 &&
        fstatat(place->folder, place->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        mine.st_dev == there.st_dev && mine.st_ino == there.st_ino)
        unlinkat(place->folder, place->name, 0);
}

void pl_remove_named(struct pl_storage *by, const char *name, struct pl_storage *st)
{
    PL_FREE char *plain = strdup(name);
    struct pl_place place = { .folder = -1, .name = plain };

    if (!plain || strchr(name, '/') || open_folder(by, &place, NULL) < 0)
        return;
    remove_from(&place, st);
    close(place.folder);
}

void pl_remove_path(const char *path, struct pl_storage *st)
{
    struct pl_place place;

    if (pl_place_find(path, &place, NULL) == 0) {
        remove_from(&place, st);
        (void)!pl_place_sync(&place); /* a name that comes back does no harm */
    }
    pl_place_release(&place);
}

int pl_storage_relock(struct pl_storage *st, enum pl_access access, struct pl_err *e)
{
    const int fd = pl_file_descriptor(st);

    if (access == PL_READ_WRITE && !st->writable)
        return pl_fail(e, PL_E_INVALID, "%s: is open for reading only", st->name);
    if (fd < 0)
        return 0;
    if (access == PL_READ_WRITE)
        return pl_lock_raise(fd, st->name, e);
    pl_lock_lower(fd);
    return 0;
}
