#include "core/storage/change.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"

#define ZEROS_PIECE (1u << 20)

bool pl_is_fixed(const struct pl_storage *st)
{
    return !st->ops->resize && !st->sequential;
}

int pl_check_change(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    uint64_t end;

    if (!st->writable || !st->ops->write)
        return pl_fail(e, PL_E_INVALID, "%s: is open for reading only", st->name);
    if (!pl_add(off, len, &end) || end > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "%s: [0x%" PRIx64 ", +0x%" PRIx64 ") is beyond any file's size", st->name,
                       off, len);
    if (pl_is_fixed(st) && end > pl_storage_size(st)) {
        pl_fail(e, PL_E_NO_SPACE,
                "%s: [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of this %s (0x%" PRIx64 ")",
                st->name, off, len, st->ops->kind, pl_storage_size(st));
        return pl_hint(e, "its size is fixed; use a larger one");
    }
    return 0;
}

int pl_write_zeros(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    const size_t piece = (size_t)PL_MIN(len, ZEROS_PIECE);
    PL_FREE uint8_t *zeros = pl_buffer(piece);

    if (!zeros)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to write zeros", st->name);
    memset(zeros, 0, piece);
    while (len > 0) {
        const size_t now = (size_t)PL_MIN(len, piece);

        if (st->ops->write(st, off, zeros, now, e) < 0)
            return -1;
        off += now;
        len -= now;
    }
    return 0;
}

int pl_past_end(const struct pl_storage *st, uint64_t off, uint64_t len, uint64_t size,
                struct pl_err *e)
{
    pl_fail(e, PL_E_CORRUPT,
            "%s: [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of the %s (0x%" PRIx64 ")",
            st->name, off, len, st->ops->kind, size);
    return pl_hint(e, "the copy may be incomplete; compare its size with the original");
}
