#include "core/storage/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/base/buffer.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/storage/file.h"

#define SPOOL_PIECE (1u << 20)

/* It has a name for messages but no path: names in an image that comes this way lead nowhere. */
static int without_path(int fd, const char *name, bool writable, struct pl_storage **out,
                        struct pl_err *e)
{
    if (pl_file_storage(fd, name, writable, out, e) < 0)
        return -1;
    free(pl_take((*out)->path));
    return 0;
}

int pl_spool_file(const char *name, struct pl_storage **out, struct pl_err *e)
{
    const char *dir = getenv("TMPDIR");
    int fd;

    if (!dir || !*dir)
        dir = "/var/tmp";
    fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        pl_fail_sys(e, errno, "%s: making a temporary file for %s", dir, name);
        return pl_hint(e, "TMPDIR names another folder");
    }
    return without_path(fd, name, true, out, e);
}

/* As much as there is, up to SPOOL_PIECE; 0 at the end. */
static ssize_t read_piece(uint8_t *buf, struct pl_err *e)
{
    size_t len = 0;

    while (len < SPOOL_PIECE) {
        const ssize_t n = read(STDIN_FILENO, buf + len, SPOOL_PIECE - len);

        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return pl_fail_sys(e, errno, "reading standard input");
        if (n > 0)
            len += (size_t)n;
    }
    return (ssize_t)len;
}

static int copy_stdin(struct pl_storage *spool, struct pl_err *e)
{
    PL_FREE uint8_t *buf = pl_buffer(SPOOL_PIECE);
    uint64_t off = 0;
    ssize_t len;

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "no memory to read standard input");
    while ((len = read_piece(buf, e)) > 0) {
        if (!pl_is_zero(buf, (size_t)len) && pl_storage_write(spool, off, buf, (size_t)len, e) < 0)
            return -1;
        pl_storage_settle(spool, off, (uint64_t)len);
        off += (uint64_t)len;
    }
    return len < 0 ? -1 : pl_storage_resize(spool, off, e);
}

int pl_spool_stdin(struct pl_storage **out, struct pl_err *e)
{
    struct pl_storage *spool;
    struct stat st;

    if (fstat(STDIN_FILENO, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        const int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);

        if (fd < 0)
            return pl_fail_sys(e, errno, "standard input");
        return without_path(fd, "standard input", false, out, e);
    }
    if (pl_spool_file("standard input", &spool, e) < 0)
        return -1;
    if (copy_stdin(spool, e) < 0) {
        pl_storage_close(spool, NULL);
        return -1;
    }
    *out = spool;
    return 0;
}
