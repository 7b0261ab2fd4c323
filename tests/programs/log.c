/* log.c - see log.h. */
#include "tests/programs/log.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { FAULT_NONE, FAULT_CHANGE, FAULT_FULL, FAULT_READ };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool ready;
static const char *folder;
static int log_fd = -1;
static enum fault fault;
static uint64_t fault_at,
    fault_value; /* a number of changes and an errno; or an inode, an offset */
static uint64_t changes;

void *record_real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found)
        abort();
    return found;
}

static void read_fault(const char *text)
{
    char kind[8] = "";

    if (!text || sscanf(text, "%7[a-z]:%" SCNu64 ":%" SCNu64, kind, &fault_at, &fault_value) < 2)
        return;
    fault = strcmp(kind, "full") == 0   ? FAULT_FULL
            : strcmp(kind, "read") == 0 ? FAULT_READ
                                        : FAULT_CHANGE;
}

static void get_ready(void)
{
    const char *log = getenv("RECORD_LOG");

    ready = true;
    folder = getenv("RECORD_FOLDER");
    read_fault(getenv("RECORD_FAULT"));
    if (!log || !folder)
        return;
    log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log_fd < 0)
        abort();
}

void record_begin(void)
{
    pthread_mutex_lock(&lock);
    if (!ready)
        get_ready();
}

void record_end(void)
{
    pthread_mutex_unlock(&lock);
}

/* The path of a descriptor's file, as /proc tells it. */
static bool path_of(int fd, char path[PATH_MAX])
{
    char proc[64];
    ssize_t len;

    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    len = readlink(proc, path, PATH_MAX - 1);
    if (len < 0)
        return false;
    path[len] = '\0';
    return true;
}

static bool below_folder(const char *path)
{
    const size_t len = folder ? strlen(folder) : 0;

    return len > 0 && strncmp(path, folder, len) == 0 && path[len] == '/';
}

bool record_is_file(int fd, uint64_t *inode)
{
    const int before = errno;
    char path[PATH_MAX];
    struct stat stat;
    const bool result = folder && fd >= 0 && fd != log_fd && fstat(fd, &stat) == 0 &&
                        S_ISREG(stat.st_mode) && path_of(fd, path) && below_folder(path);

    if (result)
        *inode = stat.st_ino;
    errno = before;
    return result;
}

bool record_is_folder(int fd)
{
    const int before = errno;
    char path[PATH_MAX];
    const bool result = folder && path_of(fd, path) && strcmp(path, folder) == 0;

    errno = before;
    return result;
}

/* The folder of a path, links followed. */
static bool folder_of(int at, const char *path, size_t len, char real[PATH_MAX])
{
    char base[PATH_MAX] = "", joined[2 * PATH_MAX + 2];

    if (path[0] != '/' && (at == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(at, base)))
        return false;
    snprintf(joined, sizeof joined, "%s/%.*s", base, (int)len, path);
    return realpath(joined, real) != NULL;
}

enum record_where record_where(int at, const char *path, const char **name)
{
    const int before = errno;
    const char *slash = strrchr(path, '/');
    enum record_where where = RECORD_OUTSIDE;
    char real[PATH_MAX];

    *name = slash ? slash + 1 : path;
    if (folder && folder_of(at, path, (size_t)(*name - path), real)) {
        if (strcmp(real, folder) == 0)
            where = RECORD_ENTRY;
        else if (below_folder(real))
            where = RECORD_DEEPER;
    }
    errno = before;
    return where;
}

void record_put(struct record record, const void *bytes, size_t len)
{
    static const char padding[8];
    const int before = errno;
    struct iovec parts[3];
    size_t whole;

    if (log_fd < 0)
        return;
    record.len = (uint32_t)len;
    whole = RECORD_STEP(record.len);
    parts[0] = (struct iovec){ &record, sizeof record };
    parts[1] = (struct iovec){ (void *)bytes, len };
    parts[2] = (struct iovec){ (void *)padding, whole - sizeof record - len };
    if (REAL(writev)(log_fd, parts, 3) != (ssize_t)whole)
        abort();
    errno = before;
}

void record_unknown(const char *call)
{
    record_put((struct record){ .kind = RECORD_UNKNOWN }, call, strlen(call));
}

bool record_change_fails(bool needs_room)
{
    const uint64_t number = changes++;

    if (fault == FAULT_CHANGE && number == fault_at) {
        errno = (int)fault_value;
        return true;
    }
    if (fault == FAULT_FULL && number >= fault_at && needs_room) {
        errno = ENOSPC;
        return true;
    }
    return false;
}

bool record_read_fails(uint64_t inode, uint64_t off, uint64_t len)
{
    if (fault != FAULT_READ || inode != fault_at || off >= fault_value + 512 ||
        fault_value >= off + len)
        return false;
    errno = EIO;
    return true;
}

bool record_wants_reads(void)
{
    return getenv("RECORD_READS") != NULL;
}
