/* record.c - replaces the calls that change files: preloaded into a program, it logs what the
 * program does below one folder, and makes calls fail.  See tests/support/record.h.
 *
 * Every change is logged when it was made, under one lock, so that the log has the order of the
 * changes.  Copies inside the kernel are logged as the bytes they brought.  Modes, owners and times
 * are not logged; room that is reserved without changing the size is no change.
 *
 * Both names of a call are replaced, with and without 64, and the checked ones: which of them a
 * program uses depends on how it was compiled. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/programs/log.h"

#define EXPORT __attribute__((visibility("default")))
#define COPY_PIECE (1u << 20)

/* ---- opening ---- */

static bool takes_mode(int flags)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

static mode_t mode_of(int flags, va_list ap)
{
    return takes_mode(flags) ? va_arg(ap, mode_t) : 0;
}

/* After an open that succeeded. */
static void log_open(int fd, const char *name, int flags, bool was_there)
{
    const bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    struct record record = { .kind = RECORD_NEW };

    if (!record_is_file(fd, &record.inode))
        return;
    if (unnamed || ((flags & O_CREAT) && !was_there)) {
        record_put(record, name, unnamed ? 0 : strlen(name));
    } else if (flags & O_TRUNC) {
        record.kind = RECORD_RESIZE;
        record_put(record, NULL, 0);
    }
}

static int do_open(int folder, const char *path, int flags, mode_t mode)
{
    const int before = errno;
    const char *name;
    struct stat stat;
    enum record_where where;
    bool was_there, changes;
    int fd = -1;

    record_begin();
    where = record_where(folder, path, &name);
    was_there = fstatat(folder, path, &stat, 0) == 0;
    changes = where == RECORD_ENTRY && ((flags & O_TMPFILE) == O_TMPFILE || (flags & O_TRUNC) ||
                                        ((flags & O_CREAT) && !was_there));
    errno = before;
    if (!changes || !record_change_fails(true))
        fd = REAL(openat)(folder, path, flags, mode);
    if (fd >= 0 && changes)
        log_open(fd, name, flags, was_there);
    record_end();
    return fd;
}

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        va_list ap;                                                                                \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(ap, flags);                                                                       \
        mode = mode_of(flags, ap);                                                                 \
        va_end(ap);                                                                                \
        return do_open(AT_FDCWD, path, flags, mode);                                               \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
    EXPORT int name(int folder, const char *path, int flags, ...)                                  \
    {                                                                                              \
        va_list ap;                                                                                \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(ap, flags);                                                                       \
        mode = mode_of(flags, ap);                                                                 \
        va_end(ap);                                                                                \
        return do_open(folder, path, flags, mode);                                                 \
    }
OPENAT(openat)
OPENAT(openat64)

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int folder, const char *path, int flags);
int __openat64_2(int folder, const char *path, int flags);
EXPORT int __open_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}
EXPORT int __open64_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}
EXPORT int __openat_2(int folder, const char *path, int flags)
{
    return do_open(folder, path, flags, 0);
}
EXPORT int __openat64_2(int folder, const char *path, int flags)
{
    return do_open(folder, path, flags, 0);
}

EXPORT int creat(const char *path, mode_t mode)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORT int creat64(const char *path, mode_t mode)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* openat2 has no function of its own. */
EXPORT long syscall(long number, ...)
{
    long arg[6];
    va_list ap;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(ap, long);
    va_end(ap);
    if (number == SYS_openat2) {
        const struct open_how *how = (const struct open_how *)arg[2];

        if (how->flags & (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))) {
            record_begin();
            record_unknown("openat2 that makes a file");
            record_end();
        }
    }
    return REAL(syscall)(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* ---- bytes ---- */

static ssize_t do_pwrite(int fd, const void *bytes, size_t len, off_t off)
{
    struct record record = { .kind = RECORD_WRITE, .off = (uint64_t)off };
    ssize_t n = -1;

    record_begin();
    if (!record_is_file(fd, &record.inode)) {
        record_end(); /* a pipe or a terminal may wait for long */
        return REAL(pwrite)(fd, bytes, len, off);
    }
    if (!record_change_fails(true))
        n = REAL(pwrite)(fd, bytes, len, off);
    if (n > 0)
        record_put(record, bytes, (size_t)n);
    record_end();
    return n;
}
EXPORT ssize_t pwrite(int fd, const void *bytes, size_t len, off_t off)
{
    return do_pwrite(fd, bytes, len, off);
}
EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t off)
{
    return do_pwrite(fd, bytes, len, off);
}

/* Calls that no part of platter makes on images: they go through, and the log says that it lacks
 * them. */
static void note(int fd, const char *call)
{
    uint64_t inode;

    record_begin();
    if (record_is_file(fd, &inode))
        record_unknown(call);
    record_end();
}

EXPORT ssize_t write(int fd, const void *bytes, size_t len)
{
    note(fd, "write");
    return REAL(write)(fd, bytes, len);
}
EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    note(fd, "writev");
    return REAL(writev)(fd, parts, count);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t off)
{
    note(fd, "pwritev");
    return REAL(pwritev)(fd, parts, count, off);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t off)
{
    note(fd, "pwritev");
    return REAL(pwritev64)(fd, parts, count, off);
}
EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t len)
{
    note(out, "sendfile");
    return REAL(sendfile)(out, in, off, len);
}
EXPORT ssize_t sendfile64(int out, int in, off64_t *off, size_t len)
{
    note(out, "sendfile");
    return REAL(sendfile64)(out, in, off, len);
}
EXPORT ssize_t splice(int in, off64_t *in_off, int out, off64_t *out_off, size_t len,
                      unsigned flags)
{
    note(out, "splice");
    return REAL(splice)(in, in_off, out, out_off, len, flags);
}
EXPORT int posix_fallocate(int fd, off_t off, off_t len)
{
    note(fd, "posix_fallocate");
    return REAL(posix_fallocate)(fd, off, len);
}
EXPORT int posix_fallocate64(int fd, off64_t off, off64_t len)
{
    note(fd, "posix_fallocate");
    return REAL(posix_fallocate64)(fd, off, len);
}
static void note_mmap(int fd, int protection, int flags)
{
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE))
        note(fd, "mmap for writing");
}
EXPORT void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t off)
{
    note_mmap(fd, protection, flags);
    return REAL(mmap)(at, len, protection, flags, fd, off);
}
EXPORT void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t off)
{
    note_mmap(fd, protection, flags);
    return REAL(mmap64)(at, len, protection, flags, fd, off);
}

/* ---- copies inside the kernel ---- */

/* Logs what a file has in a range now. */
static void log_range(int fd, uint64_t inode, uint64_t off, uint64_t len)
{
    const int before = errno;
    uint8_t *bytes = malloc(COPY_PIECE);

    while (bytes && len > 0) {
        const size_t piece = len < COPY_PIECE ? (size_t)len : COPY_PIECE;
        const ssize_t n = REAL(pread)(fd, bytes, piece, (off_t)off);

        if (n <= 0)
            break;
        record_put((struct record){ .kind = RECORD_WRITE, .inode = inode, .off = off }, bytes,
                   (size_t)n);
        off += (uint64_t)n, len -= (uint64_t)n;
    }
    if (len > 0)
        record_unknown("a copy whose bytes cannot be read");
    free(bytes);
    errno = before;
}

EXPORT ssize_t copy_file_range(int in, off64_t *in_off, int out, off64_t *out_off, size_t len,
                               unsigned flags)
{
    const uint64_t at = out_off ? (uint64_t)*out_off : (uint64_t)lseek(out, 0, SEEK_CUR);
    uint64_t source, inode;
    bool is_file, fails;
    ssize_t n = -1;

    record_begin();
    is_file = record_is_file(out, &inode);
    fails =
        in_off && record_is_file(in, &source) && record_read_fails(source, (uint64_t)*in_off, len);
    if (!fails && (!is_file || !record_change_fails(true)))
        n = REAL(copy_file_range)(in, in_off, out, out_off, len, flags);
    if (n > 0 && is_file)
        log_range(out, inode, at, (uint64_t)n);
    record_end();
    return n;
}

/* FICLONE and FICLONERANGE. */
static int clone_range(int fd, unsigned long request, void *arg)
{
    const struct file_clone_range *range = arg;
    uint64_t inode;
    struct stat stat;
    int result = -1;

    record_begin();
    if (!record_is_file(fd, &inode))
        result = REAL(ioctl)(fd, request, arg);
    else if (!record_change_fails(true))
        result = REAL(ioctl)(fd, request, arg);
    if (result == 0 && record_is_file(fd, &inode) && fstat(fd, &stat) == 0) {
        const uint64_t at = request == FICLONE ? 0 : range->dest_offset;
        const uint64_t len = request == FICLONE ? 0 : range->src_length;

        log_range(fd, inode, at, len ? len : (uint64_t)stat.st_size - at);
    }
    record_end();
    return result;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (request == FICLONE || request == FICLONERANGE)
        return clone_range(fd, request, arg);
    return REAL(ioctl)(fd, request, arg);
}

/* ---- sizes and zeros ---- */

static int do_ftruncate(int fd, off_t size)
{
    struct record record = { .kind = RECORD_RESIZE, .range = (uint64_t)size };
    bool is_file;
    struct stat stat;
    int result = -1;

    record_begin();
    is_file = record_is_file(fd, &record.inode) && fstat(fd, &stat) == 0;
    if (!is_file || !record_change_fails(size > stat.st_size))
        result = REAL(ftruncate)(fd, size);
    if (result == 0 && is_file)
        record_put(record, NULL, 0);
    record_end();
    return result;
}
EXPORT int ftruncate(int fd, off_t size)
{
    return do_ftruncate(fd, size);
}
EXPORT int ftruncate64(int fd, off64_t size)
{
    return do_ftruncate(fd, size);
}

/* After a fallocate that succeeded. */
static void log_fallocate(struct record record, int mode, uint64_t end, uint64_t size)
{
    const bool zeros = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);

    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        record_unknown("fallocate of a mode");
    if (!(mode & FALLOC_FL_KEEP_SIZE) && end > size)
        record_put((struct record){ .kind = RECORD_RESIZE, .inode = record.inode, .range = end },
                   NULL, 0);
    record.kind = RECORD_ZERO;
    if (zeros)
        record_put(record, NULL, 0);
}

static int do_fallocate(int fd, int mode, off_t off, off_t len)
{
    struct record record = { .off = (uint64_t)off, .range = (uint64_t)len };
    bool is_file;
    struct stat stat;
    int result = -1;

    record_begin();
    is_file = record_is_file(fd, &record.inode) && fstat(fd, &stat) == 0;
    if (!is_file || !record_change_fails(!(mode & FALLOC_FL_PUNCH_HOLE)))
        result = REAL(fallocate)(fd, mode, off, len);
    if (result == 0 && is_file)
        log_fallocate(record, mode, (uint64_t)off + (uint64_t)len, (uint64_t)stat.st_size);
    record_end();
    return result;
}
EXPORT int fallocate(int fd, int mode, off_t off, off_t len)
{
    return do_fallocate(fd, mode, off, len);
}
EXPORT int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
    return do_fallocate(fd, mode, off, len);
}

/* ---- syncs ---- */

static int do_sync(int fd, int (*real)(int))
{
    struct record record = { .kind = RECORD_SYNC };
    bool is_file, is_folder;
    int result = -1;

    record_begin();
    is_file = record_is_file(fd, &record.inode);
    is_folder = !is_file && record_is_folder(fd);
    if ((!is_file && !is_folder) || !record_change_fails(false))
        result = real(fd);
    if (is_folder)
        record.kind = RECORD_SYNC_NAMES;
    if (result == 0 && (is_file || is_folder))
        record_put(record, NULL, 0);
    record_end();
    return result;
}
EXPORT int fsync(int fd)
{
    return do_sync(fd, REAL(fsync));
}
EXPORT int fdatasync(int fd)
{
    return do_sync(fd, REAL(fdatasync));
}

/* For programs that know that they are recorded. */
EXPORT void record_mark(void);
EXPORT void record_mark(void)
{
    record_begin();
    record_put((struct record){ .kind = RECORD_MARK }, NULL, 0);
    record_end();
}

/* ---- reads ---- */

static ssize_t do_pread(int fd, void *buf, size_t len, off_t off)
{
    struct record record = { .kind = RECORD_READ, .off = (uint64_t)off, .range = len };
    bool fails;

    record_begin();
    fails = record_is_file(fd, &record.inode);
    if (fails && record_wants_reads())
        record_put(record, NULL, 0);
    fails = fails && record_read_fails(record.inode, record.off, len);
    record_end();
    return fails ? -1 : REAL(pread)(fd, buf, len, off);
}
EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
    return do_pread(fd, buf, len, off);
}
EXPORT ssize_t pread64(int fd, void *buf, size_t len, off64_t off)
{
    return do_pread(fd, buf, len, off);
}
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t off, size_t room);
EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t off, size_t room)
{
    if (len > room)
        abort();
    return do_pread(fd, buf, len, off);
}
