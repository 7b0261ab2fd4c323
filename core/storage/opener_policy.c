#include "core/storage/opener_policy.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/scope.h"
#include "core/storage/place.h"

/* ---- names ---- */

/* A longer path would be cut where a command names it. */
#define HINTED_PATH_MAX 100

/* Names the command that gives the image another name to say. */
static int advise_rebase(const struct pl_storage *by, struct pl_err *e)
{
    const char *path = by->path ? by->path : "IMAGE";
    const char *quote = path[strcspn(path, " \t\n\"$&()*;<>?[\\]`{|}~!#")] ? "'" : "";

    if (strlen(path) > HINTED_PATH_MAX || strchr(path, '\''))
        path = quote = "";
    return pl_hint(e,
                   "have the image name a plain path: platter rebase -u -F FORMAT -b PATH %s%s%s",
                   quote, *path ? path : "IMAGE", quote);
}

int pl_policy_check_name(const struct pl_storage *by, const char *name, struct pl_err *e)
{
    size_t n = 0;

    if (!*name)
        return pl_fail(e, PL_E_POLICY, "%s: names a file without a name", by->name);
    while (isalnum((unsigned char)name[n]) || (n > 0 && name[n] && strchr("+-.", name[n])))
        n++;
    if (!islower((unsigned char)name[0]) || name[n] != ':')
        return 0;
    pl_fail(e, PL_E_POLICY,
            "%s: names \"%s\": the prefix \"%.*s:\" is refused, only files are opened", by->name,
            name, (int)n, name);
    return advise_rebase(by, e);
}

/* Appends the components of `name` to the absolute path in `path`, which has room for them. */
static void append_components(char *path, const char *name)
{
    size_t end = strcmp(path, "/") ? strlen(path) : 0;

    while (*name) {
        const size_t len = strcspn(name, "/");

        if (len == 2 && name[0] == '.' && name[1] == '.') {
            while (end > 0 && path[--end] != '/')
                ;
        } else if (len > 0 && !(len == 1 && name[0] == '.')) {
            path[end] = '/';
            memcpy(path + end + 1, name, len);
            end += 1 + len;
        }
        name += len + (name[len] == '/');
    }
    path[end] = '\0';
}

/* `name` seen from the absolute `folder`, without "." and "..". */
static char *absolute(const char *folder, const char *name)
{
    const char *start = name[0] == '/' ? "/" : folder;
    char *path = malloc(strlen(start) + strlen(name) + 2);

    if (path) {
        memcpy(path, start, strlen(start) + 1);
        append_components(path, name);
    }
    return path;
}

/* The part of `path` below `root`, both absolute; null: it is not below. */
static const char *below(const char *root, const char *path)
{
    const size_t len = strcmp(root, "/") ? strlen(root) : 0;

    return strncmp(root, path, len) == 0 && path[len] == '/' && path[len + 1] ? path + len + 1
                                                                              : NULL;
}

/* ---- opening ---- */

/* The kernel gives up (EAGAIN) when something is renamed while it looks; somebody who renames
 * without end must not keep us here. */
#define OPEN_TRIES 100

/* For kernels before 5.6 and containers that forbid openat2: plain names that are no links. */
static int open_plain(int folder, const char *name, uint64_t flags)
{
    if (strchr(name, '/')) {
        errno = EXDEV;
        return -1;
    }
    return openat(folder, name, (int)flags | O_NOFOLLOW);
}

static int open_beneath(int folder, const char *name, uint64_t flags)
{
    struct open_how how = { .flags = flags, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    int fd = -1;

    for (int i = 0; i < OPEN_TRIES; i++) {
        fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd < 0 && (errno == ENOSYS || errno == EPERM) ? open_plain(folder, name, flags) : fd;
}

/* One file that an image names, on its way. */
struct request {
    const struct pl_storage *by;
    const char *name;
    enum pl_access access;
    bool devices; /* the folder in question allows block devices */
    int fd;       /* the answer */
};

static const char *type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a folder";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    case S_IFIFO:
        return "a pipe";
    default:
        return "not a file";
    }
}

static int refuse_type(const struct request *r, mode_t mode, struct pl_err *e)
{
    pl_fail(e, PL_E_POLICY, "%s: names \"%s\", which is %s: only regular files are opened",
            r->by->name, r->name, type_name(mode));
    return S_ISBLK(mode) ? pl_hint(e, "use --allow-dir /dev to permit block devices") : -1;
}

static int failed(const struct request *r, int sys, struct pl_err *e)
{
    return pl_fail_sys(e, sys, "%s: opening \"%s\", which it names", r->by->name, r->name);
}

/* Opens `rest` below the folder.  The file is looked at through a descriptor that opens nothing,
 * then opened, and must then be the same.  1: a link leads out of the folder. */
static int open_in(struct request *r, int folder, const char *rest, struct pl_err *e)
{
    uint64_t flags = (r->access == PL_READ ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    PL_CLOSE_FD int seen = open_beneath(folder, rest, O_PATH | O_CLOEXEC);
    struct stat before, after;
    int fd;

    if (seen < 0)
        return errno == EXDEV || errno == ELOOP ? 1 : failed(r, errno, e);
    if (fstat(seen, &before) < 0)
        return failed(r, errno, e);
    if (!S_ISREG(before.st_mode) && !(S_ISBLK(before.st_mode) && r->devices))
        return refuse_type(r, before.st_mode, e);
    if (S_ISBLK(before.st_mode) && r->access == PL_READ_WRITE)
        flags |= O_EXCL;
    fd = open_beneath(folder, rest, flags);
    if (fd < 0)
        return failed(r, errno, e);
    if (fstat(fd, &after) < 0 || before.st_dev != after.st_dev || before.st_ino != after.st_ino) {
        close(fd);
        return pl_fail(e, PL_E_POLICY,
                       "%s: \"%s\", which it names, was replaced while it was opened", r->by->name,
                       r->name);
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    r->fd = fd;
    return 0;
}

/* As open_in, for a path that may or may not be below `root`.  2: it is not. */
static int open_below(struct request *r, const char *root, const char *path, struct pl_err *e)
{
    const char *rest = below(root, path);

    if (!rest)
        return 2;
    PL_CLOSE_FD int folder = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    return folder < 0 ? failed(r, errno, e) : open_in(r, folder, rest, e);
}

/* Tries the image's own folder, then each allowed one.  1: a link leads out of every folder that
 * the path is below; 2: it is below none. */
static int open_allowed(struct request *r, const struct pl_opener *opener, const char *own,
                        const char *path, struct pl_err *e)
{
    int result;
    int refused = 2;

    r->devices = false;
    if (own && (result = open_below(r, own, path, e)) != 2) {
        if (result != 1)
            return result;
        refused = 1;
    }
    for (size_t i = 0; opener->allowed && opener->allowed[i]; i++) {
        PL_FREE char *root = realpath(opener->allowed[i], NULL);

        if (!root)
            continue;
        r->devices = strcmp(root, "/dev") == 0 || below("/dev", root);
        result = open_below(r, root, path, e);
        if (result <= 0)
            return result;
        if (result == 1)
            refused = 1;
    }
    return refused;
}

static int refuse_place(const struct request *r, const char *path, struct pl_err *e)
{
    PL_FREE char *folder = pl_folder_of(path);

    pl_fail(e, PL_E_POLICY, "%s: names \"%s\", which is outside its folder", r->by->name, r->name);
    return pl_hint(e, "use --allow-dir %s to permit files in that folder", folder ? folder : "DIR");
}

/* The image's folder without links; null: it has none, or it is gone. */
static char *own_folder(const struct pl_storage *by)
{
    PL_FREE char *folder = by->path ? pl_folder_of(by->path) : NULL;

    return folder ? realpath(folder, NULL) : NULL;
}

int pl_policy_open(const struct pl_opener *opener, const struct pl_storage *by, const char *name,
                   enum pl_access access, int *fd, struct pl_err *e)
{
    struct request r = { .by = by, .name = name, .access = access };
    PL_FREE char *own = own_folder(by);
    PL_FREE char *real = NULL;
    int result;

    if (!own && name[0] != '/')
        return pl_fail(e, PL_E_POLICY, "%s: names \"%s\", but it is in no folder itself", by->name,
                       name);
    PL_FREE char *path = absolute(own, name);

    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open \"%s\"", by->name, name);
    result = open_allowed(&r, opener, own, path, e);
    if (result == 1 && (real = realpath(path, NULL)))
        result = open_allowed(&r, opener, own, real, e);
    if (result > 0)
        return refuse_place(&r, real ? real : path, e);
    *fd = r.fd;
    return result;
}
