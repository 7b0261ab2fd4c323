/* block_device.c - disks and partitions of the host.  I/O goes through the page cache, so ranges
 * need no alignment; the two commands that the device itself carries out get whole pages of the
 * range, which every sector size divides. */
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/change.h"
#include "core/storage/descriptor.h"

static uint64_t device_unit(const struct pl_storage *st)
{
    return PL_MAX(st->block, 4096);
}

static bool is_unsupported(int sys)
{
    return sys == EOPNOTSUPP || sys == ENOTTY || sys == EINVAL || sys == ENOSYS;
}

/* A range by its ends. */
struct span {
    uint64_t from, to;
};

/* Has the device do something to the whole units inside *span, which shrinks to them.  1: there
 * are none, or the device cannot. */
static int command(struct pl_storage *st, unsigned long request, struct span *span)
{
    const uint64_t unit = device_unit(st);
    const uint64_t from = pl_round_up(span->from, unit);
    const uint64_t to = pl_round_down(span->to, unit);
    const uint64_t arg[2] = { from, to - from };

    if (from >= to)
        return 1;
    if (ioctl(pl_descriptor_of(st)->fd, request, arg) < 0)
        return is_unsupported(errno) ? 1 : -1;
    *span = (struct span){ from, to };
    return 0;
}

static int device_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    const uint64_t end = off + len;
    struct span done = { off, end };
    const int result = command(st, BLKZEROOUT, &done);

    if (result < 0)
        return pl_fail_sys(e, errno, "%s: zeroing %" PRIu64 " bytes at 0x%" PRIx64, st->name, len,
                           off);
    if (result == 1)
        return pl_write_zeros(st, off, len, e);
    if (off < done.from && pl_write_zeros(st, off, done.from - off, e) < 0)
        return -1;
    return done.to < end ? pl_write_zeros(st, done.to, end - done.to, e) : 0;
}

static int device_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct span span = { off, off + len };

    if (command(st, BLKDISCARD, &span) < 0)
        return pl_fail_sys(e, errno, "%s: discarding %" PRIu64 " bytes at 0x%" PRIx64, st->name,
                           len, off);
    return 0;
}

static int device_reserve(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    /* A device has all its blocks; pl_storage_preallocate has checked the range. */
    (void)st, (void)off, (void)len, (void)e;
    return 0;
}

static uint64_t device_size(struct pl_storage *st)
{
    return pl_descriptor_of(st)->size;
}

static bool device_id(struct pl_storage *st, struct pl_storage_id *id)
{
    struct stat stat;

    if (fstat(pl_descriptor_of(st)->fd, &stat) < 0)
        return false;
    /* The device itself, however many nodes it has; no file has that inode number. */
    *id = (struct pl_storage_id){ stat.st_rdev, UINT64_MAX };
    return true;
}

static const struct pl_storage_ops device_ops = {
    .kind = "block device",
    .read = pl_descriptor_read,
    .write = pl_descriptor_write,
    .zero = device_zero,
    .discard = device_discard,
    .reserve = device_reserve,
    .flush = pl_descriptor_flush,
    .size = device_size,
    .id = device_id,
    .settle = pl_descriptor_settle,
    .close = pl_descriptor_close,
};

/* Size and sector size.  A device whose sector size is odd gets the default block. */
static int ask(struct pl_descriptor *d, struct pl_err *e)
{
    unsigned physical = 0;
    int logical = 0;

    if (ioctl(d->fd, BLKGETSIZE64, &d->size) < 0)
        return pl_fail_sys(e, errno, "%s: asking for its size", d->base.name);
    if (d->size > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: is larger than any file", d->base.name);
    if (ioctl(d->fd, BLKSSZGET, &logical) < 0 || logical < 512)
        logical = 512;
    if (ioctl(d->fd, BLKPBSZGET, &physical) < 0 || physical < (unsigned)logical)
        physical = (unsigned)logical;
    if (pl_is_pow2(physical) && physical <= PL_MIB)
        d->base.block = physical;
    return 0;
}

int pl_block_device_storage(int fd, const char *path, bool writable, struct pl_storage **out,
                            struct pl_err *e)
{
    struct pl_descriptor *d;

    if (pl_descriptor_create(&device_ops, fd, path, writable, &d, e) < 0)
        return -1;
    d->base.device = true;
    if (ask(d, e) < 0) {
        pl_descriptor_close(&d->base, NULL);
        return -1;
    }
    *out = &d->base;
    return 0;
}
