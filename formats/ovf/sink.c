#include "formats/ovf/sink.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/lock.h"
#include "core/storage/change.h"

struct sink {
    struct pl_storage base;
    struct pl_storage *archive;
    uint64_t start;
    struct ovf_sunk *result;
    struct pl_lock lock; /* guards the rest */
    struct pl_digest *digest;
    uint64_t position; /* bytes written */
    uint64_t promised; /* the size asked for by resize */
    bool broken;       /* a write failed: what the digest has seen is not what the file has */
};

static struct sink *sink_of(struct pl_storage *st)
{
    return (struct sink *)st;
}

static int append(struct sink *sink, const void *bytes, size_t len, struct pl_err *e)
    PL_NEEDS(&sink->lock);
static int append(struct sink *sink, const void *bytes, size_t len, struct pl_err *e)
{
    if (sink->broken)
        return pl_fail(e, PL_E_INVALID, "%s: an earlier write failed", sink->base.name);
    sink->broken = true;
    if (pl_storage_write(sink->archive, sink->start + sink->position, bytes, len, e) < 0 ||
        pl_digest_update(sink->digest, bytes, len, e) < 0)
        return -1;
    sink->broken = false;
    sink->position += len;
    return 0;
}

/* Zeros from here to `off`. */
static int fill_gap(struct sink *sink, uint64_t off, struct pl_err *e) PL_NEEDS(&sink->lock);
static int fill_gap(struct sink *sink, uint64_t off, struct pl_err *e)
{
    static const uint8_t zeros[65536];

    while (sink->position < off)
        if (append(sink, zeros, (size_t)PL_MIN(off - sink->position, sizeof zeros), e) < 0)
            return -1;
    return 0;
}

static int sink_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                      struct pl_err *e)
{
    struct sink *sink = sink_of(st);

    PL_LOCKED(&sink->lock);
    if (off < sink->position)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%s: is written in order, up to 0x%" PRIx64 ": it cannot go back to "
                       "0x%" PRIx64,
                       st->name, sink->position, off);
    return fill_gap(sink, off, e) < 0 ? -1 : append(sink, buf, len, e);
}

static uint64_t position_of(struct sink *sink)
{
    PL_LOCKED(&sink->lock);
    return sink->position;
}

static int sink_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    struct sink *sink = sink_of(st);
    const uint64_t position = position_of(sink);

    if (!pl_inside(off, len, position))
        return pl_past_end(st, off, len, position, e);
    return pl_storage_read(sink->archive, sink->start + off, buf, len, e);
}

static int sink_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    struct sink *sink = sink_of(st);

    PL_LOCKED(&sink->lock);
    if (size < sink->position)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%s: has 0x%" PRIx64 " bytes already, it cannot end at 0x%" PRIx64, st->name,
                       sink->position, size);
    sink->promised = size;
    return 0;
}

/* Bringing it to stable storage is the business of whoever owns the archive. */
static int sink_flush(struct pl_storage *st, struct pl_err *e)
{
    struct sink *sink = sink_of(st);

    PL_LOCKED(&sink->lock);
    return fill_gap(sink, sink->promised, e);
}

static uint64_t sink_size(struct pl_storage *st)
{
    struct sink *sink = sink_of(st);

    PL_LOCKED(&sink->lock);
    return PL_MAX(sink->position, sink->promised);
}

static void sink_settle(struct pl_storage *st, uint64_t off, uint64_t len)
{
    pl_storage_settle(sink_of(st)->archive, sink_of(st)->start + off, len);
}

static int finish(struct sink *sink, struct pl_err *e)
{
    PL_LOCKED(&sink->lock);
    if (sink->broken)
        return pl_fail(e, PL_E_INVALID, "%s: was not written whole", sink->base.name);
    if (fill_gap(sink, sink->promised, e) < 0 ||
        pl_digest_finish(sink->digest, sink->result->hex, e) < 0)
        return -1;
    sink->result->size = sink->position;
    sink->result->complete = true;
    return 0;
}

static void release(struct sink *sink)
{
    pl_digest_free(sink->digest);
    pl_lock_destroy(&sink->lock);
    free(sink->base.name);
    free(sink);
}

static int sink_close(struct pl_storage *st, struct pl_err *e)
{
    struct sink *sink = sink_of(st);
    const int result = finish(sink, e);

    release(sink);
    return result;
}

static const struct pl_storage_ops sink_ops = {
    .kind = "member under way",
    .read = sink_read,
    .write = sink_write,
    .resize = sink_resize,
    .flush = sink_flush,
    .size = sink_size,
    .settle = sink_settle,
    .close = sink_close,
};

int ovf_sink(const struct ovf_sink_args *args, struct pl_storage **out, struct pl_err *e)
{
    struct sink *sink = calloc(1, sizeof *sink);
    char *name = strdup(args->name);

    if (!sink || !name) {
        free(sink);
        free(name);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to write it", args->name);
    }
    sink->base = (struct pl_storage){
        .ops = &sink_ops, .name = name, .block = 512, .writable = true, .sequential = true
    };
    sink->archive = args->archive;
    sink->start = args->start;
    sink->result = args->result;
    pl_lock_init(&sink->lock);
    *args->result = (struct ovf_sunk){ 0 };
    if (pl_digest_new(args->algorithm, &sink->digest, e) < 0) {
        release(sink);
        return -1;
    }
    *out = &sink->base;
    return 0;
}
