#include "core/storage/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "core/base/scope.h"
#include "core/storage/file.h"
#include "core/storage/place.h"

bool pl_name_look(const char *path, struct pl_name_facts *facts)
{
    struct stat status;

    if (lstat(path, &status) < 0)
        return false;
    *facts = (struct pl_name_facts){
        .id = { status.st_dev, status.st_ino },
        .links = status.st_nlink,
        .date_sec = status.st_mtim.tv_sec > 0 ? (uint64_t)status.st_mtim.tv_sec : 0,
        .date_nsec = (uint32_t)status.st_mtim.tv_nsec,
        .regular = S_ISREG(status.st_mode),
    };
    return true;
}

/* The folder of a path is synced, so that its names survive a crash. */
static int sync_folder(const char *path, const char *done, struct pl_err *e)
{
    PL_FREE char *folder = pl_folder_of(path);
    struct pl_place place;
    int result, sys;

    if (!folder)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", path);
    place.folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place.folder < 0) /* a folder that may be used but not listed cannot be synced either */
        return errno == EACCES
                   ? 0
                   : pl_fail_sys(e, errno, "%s: %s, but syncing its folder", path, done);
    result = pl_place_sync(&place);
    sys = errno;
    close(place.folder);
    return result < 0 ? pl_fail_sys(e, sys, "%s: %s, but syncing its folder", path, done) : 0;
}

int pl_name_add(struct pl_storage *st, const char *path, struct pl_err *e)
{
    char open_file[64];

    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", pl_file_descriptor(st));
    if (linkat(AT_FDCWD, open_file, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return sync_folder(path, "it has its name", e);
    if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
        return pl_fail_sys(e, errno, "%s: giving %s this name, too", path, st->name);
    pl_fail(e, PL_E_UNSUPPORTED,
            "%s: giving %s this name, too: the file system knows no second names", path, st->name);
    return pl_hint(e, "keep the disk on a file system with hard links: ext4, xfs, btrfs, NFS");
}

int pl_name_sync(const char *path, struct pl_err *e)
{
    PL_CLOSE_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return pl_fail_sys(e, errno, "%s", path);
    while (fsync(fd) < 0)
        if (errno != EINTR)
            return pl_fail_sys(e, errno, "%s: bringing it to stable storage", path);
    return 0;
}

int pl_name_change(const char *from, const char *to, struct pl_err *e)
{
    if (pl_name_sync(from, e) < 0)
        return -1;
    if (rename(from, to) < 0)
        return pl_fail_sys(e, errno, "%s: renaming it to %s", from, to);
    return sync_folder(to, "it has its name", e);
}

int pl_name_remove(const char *path, struct pl_err *e)
{
    if (unlink(path) < 0)
        return pl_fail_sys(e, errno, "%s: removing it", path);
    return sync_folder(path, "it is removed", e);
}

/* The line is there as a whole or, by its missing end, not at all. */
static int write_line(int fd, const char *path, const char *text, struct pl_err *e)
{
    char line[PL_MARK_MAX];
    const int len = snprintf(line, sizeof line, "%s\n", text);

    if (len < 0 || (size_t)len >= sizeof line)
        return pl_fail(e, PL_E_LIMIT, "%s: too long a line for it", path);
    if (pwrite(fd, line, (size_t)len, 0) != len || ftruncate(fd, len) < 0 || fsync(fd) < 0)
        return pl_fail_sys(e, errno ? errno : EIO, "%s: writing it", path);
    return 0;
}

int pl_name_mark(const char *path, const char *text, struct pl_err *e)
{
    PL_CLOSE_FD int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return pl_fail_sys(e, errno, "%s: creating it", path);
    if (text && write_line(fd, path, text, e) < 0)
        return -1;
    return sync_folder(path, "it is there", e);
}

char *pl_name_marked(const char *path)
{
    PL_CLOSE_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    char line[PL_MARK_MAX];
    const ssize_t len = fd < 0 ? -1 : read(fd, line, sizeof line);

    if (len < 1 || line[len - 1] != '\n' || memchr(line, '\0', (size_t)len))
        return NULL;
    return strndup(line, (size_t)len - 1);
}

void pl_name_set_date(const char *path, uint64_t sec, uint32_t nsec)
{
    const struct timespec date = { .tv_sec = (time_t)sec, .tv_nsec = nsec };
    const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, date };

    (void)!utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

/* The attribute's full name; false: too long. */
static bool attribute(const char *key, char name[static 256])
{
    return snprintf(name, 256, "user.platter.%s", key) < 256;
}

bool pl_name_note(const char *path, const char *key, char *text, size_t room)
{
    char name[256];
    ssize_t len;

    if (!attribute(key, name))
        return false;
    len = lgetxattr(path, name, text, room - 1);
    if (len < 0)
        return false;
    text[len] = '\0';
    return true;
}

bool pl_name_set_note(const char *path, const char *key, const char *text)
{
    char name[256];

    if (!attribute(key, name))
        return false;
    if (!text)
        return lremovexattr(path, name) == 0 || errno == ENODATA;
    return lsetxattr(path, name, text, strlen(text), 0) == 0;
}
