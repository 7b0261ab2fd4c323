/* copy.c - bytes from one storage to another in the cheapest way there is. */
#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/change.h"

#define COPY_PIECE (1u << 20)

/* The smallest unit that a file system shares is its block, 4 KiB nearly everywhere; one with
 * larger blocks refuses and the bytes are copied. */
#define CLONE_UNIT 4096

static int descriptor_of(struct pl_storage *st, uint64_t off, uint64_t *fd_off)
{
    return st->ops->descriptor ? st->ops->descriptor(st, off, fd_off) : -1;
}

/* What is left to copy. */
struct copy {
    struct pl_storage *dst, *src;
    uint64_t dst_off, src_off, len;
};

static void advance(struct copy *c, uint64_t len)
{
    c->dst_off += len;
    c->src_off += len;
    c->len -= len;
}

/* Shares the blocks of the aligned part at the start.  Whatever the kernel declines is left. */
static void clone_blocks(struct copy *c, int dst_fd, uint64_t to, int src_fd, uint64_t from)
{
    const uint64_t len = pl_round_down(c->len, CLONE_UNIT);
    struct file_clone_range range = {
        .src_fd = src_fd, .src_offset = from, .src_length = len, .dest_offset = to
    };

    if (len > 0 && from % CLONE_UNIT == 0 && to % CLONE_UNIT == 0 &&
        ioctl(dst_fd, FICLONERANGE, &range) == 0)
        advance(c, len);
}

/* Copies until it is done or the kernel declines: other file systems, kinds of files that it cannot
 * do, or an error that the copy through a buffer will meet again and report. */
static void copy_ranges(struct copy *c, int dst_fd, uint64_t to, int src_fd, uint64_t from)
{
    loff_t in = (loff_t)from, out = (loff_t)to;

    while (c->len > 0) {
        const ssize_t n =
            copy_file_range(src_fd, &in, dst_fd, &out, (size_t)PL_MIN(c->len, PL_GIB), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        advance(c, (uint64_t)n);
    }
}

static void copy_in_kernel(struct copy *c)
{
    const uint64_t len = c->len;
    uint64_t to, from, done;
    const int dst_fd = descriptor_of(c->dst, c->dst_off, &to);
    const int src_fd = descriptor_of(c->src, c->src_off, &from);

    if (dst_fd < 0 || src_fd < 0)
        return;
    clone_blocks(c, dst_fd, to, src_fd, from);
    done = len - c->len;
    copy_ranges(c, dst_fd, to + done, src_fd, from + done);
}

static int copy_by_buffer(struct copy *c, struct pl_err *e)
{
    const size_t piece = (size_t)PL_MIN(c->len, COPY_PIECE);
    PL_FREE uint8_t *buf = pl_buffer(piece);

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to copy from %s", c->dst->name, c->src->name);
    while (c->len > 0) {
        const size_t now = (size_t)PL_MIN(c->len, piece);

        if (pl_storage_read_padded(c->src, c->src_off, buf, now, e) < 0 ||
            pl_storage_write(c->dst, c->dst_off, buf, now, e) < 0)
            return -1;
        advance(c, now);
    }
    return 0;
}

int pl_storage_copy(struct pl_storage *dst, uint64_t dst_off, struct pl_storage *src,
                    uint64_t src_off, uint64_t len, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(src);
    const uint64_t inside = src_off < size ? PL_MIN(len, size - src_off) : 0;
    struct copy c = { dst, src, dst_off, src_off, inside };

    if (pl_check_change(dst, dst_off, len, e) < 0)
        return -1;
    if (c.len > 0) {
        copy_in_kernel(&c);
        if (c.len > 0 && copy_by_buffer(&c, e) < 0)
            return -1;
    }
    return pl_storage_zero(dst, dst_off + inside, len - inside, e);
}

/* Asks for one byte, which is no whole block: a file system that shares refuses that, one that
 * does not says so first. */
bool pl_storage_can_share(struct pl_storage *dst, struct pl_storage *src)
{
    struct file_clone_range range = { .src_length = 1 };
    uint64_t from, to;
    const int src_fd = descriptor_of(src, 0, &from), dst_fd = descriptor_of(dst, 0, &to);

    range.src_fd = src_fd;
    return src_fd >= 0 && dst_fd >= 0 && pl_storage_size(src) > 1 &&
           ioctl(dst_fd, FICLONERANGE, &range) < 0 && errno == EINVAL;
}
