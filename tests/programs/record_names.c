/* record_names.c - the calls of record.c that change names. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/programs/log.h"

#define EXPORT __attribute__((visibility("default")))

/* The inode of a name, 0: there is none. */
static uint64_t inode_of(int folder, const char *path)
{
    const int before = errno;
    struct stat stat;
    const uint64_t inode = fstatat(folder, path, &stat, AT_SYMLINK_NOFOLLOW) == 0 ? stat.st_ino : 0;

    errno = before;
    return inode;
}

/* A change of a name that is not understood. */
static void note(enum record_where where, const char *call)
{
    if (where != RECORD_OUTSIDE)
        record_unknown(call);
}

EXPORT int linkat(int from, const char *path, int to, const char *new_path, int flags)
{
    struct record record = { .kind = RECORD_NAME };
    const char *name;
    enum record_where where;
    int result = -1;

    record_begin();
    where = record_where(to, new_path, &name);
    if (where != RECORD_ENTRY || !record_change_fails(true))
        result = REAL(linkat)(from, path, to, new_path, flags);
    record.inode = inode_of(to, new_path);
    if (result == 0 && where == RECORD_ENTRY)
        record_put(record, name, strlen(name));
    else if (result == 0)
        note(where, "link in a folder of the folder");
    record_end();
    return result;
}
EXPORT int link(const char *path, const char *new_path)
{
    return linkat(AT_FDCWD, path, AT_FDCWD, new_path, 0);
}

static void log_rename(const char *old, const char *new)
{
    char both[2 * 256 + 2];
    const int len = snprintf(both, sizeof both, "%s%c%s", old, 0, new);

    record_put((struct record){ .kind = RECORD_RENAME }, both, (size_t)len);
}

static int do_rename(int from, const char *path, int to, const char *new_path, unsigned flags)
{
    const char *old, *new;
    enum record_where source, target;
    int result = -1;
    bool one;

    record_begin();
    source = record_where(from, path, &old);
    target = record_where(to, new_path, &new);
    one = inode_of(from, path) == inode_of(to, new_path); /* two names of a file: nothing happens */
    if ((source == RECORD_OUTSIDE && target == RECORD_OUTSIDE) || !record_change_fails(true))
        result = flags ? REAL(renameat2)(from, path, to, new_path, flags)
                       : REAL(renameat)(from, path, to, new_path);
    if (result == 0 && source == RECORD_ENTRY && target == RECORD_ENTRY && !(flags & ~1u)) {
        if (!one)
            log_rename(old, new);
    } else if (result == 0) {
        note(source, "rename");
        note(target, "rename");
    }
    record_end();
    return result;
}
EXPORT int renameat2(int from, const char *path, int to, const char *new_path, unsigned flags)
{
    return do_rename(from, path, to, new_path, flags);
}
EXPORT int renameat(int from, const char *path, int to, const char *new_path)
{
    return do_rename(from, path, to, new_path, 0);
}
EXPORT int rename(const char *path, const char *new_path)
{
    return do_rename(AT_FDCWD, path, AT_FDCWD, new_path, 0);
}

EXPORT int unlinkat(int folder, const char *path, int flags)
{
    const char *name;
    enum record_where where;
    int result = -1;

    record_begin();
    where = record_where(folder, path, &name);
    if (where != RECORD_ENTRY || !record_change_fails(false))
        result = REAL(unlinkat)(folder, path, flags);
    if (result == 0 && where == RECORD_ENTRY && !flags)
        record_put((struct record){ .kind = RECORD_UNNAME }, name, strlen(name));
    else if (result == 0)
        note(where, "unlink of a folder");
    record_end();
    return result;
}
EXPORT int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}
EXPORT int remove(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

static void note_path(int folder, const char *path, const char *call)
{
    const char *name;

    record_begin();
    note(record_where(folder, path, &name), call);
    record_end();
}

EXPORT int mkdirat(int folder, const char *path, mode_t mode)
{
    note_path(folder, path, "mkdir");
    return REAL(mkdirat)(folder, path, mode);
}
EXPORT int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}
EXPORT int symlinkat(const char *target, int folder, const char *path)
{
    note_path(folder, path, "symlink");
    return REAL(symlinkat)(target, folder, path);
}
EXPORT int symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}
EXPORT int truncate(const char *path, off_t size)
{
    note_path(AT_FDCWD, path, "truncate");
    return REAL(truncate)(path, size);
}
