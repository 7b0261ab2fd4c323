#include "core/storage/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/base/checked.h"

#define USES 100  /* + permission */
#define KEEPS 200 /* + permission: not shared with others */

enum { CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE };

/* What a reader locks; a writer locks the second list as well. */
static const uint8_t reader_bytes[] = { USES + CONSISTENT_READ, KEEPS + WRITE, KEEPS + RESIZE };
static const uint8_t writer_bytes[] = { USES + WRITE, USES + RESIZE };

/* The bytes that nobody else may have locked, the same way. */
static const uint8_t reader_probes[] = { KEEPS + CONSISTENT_READ, USES + WRITE, USES + RESIZE };
static const uint8_t writer_probes[] = { KEEPS + WRITE, KEEPS + RESIZE };

struct bytes {
    const uint8_t *byte;
    size_t count;
};

#define BYTES(array) ((struct bytes){ array, PL_COUNT(array) })

static int call(int fd, int command, uint8_t byte, short type, struct flock *lock)
{
    int result;

    *lock = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    do
        result = fcntl(fd, command, lock);
    while (result < 0 && errno == EINTR);
    return result;
}

/* The first byte that somebody has locked for writing, which QEMU never does; 0: we have them
 * all, or the file system knows no locks. */
static uint8_t take(int fd, struct bytes bytes)
{
    struct flock lock;

    for (size_t i = 0; i < bytes.count; i++)
        if (call(fd, F_OFD_SETLK, bytes.byte[i], F_RDLCK, &lock) < 0 &&
            (errno == EAGAIN || errno == EACCES))
            return bytes.byte[i];
    return 0;
}

static void drop(int fd, struct bytes bytes)
{
    struct flock lock;

    for (size_t i = 0; i < bytes.count; i++)
        call(fd, F_OFD_SETLK, bytes.byte[i], F_UNLCK, &lock);
}

/* The first byte that somebody else has locked; 0: none. */
static uint8_t probe(int fd, struct bytes bytes)
{
    struct flock lock;

    for (size_t i = 0; i < bytes.count; i++)
        if (call(fd, F_OFD_GETLK, bytes.byte[i], F_WRLCK, &lock) == 0 && lock.l_type != F_UNLCK)
            return bytes.byte[i];
    return 0;
}

static int locked(int fd, uint8_t byte, enum pl_access access, const char *name, struct pl_err *e)
{
    struct pl_lock_holder holder;

    if (!pl_lock_holder_find(fd, byte, &holder))
        pl_fail(e, PL_E_LOCKED, "%s: in use by another process", name);
    else if (holder.pid == getpid())
        pl_fail(e, PL_E_LOCKED, "%s: in use by this process already", name);
    else
        pl_fail(e, PL_E_LOCKED, "%s: in use by process %d (%s)", name, (int)holder.pid,
                holder.program);
    return pl_hint(e, "%s",
                   access == PL_READ ? "stop it, or use -U (--force-share) to read it all the same"
                                     : "stop it first");
}

int pl_lock_raise(int fd, const char *name, struct pl_err *e)
{
    uint8_t conflict = take(fd, BYTES(writer_bytes));

    if (!conflict)
        conflict = probe(fd, BYTES(writer_probes));
    if (!conflict)
        return 0;
    drop(fd, BYTES(writer_bytes));
    return locked(fd, conflict, PL_READ_WRITE, name, e);
}

void pl_lock_lower(int fd)
{
    drop(fd, BYTES(writer_bytes));
}

int pl_lock_file(int fd, enum pl_access access, const char *name, struct pl_err *e)
{
    uint8_t conflict = take(fd, BYTES(reader_bytes));

    if (!conflict)
        conflict = probe(fd, BYTES(reader_probes));
    if (!conflict && access == PL_READ_WRITE) {
        conflict = take(fd, BYTES(writer_bytes));
        if (!conflict)
            conflict = probe(fd, BYTES(writer_probes));
    }
    if (!conflict)
        return 0;
    drop(fd, BYTES(reader_bytes));
    drop(fd, BYTES(writer_bytes));
    return locked(fd, conflict, access, name, e);
}
