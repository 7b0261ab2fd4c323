#include "core/storage/gunzip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/storage/spool.h"

#define PIECE (1u << 18)

/* windowBits of zlib: the largest window, and a gzip wrapper */
#define GZIP_WINDOW (15 + 16)

struct gunzip {
    struct pl_storage *packed, *spool;
    uint64_t limit;
    uint64_t in, out; /* bytes read and written so far */
    uint64_t in_size;
    z_stream z;
    uint8_t *in_buf, *out_buf; /* PIECE bytes each */
    const struct pl_report *report;
};

/* Reads on when the input buffer is empty; at the end it stays empty. */
static int fill(struct gunzip *g, struct pl_err *e)
{
    const size_t len = (size_t)PL_MIN(PIECE, g->in_size - g->in);

    if (g->z.avail_in > 0 || len == 0)
        return 0;
    if (pl_check_cancelled(g->report, e) < 0 ||
        pl_storage_read(g->packed, g->in, g->in_buf, len, e) < 0)
        return -1;
    g->in += len;
    g->z.next_in = g->in_buf;
    g->z.avail_in = (uInt)len;
    pl_progress(g->report, g->in, g->in_size);
    return 0;
}

static int drain(struct gunzip *g, struct pl_err *e)
{
    const size_t len = PIECE - g->z.avail_out;

    if (len > g->limit - g->out) {
        pl_fail(e, PL_E_LIMIT, "%s: unpacks to more than the %" PRIu64 " bytes that it may hold",
                g->packed->name, g->limit);
        return pl_hint(e, "if the file is known to be good, unpack it with gzip first");
    }
    if (!pl_is_zero(g->out_buf, len) && pl_storage_write(g->spool, g->out, g->out_buf, len, e) < 0)
        return -1;
    pl_storage_settle(g->spool, g->out, len);
    g->out += len;
    g->z.next_out = g->out_buf;
    g->z.avail_out = PIECE;
    return 0;
}

static int damaged(const struct gunzip *g, struct pl_err *e)
{
    const uint64_t at = g->in - g->z.avail_in;

    if (at == g->in_size)
        return pl_fail(e, PL_E_CORRUPT, "%s: the gzip data is cut off after %" PRIu64 " bytes",
                       g->packed->name, at);
    return pl_fail(e, PL_E_CORRUPT, "%s: is no gzip data, or damaged, near 0x%" PRIx64,
                   g->packed->name, at);
}

/* One member, up to its trailer. */
static int unpack_member(struct gunzip *g, struct pl_err *e)
{
    int result;

    do {
        if (fill(g, e) < 0)
            return -1;
        result = inflate(&g->z, Z_NO_FLUSH);
        if (result == Z_MEM_ERROR)
            return pl_fail(e, PL_E_NOMEM, "%s: no memory to unpack it", g->packed->name);
        if (result != Z_OK && result != Z_STREAM_END)
            return damaged(g, e);
        if ((g->z.avail_out == 0 || result == Z_STREAM_END) && drain(g, e) < 0)
            return -1;
    } while (result != Z_STREAM_END);
    return 0;
}

/* Steps over zeros, which tapes and tools leave behind a member. */
static int skip_zeros(struct gunzip *g, struct pl_err *e)
{
    do {
        if (fill(g, e) < 0)
            return -1;
        while (g->z.avail_in > 0 && *g->z.next_in == 0) {
            g->z.next_in++;
            g->z.avail_in--;
        }
    } while (g->z.avail_in == 0 && g->in < g->in_size);
    return 0;
}

static int unpack(struct gunzip *g, struct pl_err *e)
{
    do {
        if (unpack_member(g, e) < 0 || skip_zeros(g, e) < 0)
            return -1;
        if (inflateReset(&g->z) != Z_OK)
            return pl_fail(e, PL_E_NOMEM, "%s: no memory to unpack it", g->packed->name);
    } while (g->z.avail_in > 0);
    return pl_storage_resize(g->spool, g->out, e);
}

static int unpack_into(struct pl_storage *spool, struct pl_storage *packed, uint64_t limit,
                       const struct pl_report *report, struct pl_err *e)
{
    PL_FREE uint8_t *in_buf = pl_buffer(PIECE);
    PL_FREE uint8_t *out_buf = pl_buffer(PIECE);
    struct gunzip g = { .packed = packed,
                        .spool = spool,
                        .limit = limit,
                        .in_size = pl_storage_size(packed),
                        .in_buf = in_buf,
                        .out_buf = out_buf,
                        .report = report };
    int result;

    g.z.next_out = out_buf;
    g.z.avail_out = PIECE;
    if (!in_buf || !out_buf || inflateInit2(&g.z, GZIP_WINDOW) != Z_OK)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to unpack it", packed->name);
    result = unpack(&g, e);
    inflateEnd(&g.z);
    return result;
}

int pl_gunzip(struct pl_storage *packed, uint64_t limit, const struct pl_report *report,
              struct pl_storage **out, struct pl_err *e)
{
    struct pl_storage *spool;

    if (pl_spool_file(packed->name, &spool, e) < 0)
        return -1;
    if (unpack_into(spool, packed, limit, report, e) < 0) {
        pl_storage_close(spool, NULL);
        return -1;
    }
    spool->writable = false;
    *out = spool;
    return 0;
}
