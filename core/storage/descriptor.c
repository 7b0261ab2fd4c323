#include "core/storage/descriptor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/change.h"

struct pl_descriptor *pl_descriptor_of(struct pl_storage *st)
{
    return (struct pl_descriptor *)st;
}

int pl_descriptor_create(const struct pl_storage_ops *ops, int fd, const char *path, bool writable,
                         struct pl_descriptor **out, struct pl_err *e)
{
    struct pl_descriptor *d = calloc(1, sizeof *d);

    if (!d) {
        close(fd);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open it", path ? path : "a file");
    }
    d->base = (struct pl_storage){
        .ops = ops,
        .name = strdup(path ? path : ops->kind),
        .path = path ? strdup(path) : NULL,
        .block = 4096,
        .writable = writable,
    };
    d->fd = fd;
    pl_settle_init(&d->settle);
    pl_lock_init(&d->lock);
    if (!d->base.name || (path && !d->base.path)) {
        pl_descriptor_close(&d->base, NULL);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open it", path ? path : "a file");
    }
    *out = d;
    return 0;
}

int pl_descriptor_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    const int fd = pl_descriptor_of(st)->fd;
    size_t done = 0;

    if (!pl_inside(off, len, PL_OFFSET_MAX))
        return pl_past_end(st, off, len, pl_storage_size(st), e);
    while (done < len) {
        const ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(off + done));

        if (n == 0)
            return pl_past_end(st, off, len, pl_storage_size(st), e);
        if (n < 0 && errno != EINTR)
            return pl_fail_sys(e, errno, "%s: reading %zu bytes at 0x%" PRIx64, st->name,
                               len - done, off + done);
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

int pl_descriptor_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                        struct pl_err *e)
{
    const int fd = pl_descriptor_of(st)->fd;
    size_t done = 0;

    while (done < len) {
        const ssize_t n = pwrite(fd, (const uint8_t *)buf + done, len - done, (off_t)(off + done));

        if (n == 0 || (n < 0 && errno != EINTR))
            return pl_fail_sys(e, n ? errno : EIO, "%s: writing %zu bytes at 0x%" PRIx64, st->name,
                               len - done, off + done);
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

/* The kernel reports a failed write-back once and then takes the pages for clean, so a second flush
 * would succeed over lost bytes: the first failure is final. */
int pl_descriptor_flush(struct pl_storage *st, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);
    int none = 0;
    int error = atomic_load(&d->sync_error);

    if (!st->writable)
        return 0;
    if (!error)
        error = atomic_load(&d->settle.error);
    if (!error) {
        while (fdatasync(d->fd) < 0) {
            error = errno;
            if (error != EINTR)
                break;
            error = 0;
        }
    }
    if (!error)
        return 0;
    atomic_compare_exchange_strong(&d->sync_error, &none, error);
    return pl_fail_sys(e, error, "%s: bringing it to stable storage", st->name);
}

void pl_descriptor_settle(struct pl_storage *st, uint64_t off, uint64_t len)
{
    struct pl_descriptor *d = pl_descriptor_of(st);

    if (st->writable)
        pl_settle(&d->settle, d->fd, off, len);
}

int pl_descriptor_close(struct pl_storage *st, struct pl_err *e)
{
    struct pl_descriptor *d = pl_descriptor_of(st);
    int result = 0;

    /* EINTR: Linux has closed it all the same. */
    if (close(d->fd) < 0 && errno != EINTR)
        result = pl_fail_sys(e, errno, "%s: closing it", st->name);
    pl_settle_destroy(&d->settle);
    pl_lock_destroy(&d->lock);
    free(st->name);
    free(st->path);
    free(d);
    return result;
}
