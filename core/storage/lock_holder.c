/* lock_holder.c - who has a file locked.  The kernel keeps no process for a lock of an open file
 * description, but shows under /proc/PID/fdinfo/FD the locks that a descriptor holds. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/scope.h"
#include "core/storage/file_lock.h"

/* Descriptors that are looked at, at most: an error message is not worth more than a second. */
#define DESCRIPTORS_MAX 65536

struct scan {
    uint64_t inode, byte;
    unsigned left; /* of DESCRIPTORS_MAX */
};

static void close_folder(DIR **folder)
{
    if (*folder)
        closedir(*folder);
}

#define CLOSE_FOLDER __attribute__((cleanup(close_folder)))

/* The file's first bytes as text; false: it is not ours to read, or gone. */
static bool read_text(const char *path, char *text, size_t room)
{
    PL_CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    if (fd < 0)
        return false;
    len = read(fd, text, room - 1);
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* A line is "lock: 1: OFDLCK ADVISORY READ -1 08:02:1234 100 101", the end of the range possibly
 * EOF. */
static bool line_matches(const char *line, const struct scan *scan)
{
    uint64_t inode, from, to;
    const int n =
        sscanf(line, "lock: %*u: %*s %*s %*s %*d %*x:%*x:%" SCNu64 " %" SCNu64 " %" SCNu64, &inode,
               &from, &to);

    return n >= 2 && inode == scan->inode && from <= scan->byte && (n < 3 || to >= scan->byte);
}

static bool descriptor_holds(const char *path, const struct scan *scan)
{
    char text[4096];

    if (!read_text(path, text, sizeof text))
        return false;
    for (const char *at = strstr(text, "lock:"); at; at = strstr(at + 1, "lock:"))
        if (line_matches(at, scan))
            return true;
    return false;
}

static bool process_holds(const char *pid, struct scan *scan)
{
    char path[320];
    CLOSE_FOLDER DIR *folder = NULL;
    const struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%.20s/fdinfo", pid);
    folder = opendir(path);
    if (!folder)
        return false;
    while (scan->left > 0 && (entry = readdir(folder))) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        scan->left--;
        snprintf(path, sizeof path, "/proc/%.20s/fdinfo/%.20s", pid, entry->d_name);
        if (descriptor_holds(path, scan))
            return true;
    }
    return false;
}

static void describe(const char *pid, struct pl_lock_holder *holder)
{
    char path[64];

    holder->pid = (pid_t)strtol(pid, NULL, 10);
    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    if (!read_text(path, holder->program, sizeof holder->program))
        snprintf(holder->program, sizeof holder->program, "?");
    holder->program[strcspn(holder->program, "\n")] = '\0';
}

bool pl_lock_holder_find(int fd, uint64_t byte, struct pl_lock_holder *holder)
{
    CLOSE_FOLDER DIR *proc = opendir("/proc");
    const struct dirent *entry;
    struct stat stat;

    if (!proc || fstat(fd, &stat) < 0)
        return false;
    struct scan scan = { .inode = stat.st_ino, .byte = byte, .left = DESCRIPTORS_MAX };

    while (scan.left > 0 && (entry = readdir(proc))) {
        if (isdigit((unsigned char)entry->d_name[0]) && process_holds(entry->d_name, &scan)) {
            describe(entry->d_name, holder);
            return true;
        }
    }
    return false;
}
