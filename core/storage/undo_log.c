#include "core/storage/undo_log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/crc32c.h"
#include "core/base/scope.h"
#include "core/base/zero.h"

#define VERSION 1u
#define HEADER_BYTES 64u
#define HEADER_SUM 60u
#define BATCH_MAGIC 0x48434255u /* "UBCH" */
#define BATCH_HEAD 64u
#define BATCH_ENTRIES (PL_MIB - BATCH_HEAD) /* bytes of entries at most */
#define ENTRY_HEAD 32u

static const uint8_t magic[16] = "platter undo\r\n\x1a\n";

/* ---- header ---- */

static int read_header(struct pl_storage *st, uint8_t header[HEADER_BYTES], struct pl_err *e)
{
    return pl_storage_read_padded(st, 0, header, HEADER_BYTES, e);
}

int undo_log_look(struct pl_storage *st, enum undo_start *what, struct pl_err *e)
{
    uint8_t header[HEADER_BYTES];

    if (read_header(st, header, e) < 0)
        return -1;
    if (memcmp(header, magic, sizeof magic) == 0)
        *what = UNDO_LOG;
    else
        *what = pl_is_zero(header, sizeof header) ? UNDO_BLANK : UNDO_NO_LOG;
    return 0;
}

static int check_header(struct pl_storage *st, const uint8_t *header, struct pl_err *e)
{
    const uint32_t sum = pl_crc32c(0, header, HEADER_SUM);

    if (memcmp(header, magic, sizeof magic) != 0)
        return pl_fail(e, PL_E_FORMAT, "%s: is no undo journal", st->name);
    if (load_le32(header + 16) != VERSION || load_le32(header + 20) != UNDO_PAGE)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%s: is an undo journal of version %u with pages of %u bytes, not %u of %u",
                       st->name, load_le32(header + 16), load_le32(header + 20), VERSION,
                       UNDO_PAGE);
    if (load_le32(header + HEADER_SUM) != sum)
        return pl_fail(e, PL_E_CORRUPT, "%s: its header is damaged (sum 0x%08x, not 0x%08x)",
                       st->name, load_le32(header + HEADER_SUM), sum);
    return 0;
}

static int start(struct undo_log *log, struct pl_storage *st, struct pl_err *e)
{
    *log = (struct undo_log){ .st = st, .end = UNDO_PAGE };
    log->batch = malloc(BATCH_HEAD + BATCH_ENTRIES);
    return log->batch ? 0 : pl_fail(e, PL_E_NOMEM, "%s: no memory for a journal", st->name);
}

int undo_log_begin(struct undo_log *log, struct pl_storage *st, struct pl_err *e)
{
    uint8_t header[HEADER_BYTES] = { 0 };

    if (start(log, st, e) < 0)
        return -1;
    if (getrandom(&log->id, sizeof log->id, 0) != sizeof log->id)
        log->id = 0; /* it only keeps blocks of deleted logs from being taken for this one's */
    memcpy(header, magic, sizeof magic);
    store_le32(header + 16, VERSION);
    store_le32(header + 20, UNDO_PAGE);
    store_le64(header + 24, log->id);
    store_le32(header + HEADER_SUM, pl_crc32c(0, header, HEADER_SUM));
    return pl_storage_write(st, 0, header, sizeof header, e);
}

void undo_log_free(struct undo_log *log)
{
    free(log->batch);
    log->batch = NULL;
}

/* ---- writing ---- */

static int write_batch(struct undo_log *log, struct pl_err *e)
{
    uint8_t *head = log->batch;

    memset(head, 0, BATCH_HEAD);
    store_le32(head, BATCH_MAGIC);
    store_le64(head + 8, log->id);
    store_le64(head + 16, log->number);
    store_le64(head + 24, log->durable);
    store_le64(head + 32, log->used);
    store_le32(head + 4, pl_crc32c(0, head + 8, BATCH_HEAD - 8 + log->used));
    if (pl_storage_write(log->st, log->end, head, BATCH_HEAD + log->used, e) < 0)
        return -1;
    log->end += pl_round_up(BATCH_HEAD + log->used, UNDO_PAGE);
    log->number++;
    log->used = 0;
    return 0;
}

static size_t data_bytes(const struct undo_entry *entry)
{
    switch (entry->type) {
    case UNDO_FILE:
    case UNDO_BYTES:
        return (size_t)entry->len;
    case UNDO_LEFT:
        return UNDO_DIGEST;
    default:
        return 0;
    }
}

int undo_log_put(struct undo_log *log, const struct undo_entry *entry, struct pl_err *e)
{
    const size_t data = data_bytes(entry);
    const size_t bytes = ENTRY_HEAD + (size_t)pl_round_up(data, 8);
    uint8_t *at;

    if (data > UNDO_PIECE)
        return pl_fail(e, PL_E_LIMIT, "%s: an entry of %zu bytes is too long", log->st->name, data);
    if (log->used + bytes > BATCH_ENTRIES && write_batch(log, e) < 0)
        return -1;
    at = log->batch + BATCH_HEAD + log->used;
    memset(at, 0, bytes);
    store_le32(at, entry->type);
    store_le32(at + 4, entry->file);
    store_le64(at + 8, entry->off);
    store_le64(at + 16, entry->len);
    store_le64(at + 24, entry->more);
    if (data)
        memcpy(at + ENTRY_HEAD, entry->data, data);
    log->used += bytes;
    return 0;
}

int undo_log_sync(struct undo_log *log, struct pl_err *e)
{
    if (log->used && write_batch(log, e) < 0)
        return -1;
    if (log->durable == log->number)
        return 0;
    if (pl_storage_flush(log->st, e) < 0)
        return -1;
    log->durable = log->number;
    return 0;
}

int undo_log_touch(struct undo_log *log, struct pl_err *e)
{
    return write_batch(log, e);
}

int undo_log_trim(struct undo_log *log, struct pl_err *e)
{
    return pl_storage_size(log->st) > log->end ? pl_storage_resize(log->st, log->end, e) : 0;
}

/* ---- reading ---- */

/* Reads the batch at `off` into `batch`; *len: its bytes of entries.  1: there is no sound one. */
static int read_batch(const struct undo_log *log, uint64_t off, uint8_t *batch, size_t *len,
                      struct pl_err *e)
{
    const uint64_t size = pl_storage_size(log->st);
    uint64_t entries;

    if (!pl_inside(off, BATCH_HEAD, size))
        return 1;
    if (pl_storage_read(log->st, off, batch, BATCH_HEAD, e) < 0)
        return -1;
    entries = load_le64(batch + 32);
    if (load_le32(batch) != BATCH_MAGIC || load_le64(batch + 8) != log->id ||
        entries > BATCH_ENTRIES || !pl_inside(off + BATCH_HEAD, entries, size))
        return 1;
    if (pl_storage_read(log->st, off + BATCH_HEAD, batch + BATCH_HEAD, (size_t)entries, e) < 0)
        return -1;
    *len = (size_t)entries;
    return pl_crc32c(0, batch + 8, BATCH_HEAD - 8 + *len) == load_le32(batch + 4) ? 0 : 1;
}

/* The entry at `at` of `left` bytes; *bytes: all that it takes.  False: it is none. */
static bool decode(const uint8_t *at, size_t left, struct undo_entry *entry, size_t *bytes)
{
    size_t data;

    if (left < ENTRY_HEAD)
        return false;
    *entry = (struct undo_entry){ .type = load_le32(at),
                                  .file = load_le32(at + 4),
                                  .off = load_le64(at + 8),
                                  .len = load_le64(at + 16),
                                  .more = load_le64(at + 24),
                                  .data = at + ENTRY_HEAD };
    if (entry->type < UNDO_FILE || entry->type > UNDO_TAKING_BACK ||
        !pl_inside(entry->off, entry->len, PL_OFFSET_MAX))
        return false;
    if ((entry->type == UNDO_FILE || entry->type == UNDO_BYTES) && entry->len > UNDO_PIECE)
        return false;
    data = (size_t)pl_round_up(data_bytes(entry), 8);
    if (data > left - ENTRY_HEAD)
        return false;
    *bytes = ENTRY_HEAD + data;
    return true;
}

static int visit_batch(const struct undo_log *log, uint64_t off, const uint8_t *batch,
                       undo_visit *visit, void *ctx, struct pl_err *e)
{
    const size_t len = (size_t)load_le64(batch + 32); /* read_batch has looked at it */
    const uint8_t *entries = batch + BATCH_HEAD;
    size_t bytes;

    for (size_t at = 0; at < len; at += bytes) {
        struct undo_entry entry;
        int result;

        if (!decode(entries + at, len - at, &entry, &bytes))
            return pl_fail(e, PL_E_CORRUPT, "%s: the batch at 0x%" PRIx64 " has a bad entry at %zu",
                           log->st->name, off, at);
        result = visit(ctx, &entry, e);
        if (result)
            return result;
    }
    return 0;
}

/* A batch behind `off`, where batch log->number should be, that was written when that one was known
 * to be on stable storage: then it was lost, not torn. */
static int look_for_loss(const struct undo_log *log, uint64_t off, uint8_t *batch, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(log->st);

    for (uint64_t at = off + UNDO_PAGE; at < size; at += UNDO_PAGE) {
        size_t len;
        const int result = read_batch(log, at, batch, &len, e);

        if (result < 0)
            return -1;
        if (result == 0 && load_le64(batch + 24) > log->number) {
            pl_fail(e, PL_E_CORRUPT,
                    "%s: is damaged at 0x%" PRIx64 ", and a part at 0x%" PRIx64 " relies on that",
                    log->st->name, off, at);
            return pl_hint(e, "nothing was changed; restore the image from a backup instead");
        }
    }
    return 0;
}

int undo_log_load(struct undo_log *log, struct pl_storage *st, undo_visit *visit, void *ctx,
                  struct pl_err *e)
{
    uint8_t header[HEADER_BYTES];
    int result = 0;
    size_t len;

    if (read_header(st, header, e) < 0 || check_header(st, header, e) < 0 || start(log, st, e) < 0)
        return -1;
    log->id = load_le64(header + 24);
    while (result == 0) {
        const uint64_t off = log->end;

        result = read_batch(log, off, log->batch, &len, e);
        if (result == 0 && load_le64(log->batch + 16) != log->number)
            result = 1;
        if (result == 1)
            result = look_for_loss(log, off, log->batch, e) < 0 ? -1 : 1;
        if (result)
            break;
        log->number++;
        log->end = off + pl_round_up(BATCH_HEAD + len, UNDO_PAGE);
        result = visit_batch(log, off, log->batch, visit, ctx, e);
    }
    log->durable = 0;
    return result < 0 ? -1 : 0;
}

int undo_log_walk(struct undo_log *log, undo_visit *visit, void *ctx, struct pl_err *e)
{
    PL_FREE uint8_t *batch = malloc(BATCH_HEAD + BATCH_ENTRIES);
    const uint64_t end = log->end;
    size_t len;

    if (!batch)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", log->st->name);
    for (uint64_t off = UNDO_PAGE; off < end; off += pl_round_up(BATCH_HEAD + len, UNDO_PAGE)) {
        int result = read_batch(log, off, batch, &len, e);

        if (result == 1)
            return pl_fail(e, PL_E_CORRUPT, "%s: the batch at 0x%" PRIx64 " is damaged",
                           log->st->name, off);
        if (result == 0)
            result = visit_batch(log, off, batch, visit, ctx, e);
        if (result)
            return result;
    }
    return 0;
}
