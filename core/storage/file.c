/* file.c - regular files.
 *
 * The size is asked of the kernel each time: copies inside the kernel and other processes change it
 * behind our back.  Nothing here grows a file by ftruncate but resize, which has the file to
 * itself: between asking for the size and setting it another thread may have written further out,
 * and the cut would lose its bytes.  Ranges grow the file by writing their last byte. */
#include "core/storage/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/change.h"
#include "core/storage/descriptor.h"
#include "core/storage/output.h"

/* Below that, writing zeros is cheaper than changing the file's block map. */
#define PUNCH_MIN 4096

static bool is_unsupported(int sys)
{
    return sys == EOPNOTSUPP || sys == ENOSYS || sys == EINVAL || sys == EPERM;
}

static int allocate(int fd, int mode, uint64_t off, uint64_t len)
{
    int result;

    do
        result = fallocate(fd, mode, (off_t)off, (off_t)len);
    while (result < 0 && errno == EINTR);
    return result;
}

static uint64_t file_size(struct pl_storage *st)
{
    struct stat stat;

    return fstat(pl_descriptor_of(st)->fd, &stat) == 0 ? (uint64_t)stat.st_size : 0;
}

static uint64_t file_disk_usage(struct pl_storage *st)
{
    struct stat stat;

    return fstat(pl_descriptor_of(st)->fd, &stat) == 0 ? (uint64_t)stat.st_blocks * 512 : 0;
}

static bool file_id(struct pl_storage *st, struct pl_storage_id *id)
{
    struct stat stat;

    if (fstat(pl_descriptor_of(st)->fd, &stat) < 0)
        return false;
    *id = (struct pl_storage_id){ stat.st_dev, stat.st_ino };
    return true;
}

/* Gives the blocks of a range back without changing the size.  1: the file system cannot. */
static int punch(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    if (atomic_load(&d->no_punch))
        return 1;
    if (allocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len) == 0)
        return 0;
    if (!is_unsupported(errno))
        return pl_fail_sys(e, errno, "%s: punching a hole of %" PRIu64 " bytes at 0x%" PRIx64,
                           st->name, len, off);
    atomic_store(&d->no_punch, true);
    return 1;
}

/* Zeros that keep their blocks.  1: the file system cannot. */
static int zero_range(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    if (atomic_load(&d->no_zero_range))
        return 1;
    if (allocate(d->fd, FALLOC_FL_ZERO_RANGE, off, len) == 0)
        return 0;
    if (!is_unsupported(errno))
        return pl_fail_sys(e, errno, "%s: zeroing %" PRIu64 " bytes at 0x%" PRIx64, st->name, len,
                           off);
    atomic_store(&d->no_zero_range, true);
    return 1;
}

/* Makes the file reach to `end`, the end of a range that nobody else touches. */
static int grow_to(struct pl_storage *st, uint64_t end, struct pl_err *e)
{
    return pl_descriptor_write(st, end - 1, "", 1, e);
}

static int file_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    const uint64_t size = file_size(st);
    int result;

    if (len < PUNCH_MIN)
        return pl_write_zeros(st, off, len, e);
    if (off + len > size && grow_to(st, off + len, e) < 0)
        return -1;
    result = punch(st, off, len, e);
    if (result != 1)
        return result;
    if (off >= size) /* all of it is new, and new bytes are zeros */
        return 0;
    result = zero_range(st, off, len, e);
    return result == 1 ? pl_write_zeros(st, off, PL_MIN(len, size - off), e) : result;
}

static int file_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    return punch(st, off, len, e) < 0 ? -1 : 0;
}

static int file_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    while (ftruncate(pl_descriptor_of(st)->fd, (off_t)size) < 0)
        if (errno != EINTR)
            return pl_fail_sys(e, errno, "%s: setting its size to %" PRIu64, st->name, size);
    return 0;
}

static int file_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                    struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);
    off_t data, end;

    (void)e;
    *hole = false;
    if (atomic_load(&d->no_seek_hole))
        return 0;
    data = lseek(d->fd, (off_t)off, SEEK_DATA);
    if (data < 0 && errno != ENXIO) { /* not known: data, which is never wrong */
        atomic_store(&d->no_seek_hole, true);
        return 0;
    }
    *hole = data < 0 || (uint64_t)data > off;
    end = *hole ? data : lseek(d->fd, (off_t)off, SEEK_HOLE);
    if (end >= 0 && (uint64_t)end > off)
        *len = PL_MIN(*len, (uint64_t)end - off);
    return 0;
}

/* Writes zeros where a range has no blocks, so that later writes find room. */
static int fill_holes(struct pl_storage *st, uint64_t off, uint64_t end, struct pl_err *e)
{
    const uint64_t size = PL_MIN(file_size(st), end);

    while (off < size) {
        uint64_t len = size - off;
        bool hole;

        if (file_map(st, off, &len, &hole, e) < 0 || (hole && pl_write_zeros(st, off, len, e) < 0))
            return -1;
        off += len;
    }
    return off < end ? pl_write_zeros(st, off, end - off, e) : 0;
}

static int file_reserve(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    if (allocate(pl_descriptor_of(st)->fd, 0, off, len) == 0)
        return 0;
    if (is_unsupported(errno))
        return fill_holes(st, off, off + len, e);
    return pl_fail_sys(e, errno, "%s: reserving %" PRIu64 " bytes at 0x%" PRIx64, st->name, len,
                       off);
}

static void file_reserve_ahead(struct pl_storage *st, uint64_t off, uint64_t len)
{
    /* A hint: where it fails, the writes tell. */
    (void)!allocate(pl_descriptor_of(st)->fd, FALLOC_FL_KEEP_SIZE, off, len);
}

static int file_descriptor(struct pl_storage *st, uint64_t off, uint64_t *fd_off)
{
    *fd_off = off;
    return pl_descriptor_of(st)->fd;
}

static const struct pl_storage_ops file_ops = {
    .kind = "file",
    .read = pl_descriptor_read,
    .write = pl_descriptor_write,
    .zero = file_zero,
    .discard = file_discard,
    .resize = file_resize,
    .reserve = file_reserve,
    .reserve_ahead = file_reserve_ahead,
    .flush = pl_descriptor_flush,
    .replace = pl_output_replace,
    .map = file_map,
    .size = file_size,
    .disk_usage = file_disk_usage,
    .id = file_id,
    .descriptor = file_descriptor,
    .settle = pl_descriptor_settle,
    .close = pl_descriptor_close,
};

static int regular_file_storage(int fd, const char *path, bool writable, uint32_t block,
                                struct pl_storage **out, struct pl_err *e)
{
    struct pl_descriptor *d;

    if (pl_descriptor_create(&file_ops, fd, path, writable, &d, e) < 0)
        return -1;
    if (block >= 512 && block <= PL_MIB && pl_is_pow2(block))
        d->base.block = block;
    *out = &d->base;
    return 0;
}

int pl_file_storage(int fd, const char *path, bool writable, struct pl_storage **out,
                    struct pl_err *e)
{
    const char *name = path ? path : "a file";
    struct stat stat;

    if (fstat(fd, &stat) < 0) {
        const int sys = errno;

        close(fd);
        return pl_fail_sys(e, sys, "%s", name);
    }
    switch (stat.st_mode & S_IFMT) {
    case S_IFREG:
        return regular_file_storage(fd, path, writable, (uint32_t)stat.st_blksize, out, e);
    case S_IFBLK:
        return pl_block_device_storage(fd, path, writable, out, e);
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
        return pl_pipe_storage(fd, path, writable, out, e);
    default:
        close(fd);
        return pl_fail(e, PL_E_INVALID, "%s: is %s, not a file or device", name,
                       S_ISDIR(stat.st_mode) ? "a folder" : "neither readable nor writable");
    }
}

bool pl_file_changed_at(struct pl_storage *st, uint64_t *ns)
{
    const int fd = pl_file_descriptor(st);
    struct stat stat;

    if (fd < 0 || fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode) || stat.st_mtim.tv_sec < 0)
        return false;
    *ns = (uint64_t)stat.st_mtim.tv_sec * UINT64_C(1000000000) + (uint64_t)stat.st_mtim.tv_nsec;
    return true;
}

int pl_file_descriptor(struct pl_storage *st)
{
    return st->ops->close == pl_descriptor_close ? pl_descriptor_of(st)->fd : -1;
}
