/* output.c - where a new file is until it is complete.
 *
 * Nowhere, if the file system can do that: O_TMPFILE makes a file without a name, which vanishes
 * with its last descriptor, however the process ends.  Else under a hidden name that ends in
 * ".part", beside its place. */
#include "core/storage/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/descriptor.h"
#include "core/storage/file.h"
#include "core/storage/file_lock.h"
#include "core/storage/place.h"

#define NAME_TRIES 100

struct pl_output {
    struct pl_storage *st;
    char *path;    /* as given: for messages */
    bool in_place; /* a device or a pipe: what follows but for `unsynced` is unused */
    bool unsynced; /* see pl_output_leave_unsynced */
    struct pl_place place;
    int fd;              /* st's file once more: to name it when st is closed */
    int older;           /* the file that will be replaced, locked; -1: none */
    char temporary[256]; /* "": the file has no name */
};

static void release(struct pl_output *o)
{
    if (o->temporary[0])
        unlinkat(o->place.folder, o->temporary, 0);
    if (o->fd >= 0)
        close(o->fd);
    if (o->older >= 0)
        close(o->older);
    pl_place_release(&o->place);
    free(o->path);
    free(o);
}

void pl_output_abandon(struct pl_output *output)
{
    if (!output)
        return;
    pl_storage_close(output->st, NULL);
    release(output);
}

struct pl_storage *pl_output_storage(struct pl_output *output)
{
    return output->st;
}

/* ---- beginning ---- */

/* A hidden name that is not likely to be taken: ".NAME.XXXXXX.part". */
static int make_up_name(struct pl_output *o)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t random[6];
    char text[sizeof random + 1] = "";

    if (getrandom(random, sizeof random, 0) != sizeof random)
        return -1;
    for (size_t i = 0; i < sizeof random; i++)
        text[i] = letters[random[i] % 32];
    snprintf(o->temporary, sizeof o->temporary, ".%.200s.%s.part", o->place.name, text);
    return 0;
}

/* Makes the file under a temporary name. */
static int create_named(struct pl_output *o, mode_t mode)
{
    int fd = -1;

    for (int i = 0; i < NAME_TRIES && make_up_name(o) == 0; i++) {
        fd = openat(o->place.folder, o->temporary,
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST)
            break;
    }
    if (fd < 0)
        o->temporary[0] = '\0';
    return fd;
}

static int create_file(struct pl_output *o, mode_t mode)
{
    int fd;

    if (access("/proc/self/fd", X_OK) == 0) { /* else it could never be named */
        fd = openat(o->place.folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
        if (fd >= 0 ||
            (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT))
            return fd;
    }
    return create_named(o, mode);
}

/* Opens and locks the file that is in the way: one that a virtual machine uses must not be
 * replaced. */
static int hold_older(struct pl_output *o, struct pl_err *e)
{
    if (faccessat(o->place.folder, o->place.name, W_OK, AT_EACCESS) < 0)
        return pl_fail_sys(e, errno, "%s: replacing it", o->path);
    o->older =
        openat(o->place.folder, o->place.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (o->older < 0)
        return pl_fail_sys(e, errno, "%s: looking whether it is in use", o->path);
    return pl_lock_file(o->older, PL_READ_WRITE, o->path, e);
}

/* Gives the new file the older one's owner, as far as we may, and its permissions. */
static int inherit(int fd, const struct stat *older)
{
    if (geteuid() == 0)
        (void)!fchown(fd, older->st_uid, older->st_gid);
    /* EPERM: a file system without permissions, for the file is ours */
    return fchmod(fd, older->st_mode & 0777) < 0 && errno != EPERM ? -1 : 0;
}

/* Makes the storage of a file that o->fd is open on. */
static int wrap(struct pl_output *o, struct pl_err *e)
{
    const int fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0)
        return pl_fail_sys(e, errno, "%s", o->path);
    if (pl_file_storage(fd, o->path, true, &o->st, e) < 0)
        return -1;
    o->st->sync_later = true; /* what has no name yet is synced once, when it gets one */
    return 0;
}

/* What is to be replaced, if anything, is held. */
static int begin_file(struct pl_output *o, const struct stat *older, struct pl_err *e)
{
    o->fd = create_file(o, older ? 0600 : 0666);
    if (o->fd < 0 || (older && inherit(o->fd, older) < 0))
        return pl_fail_sys(e, errno, "%s: creating it", o->path);
    if (pl_lock_file(o->fd, PL_READ_WRITE, o->path, e) < 0)
        return -1;
    return wrap(o, e);
}

static int begin_in_place(struct pl_output *o, mode_t type, struct pl_err *e)
{
    static const struct pl_opener opener;
    int fd;

    o->in_place = true;
    if (S_ISDIR(type))
        return pl_fail(e, PL_E_INVALID, "%s: is a folder", o->path);
    if (S_ISBLK(type))
        return pl_open_path(&opener, o->path, PL_READ_WRITE, &o->st, e);
    fd = open(o->path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return pl_fail_sys(e, errno, "%s", o->path);
    return pl_pipe_storage(fd, o->path, true, &o->st, e);
}

/* Standard output may be a file that the shell opened to append to, or that has bytes already:
 * it is written from front to back, whatever it is. */
static int begin_stdout(struct pl_output *o, struct pl_err *e)
{
    const int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);

    o->in_place = true;
    if (fd < 0)
        return pl_fail_sys(e, errno, "standard output");
    return pl_pipe_storage(fd, "standard output", true, &o->st, e);
}

static int begin(struct pl_output *o, struct pl_err *e)
{
    struct stat status;

    if (strcmp(o->path, "-") == 0)
        return begin_stdout(o, e);
    if (stat(o->path, &status) == 0 && !S_ISREG(status.st_mode))
        return begin_in_place(o, status.st_mode, e);
    if (pl_place_find(o->path, &o->place, e) < 0)
        return -1;
    if (fstatat(o->place.folder, o->place.name, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return hold_older(o, e) < 0 ? -1 : begin_file(o, &status, e);
    return errno == ENOENT ? begin_file(o, NULL, e) : pl_fail_sys(e, errno, "%s", o->path);
}

/* An output that nothing was done for; null: no memory. */
static struct pl_output *new_output(const char *path, struct pl_err *e)
{
    struct pl_output *o = calloc(1, sizeof *o);

    if (o) {
        o->fd = o->older = o->place.folder = -1;
        o->path = strdup(path);
        if (o->path)
            return o;
        release(o);
    }
    pl_fail(e, PL_E_NOMEM, "%s: no memory to create it", path);
    return NULL;
}

int pl_output_begin(const char *path, struct pl_output **out, struct pl_err *e)
{
    struct pl_output *o = new_output(path, e);

    if (!o)
        return -1;
    if (begin(o, e) < 0) {
        pl_output_abandon(o);
        return -1;
    }
    *out = o;
    return 0;
}

static int begin_like(struct pl_output *o, struct pl_storage *like, struct pl_err *e)
{
    struct stat status;

    if (pl_place_find(o->path, &o->place, e) < 0)
        return -1;
    if (fstatat(o->place.folder, o->place.name, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return pl_fail_sys(e, EEXIST, "%s: creating it", o->path);
    if (fstat(pl_file_descriptor(like), &status) < 0)
        return pl_fail_sys(e, errno, "%s", like->name);
    return begin_file(o, &status, e);
}

int pl_output_begin_like(const char *path, struct pl_storage *like, struct pl_output **out,
                         struct pl_err *e)
{
    struct pl_output *o = new_output(path, e);

    if (!o)
        return -1;
    if (begin_like(o, like, e) < 0) {
        pl_output_abandon(o);
        return -1;
    }
    *out = o;
    return 0;
}

/* ---- finishing ---- */

/* Gives a file without a name one. */
static int link_as(const struct pl_output *o, const char *name)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", o->fd);
    return linkat(AT_FDCWD, path, o->place.folder, name, AT_SYMLINK_FOLLOW);
}

/* A temporary name, for only a rename replaces what is there. */
static int link_temporary(struct pl_output *o)
{
    for (int i = 0; i < NAME_TRIES && make_up_name(o) == 0; i++)
        if (link_as(o, o->temporary) == 0)
            return 0;
        else if (errno != EEXIST)
            break;
    o->temporary[0] = '\0';
    return -1;
}

static int give_name(struct pl_output *o)
{
    if (!o->temporary[0]) {
        if (o->older < 0 && link_as(o, o->place.name) == 0)
            return 0;
        if ((o->older < 0 && errno != EEXIST) || link_temporary(o) < 0)
            return -1;
    }
    if (renameat(o->place.folder, o->temporary, o->place.folder, o->place.name) < 0)
        return -1;
    o->temporary[0] = '\0';
    return 0;
}

void pl_output_leave_unsynced(struct pl_output *output)
{
    output->unsynced = true;
}

static int sync_file(struct pl_output *o, struct pl_err *e)
{
    o->st->sync_later = o->unsynced && !o->in_place; /* a pipe is filled up by its flush */
    return pl_storage_flush(o->st, e);
}

int pl_output_finish(struct pl_output *output, struct pl_err *e)
{
    int result = sync_file(output, e);

    if (pl_storage_close(output->st, result < 0 ? NULL : e) < 0)
        result = -1;
    if (result == 0 && !output->in_place) {
        if (give_name(output) < 0)
            result = pl_fail_sys(e, errno, "%s: giving the new file its name", output->path);
        else if (!output->unsynced && pl_place_sync(&output->place) < 0)
            result =
                pl_fail_sys(e, errno, "%s: it is complete, but syncing its folder", output->path);
    }
    release(output);
    return result;
}

/* ---- replacing an open file ---- */

/* Begins the file that will be st's; st's own lock keeps others away from the older one. */
static int begin_over(struct pl_output *o, struct pl_storage *st, struct pl_err *e)
{
    const int fd = pl_file_descriptor(st);
    struct stat mine, there;

    if (pl_place_find(o->path, &o->place, e) < 0)
        return -1;
    if (fstat(fd, &mine) < 0 ||
        fstatat(o->place.folder, o->place.name, &there, AT_SYMLINK_NOFOLLOW) < 0)
        return pl_fail_sys(e, errno, "%s: replacing it", o->path);
    if (mine.st_dev != there.st_dev || mine.st_ino != there.st_ino)
        return pl_fail(e, PL_E_INVALID, "%s: is another file now than the one that was opened",
                       o->path);
    o->older = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (o->older < 0)
        return pl_fail_sys(e, errno, "%s: replacing it", o->path);
    return begin_file(o, &mine, e);
}

int pl_output_begin_over(struct pl_storage *older, struct pl_output **out, struct pl_err *e)
{
    struct pl_output *o;

    if (!older->path || pl_file_descriptor(older) < 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: has no name to replace it under", older->name);
    o = new_output(older->path, e);
    if (!o)
        return -1;
    if (begin_over(o, older, e) < 0) {
        pl_output_abandon(o);
        return -1;
    }
    *out = o;
    return 0;
}

/* Makes st's descriptor one of the new file; the older file's lock goes with `older`. */
static int take_over(struct pl_output *o, struct pl_storage *st)
{
    int result;

    do
        result = dup3(o->fd, pl_file_descriptor(st), O_CLOEXEC);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -1 : 0;
}

static int replace(struct pl_output *o, struct pl_storage *st, bool *done, struct pl_err *e)
{
    if (sync_file(o, e) < 0)
        return -1;
    if (give_name(o) < 0)
        return pl_fail_sys(e, errno, "%s: giving the new file its name", o->path);
    *done = true;
    if (take_over(o, st) < 0)
        return pl_fail_sys(e, errno, "%s: it is replaced, but opening the new file", o->path);
    if (pl_place_sync(&o->place) < 0)
        return pl_fail_sys(e, errno, "%s: it is replaced, but syncing its folder", o->path);
    return 0;
}

int pl_output_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                      struct pl_err *e)
{
    struct pl_output *o;
    int result;

    *done = false;
    if (!st->path)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: has no name to replace it under", st->name);
    o = new_output(st->path, e);
    if (!o)
        return -1;
    result = begin_over(o, st, e);
    if (result == 0)
        result = pl_storage_write(o->st, 0, bytes, len, e);
    if (result == 0)
        result = replace(o, st, done, e);
    pl_output_abandon(o);
    return result;
}
