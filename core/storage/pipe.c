/* pipe.c - bytes that only pass by: pipes, sockets, terminals, standard output. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/change.h"
#include "core/storage/descriptor.h"

/* After a call that failed: true when it may succeed now.  Whoever gave us the descriptor may have
 * made it non-blocking. */
static bool try_again(int fd, short event)
{
    struct pollfd ready = { .fd = fd, .events = event };

    if (errno == EINTR)
        return true;
    return errno == EAGAIN && (poll(&ready, 1, -1) >= 0 || errno == EINTR);
}

static int pipe_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);
    size_t done = 0;

    PL_LOCKED(&d->lock);
    if (off != d->position)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%s: is a pipe, read up to 0x%" PRIx64 ": it cannot go to 0x%" PRIx64,
                       st->name, d->position, off);
    while (done < len) {
        const ssize_t n = read(d->fd, (uint8_t *)buf + done, len - done);

        if (n == 0)
            return pl_past_end(st, off, len, d->position, e);
        if (n < 0 && !try_again(d->fd, POLLIN))
            return pl_fail_sys(e, errno, "%s: reading at 0x%" PRIx64, st->name, d->position);
        if (n > 0) {
            done += (size_t)n;
            d->position += (uint64_t)n;
        }
    }
    return 0;
}

static int append(struct pl_descriptor *d, const uint8_t *bytes, size_t len, struct pl_err *e)
    PL_NEEDS(&d->lock);
static int append(struct pl_descriptor *d, const uint8_t *bytes, size_t len, struct pl_err *e)
{
    while (len > 0) {
        const ssize_t n = write(d->fd, bytes, len);

        if (n < 0 && !try_again(d->fd, POLLOUT))
            return pl_fail_sys(e, errno, "%s: writing at 0x%" PRIx64, d->base.name, d->position);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
            d->position += (uint64_t)n;
        }
    }
    return 0;
}

/* Zeros from here to `off`. */
static int fill_gap(struct pl_descriptor *d, uint64_t off, struct pl_err *e) PL_NEEDS(&d->lock);
static int fill_gap(struct pl_descriptor *d, uint64_t off, struct pl_err *e)
{
    static const uint8_t zeros[65536];

    while (d->position < off)
        if (append(d, zeros, (size_t)PL_MIN(off - d->position, sizeof zeros), e) < 0)
            return -1;
    return 0;
}

static int pipe_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                      struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    PL_LOCKED(&d->lock);
    if (off < d->position) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "%s: is a pipe, written up to 0x%" PRIx64 ": it cannot go back to 0x%" PRIx64,
                st->name, d->position, off);
        return pl_hint(e, "write to a file, or choose a format that is written from front to back");
    }
    return fill_gap(d, off, e) < 0 ? -1 : append(d, buf, len, e);
}

static int pipe_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    PL_LOCKED(&d->lock);
    if (size < d->position)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%s: is a pipe: 0x%" PRIx64 " bytes are gone, it cannot end at 0x%" PRIx64,
                       st->name, d->position, size);
    d->promised = size;
    return 0;
}

static int pipe_flush(struct pl_storage *st, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    if (!st->writable)
        return 0;
    {
        PL_LOCKED(&d->lock);
        if (fill_gap(d, d->promised, e) < 0)
            return -1;
    }
    /* What cannot be synced (pipes, terminals: EINVAL, EROFS) needs none; a regular file can. */
    if (fdatasync(d->fd) < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT))
        return pl_fail_sys(e, errno, "%s: bringing it to stable storage", st->name);
    return 0;
}

static uint64_t pipe_size(struct pl_storage *st)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    if (!st->writable)
        return UINT64_MAX;
    PL_LOCKED(&d->lock);
    return PL_MAX(d->position, d->promised);
}

static const struct pl_storage_ops pipe_ops = {
    .kind = "pipe",
    .read = pipe_read,
    .write = pipe_write,
    .resize = pipe_resize,
    .flush = pipe_flush,
    .size = pipe_size,
    .close = pl_descriptor_close,
};

int pl_pipe_storage(int fd, const char *path, bool writable, struct pl_storage **out,
                    struct pl_err *e)
{
    struct pl_descriptor *d;

    if (pl_descriptor_create(&pipe_ops, fd, path, writable, &d, e) < 0)
        return -1;
    d->base.sequential = true;
    *out = &d->base;
    return 0;
}
