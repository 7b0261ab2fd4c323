/* log_read.c - the log as it is found when a file is opened: which of its entries count, and what
 * they say.
 *
 * Specification: [MS-VHDX] 2.3.  Entries whose sequence numbers follow each other and which lie one
 * behind the other, around the end of the log too, are a sequence; it is complete when the entry
 * that its last one names as the tail is among them.  The complete sequence with the greatest
 * number counts, from its tail on; all others are leftovers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/storage/overlay.h"
#include "formats/vhdx/vhdx.h"

/* Bytes summed while looking for sequences, in lengths of the log: an honest log needs two. */
#define SUM_BUDGET 8
/* Ranges that a replay in memory is made of. */
#define PATCHES_MAX 65536

struct log {
    struct vhdx *v;
    uint8_t *bytes;   /* the whole log ... */
    uint64_t len;     /* ... and its length, whole sectors */
    uint8_t *scratch; /* an entry in one piece: len bytes */
    uint64_t budget;  /* bytes that may still be summed */
    uint64_t longest; /* the file has that many bytes at least once all is replayed */
};

/* A run of entries. */
struct sequence {
    uint64_t first, end;  /* byte offsets in the log; end: behind the last entry, not wrapped */
    uint64_t last_number; /* of the last entry; 0: there is none */
    uint64_t tail;        /* what the last entry says */
    bool complete;        /* ... and it is among them */
};

/* Copies [at, at + len) of the log, around its end, into the scratch buffer. */
static void copy_entry(struct log *log, uint64_t at, uint64_t len)
{
    const uint64_t piece = PL_MIN(len, log->len - at);

    memcpy(log->scratch, log->bytes + at, piece);
    memcpy(log->scratch + piece, log->bytes, len - piece);
}

/* Bytes of header and descriptors, whole sectors. */
static uint64_t head_bytes(const struct vhdx_log_entry *entry)
{
    return pl_round_up(VHDX_LOG_ENTRY_HEADER_BYTES +
                           (uint64_t)entry->DescriptorCount * VHDX_LOG_DESCRIPTOR_BYTES,
                       VHDX_SECTOR);
}

/* Whether the header alone could be that of an entry of this log. */
static bool is_plausible(const struct log *log, const struct vhdx_log_entry *entry)
{
    return memcmp(entry->signature, "loge", 4) == 0 &&
           memcmp(entry->LogGuid, log->v->header.LogGuid, 16) == 0 && entry->SequenceNumber > 0 &&
           entry->EntryLength > 0 && entry->EntryLength % VHDX_SECTOR == 0 &&
           entry->EntryLength <= log->len && entry->Tail % VHDX_SECTOR == 0 &&
           entry->Tail < log->len && head_bytes(entry) <= entry->EntryLength;
}

static void load_descriptor(const struct log *log, uint32_t i, struct vhdx_log_descriptor *out)
{
    pl_fields_decode(vhdx_log_descriptor_fields,
                     log->scratch + VHDX_LOG_ENTRY_HEADER_BYTES + i * VHDX_LOG_DESCRIPTOR_BYTES,
                     VHDX_LOG_DESCRIPTOR_BYTES, out);
}

static bool is_data(const struct vhdx_log_descriptor *d)
{
    return memcmp(d->Signature, "desc", 4) == 0;
}

/* Whether a data sector belongs to the entry: torn ones do not. */
static bool sector_belongs(const uint8_t *sector, uint64_t number)
{
    return memcmp(sector, "data", 4) == 0 &&
           load_le32(sector + VHDX_LOG_DATA_HIGH_AT) == (uint32_t)(number >> 32) &&
           load_le32(sector + VHDX_LOG_DATA_LOW_AT) == (uint32_t)number;
}

/* Whether descriptors and data sectors of the entry in scratch fit together. */
static bool parts_fit(const struct log *log, const struct vhdx_log_entry *entry)
{
    uint64_t at = head_bytes(entry);

    for (uint32_t i = 0; i < entry->DescriptorCount; i++) {
        struct vhdx_log_descriptor d;

        load_descriptor(log, i, &d);
        if (d.SequenceNumber != entry->SequenceNumber || d.FileOffset % VHDX_SECTOR)
            return false;
        if (is_data(&d)) {
            if (at >= entry->EntryLength ||
                !sector_belongs(log->scratch + at, entry->SequenceNumber))
                return false;
            at += VHDX_SECTOR;
        } else if (memcmp(d.Signature, "zero", 4) != 0 || load_le64(d.LeadingBytes) % VHDX_SECTOR) {
            return false;
        }
    }
    return true;
}

/* The entry at `at`: *valid, and then it is in scratch. */
static int load_entry(struct log *log, uint64_t at, struct vhdx_log_entry *entry, bool *valid,
                      struct pl_err *e)
{
    *valid = false;
    pl_fields_decode(vhdx_log_entry_fields, log->bytes + at, VHDX_LOG_ENTRY_HEADER_BYTES, entry);
    if (!is_plausible(log, entry))
        return 0;
    if (entry->EntryLength > log->budget)
        return pl_fail(e, PL_E_CORRUPT, "log: its entries lie in each other");
    log->budget -= entry->EntryLength;
    copy_entry(log, at, entry->EntryLength);
    *valid = vhdx_sum_holds(log->scratch, entry->EntryLength) && parts_fit(log, entry);
    return 0;
}

/* The sequence that starts at `first`. */
static int load_sequence(struct log *log, uint64_t first, struct sequence *s, struct pl_err *e)
{
    *s = (struct sequence){ .first = first, .end = first };
    while (s->end - first < log->len) {
        struct vhdx_log_entry entry;
        bool valid;

        if (load_entry(log, s->end % log->len, &entry, &valid, e) < 0)
            return -1;
        if (!valid || (s->last_number && entry.SequenceNumber != s->last_number + 1) ||
            entry.EntryLength > log->len - (s->end - first))
            break;
        s->end += entry.EntryLength;
        s->last_number = entry.SequenceNumber;
        s->tail = entry.Tail;
    }
    return 0;
}

/* Whether the tail of a sequence is the start of one of its entries. */
static int find_tail(struct log *log, struct sequence *s, struct pl_err *e)
{
    for (uint64_t at = s->first; at < s->end && !s->complete;) {
        struct vhdx_log_entry entry;

        if (at % log->len == s->tail) {
            s->complete = true;
            s->first = at;
        }
        pl_fields_decode(vhdx_log_entry_fields, log->bytes + at % log->len,
                         VHDX_LOG_ENTRY_HEADER_BYTES, &entry);
        at += entry.EntryLength; /* was checked: at least a sector */
    }
    (void)e;
    return 0;
}

/* The sequence that counts. */
static int find_active(struct log *log, struct sequence *active, struct pl_err *e)
{
    *active = (struct sequence){ 0 };
    for (uint64_t at = 0; at < log->len;) {
        struct sequence s;

        if (load_sequence(log, at, &s, e) < 0 || find_tail(log, &s, e) < 0)
            return -1;
        if (s.complete && s.last_number > active->last_number)
            *active = s;
        at = s.last_number ? PL_MAX(s.end, at + VHDX_SECTOR) : at + VHDX_SECTOR;
    }
    if (!active->last_number) {
        pl_fail(e, PL_E_CORRUPT, "log: it is in use, but holds no complete sequence of entries");
        return pl_hint(e, "the file was damaged, or is a copy that was made while it was in use");
    }
    return 0;
}

/* ---- replay ---- */

static int check_target(const struct log *log, uint64_t off, uint64_t len, struct pl_err *e)
{
    const struct vhdx_range *own = &log->v->log;

    if (!pl_inside(off, len, log->longest))
        return pl_fail(e, PL_E_CORRUPT,
                       "log: a change of [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of the "
                       "file (0x%" PRIx64 ")",
                       off, len, log->longest);
    if (off < VHDX_REGION_TABLE_AT(0) || (off < own->off + own->len && own->off < off + len))
        return pl_fail(e, PL_E_CORRUPT,
                       "log: a change of [0x%" PRIx64 ", +0x%" PRIx64 ") reaches into the headers "
                       "or the log itself",
                       off, len);
    return 0;
}

/* Writes the bytes, or zeros where they are null, to the file or over the view. */
static int put(struct log *log, uint64_t off, const uint8_t *bytes, uint64_t len, struct pl_err *e)
{
    struct vhdx *v = log->v;

    if (len == 0)
        return 0;
    if (check_target(log, off, len, e) < 0)
        return -1;
    if (!v->writable)
        return pl_overlay_put(v->view, off, bytes, len, e);
    return bytes ? pl_storage_write(v->file, off, bytes, len, e)
                 : pl_storage_zero(v->file, off, len, e);
}

/* Does what the entry in scratch says. */
static int replay_entry(struct log *log, const struct vhdx_log_entry *entry, struct pl_err *e)
{
    uint8_t *sector = log->scratch + head_bytes(entry);

    for (uint32_t i = 0; i < entry->DescriptorCount; i++) {
        struct vhdx_log_descriptor d;

        load_descriptor(log, i, &d);
        if (!is_data(&d)) {
            if (put(log, d.FileOffset, NULL, load_le64(d.LeadingBytes), e) < 0)
                return -1;
            continue;
        }
        memcpy(sector, d.LeadingBytes, sizeof d.LeadingBytes);
        memcpy(sector + VHDX_LOG_DATA_LOW_AT, d.TrailingBytes, sizeof d.TrailingBytes);
        if (put(log, d.FileOffset, sector, VHDX_SECTOR, e) < 0)
            return -1;
        sector += VHDX_SECTOR;
    }
    return 0;
}

/* Checks the lengths that an entry promises against the file's. */
static int check_lengths(struct log *log, const struct vhdx_log_entry *entry, struct pl_err *e)
{
    const uint64_t now = pl_storage_size(log->v->file);

    if (now < entry->FlushedFileOffset)
        return pl_fail(e, PL_E_CORRUPT,
                       "log: the file had 0x%" PRIx64 " bytes when entry %" PRIu64 " was written, "
                       "and has 0x%" PRIx64 " now: it was cut",
                       entry->FlushedFileOffset, entry->SequenceNumber, now);
    if (entry->LastFileOffset > VHDX_FILE_MAX)
        return pl_fail(e, PL_E_CORRUPT, "log: a file of 0x%" PRIx64 " bytes is too big",
                       entry->LastFileOffset);
    log->longest = PL_MAX(log->longest, entry->LastFileOffset);
    return 0;
}

/* Visits the entries of the sequence: first for their lengths, then for what they say. */
static int visit(struct log *log, const struct sequence *s, bool replay, struct pl_err *e)
{
    uint64_t patches = 0;

    for (uint64_t at = s->first; at < s->end;) {
        struct vhdx_log_entry entry;

        pl_fields_decode(vhdx_log_entry_fields, log->bytes + at % log->len,
                         VHDX_LOG_ENTRY_HEADER_BYTES, &entry);
        patches += entry.DescriptorCount;
        if (patches > PATCHES_MAX)
            return pl_fail(e, PL_E_LIMIT, "log: more than %d changes", PATCHES_MAX);
        if (replay) {
            copy_entry(log, at % log->len, entry.EntryLength);
            if (replay_entry(log, &entry, e) < 0)
                return -1;
        } else if (check_lengths(log, &entry, e) < 0) {
            return -1;
        }
        at += entry.EntryLength;
    }
    return 0;
}

/* What is in the file now is all there is: the log is empty. */
static int empty_log(struct log *log, struct pl_err *e) PL_UNCHECKED;
static int empty_log(struct log *log, struct pl_err *e)
{
    struct vhdx *v = log->v;

    if (pl_storage_size(v->file) < log->longest && pl_storage_resize(v->file, log->longest, e) < 0)
        return -1;
    if (pl_storage_flush(v->file, e) < 0)
        return -1;
    memset(v->header.LogGuid, 0, sizeof v->header.LogGuid);
    return vhdx_write_header(v, e); /* nobody else knows the file yet: no lock */
}

static int replay(struct log *log, struct pl_err *e)
{
    struct sequence active;

    if (pl_storage_read(log->v->file, log->v->log.off, log->bytes, log->len, e) < 0)
        return pl_within(e, "log");
    log->longest = pl_storage_size(log->v->file);
    if (find_active(log, &active, e) < 0 || visit(log, &active, false, e) < 0)
        return -1;
    if (!log->v->writable && pl_overlay_storage(log->v->file, &log->v->view, e) < 0)
        return -1;
    if (visit(log, &active, true, e) < 0)
        return -1;
    if (log->v->writable)
        return empty_log(log, e);
    pl_overlay_grow(log->v->view, log->longest);
    return 0;
}

int vhdx_replay(struct vhdx *v, struct pl_err *e)
{
    struct log log = { .v = v, .len = v->log.len, .budget = v->log.len * SUM_BUDGET };
    PL_FREE uint8_t *bytes = NULL;
    PL_FREE uint8_t *scratch = NULL;

    if (pl_is_zero(v->header.LogGuid, sizeof v->header.LogGuid))
        return 0;
    if (log.len > VHDX_LOG_IN_USE_MAX)
        return pl_fail(e, PL_E_LIMIT, "log: %" PRIu64 " bytes to replay (limit: %" PRIu64 ")",
                       log.len, VHDX_LOG_IN_USE_MAX);
    log.bytes = bytes = malloc(log.len);
    log.scratch = scratch = malloc(log.len);
    if (!bytes || !scratch)
        return pl_fail(e, PL_E_NOMEM, "log: no memory for %" PRIu64 " bytes", log.len);
    v->replayed = true;
    return replay(&log, e);
}
