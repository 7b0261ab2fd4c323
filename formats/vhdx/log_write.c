/* log_write.c - our own use of the log: one entry a commit.
 *
 * An entry names itself as the tail, since what came before it is in its place and synced when it
 * is written.  It takes half of the log at most, so it never overwrites the one before it: at every
 * instant one complete sequence is there, as readers want it while the header names the log. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

static void encode_change(const struct vhdx_change *change, uint64_t number, uint8_t *descriptor,
                          uint8_t *sector)
{
    struct vhdx_log_descriptor d = {
        .Signature = "desc",
        .FileOffset = change->off,
        .SequenceNumber = number,
    };

    memcpy(d.LeadingBytes, change->bytes, sizeof d.LeadingBytes);
    memcpy(d.TrailingBytes, change->bytes + VHDX_LOG_DATA_LOW_AT, sizeof d.TrailingBytes);
    pl_fields_encode(vhdx_log_descriptor_fields, &d, descriptor, VHDX_LOG_DESCRIPTOR_BYTES);
    memcpy(sector, change->bytes, VHDX_SECTOR);
    memcpy(sector, "data", 4);
    store_le32(sector + VHDX_LOG_DATA_HIGH_AT, (uint32_t)(number >> 32));
    store_le32(sector + VHDX_LOG_DATA_LOW_AT, (uint32_t)number);
}

/* Writes `len` bytes of the log, around its end. */
static int write_around(struct vhdx *v, const uint8_t *bytes, uint64_t len, struct pl_err *e)
{
    const uint64_t piece = PL_MIN(len, v->log.len - v->log_next);

    if (pl_storage_write(v->file, v->log.off + v->log_next, bytes, piece, e) < 0 ||
        (len > piece && pl_storage_write(v->file, v->log.off, bytes + piece, len - piece, e) < 0))
        return -1;
    v->log_next = (v->log_next + len) % v->log.len;
    return 0;
}

/* Writes an entry of `count` changes behind the last one. */
static int write_entry(struct vhdx *v, const struct vhdx_change *changes, uint32_t count,
                       struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint32_t len = (1 + count) * VHDX_SECTOR;
    PL_FREE uint8_t *raw = calloc(1, len);
    struct vhdx_log_entry entry = {
        .signature = "loge",
        .EntryLength = len,
        .Tail = (uint32_t)v->log_next,
        .SequenceNumber = v->log_sequence + 1,
        .DescriptorCount = count,
        .FlushedFileOffset = v->file_end,
        .LastFileOffset = v->file_end,
    };

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "log: no memory for an entry");
    memcpy(entry.LogGuid, v->header.LogGuid, sizeof entry.LogGuid);
    pl_fields_encode(vhdx_log_entry_fields, &entry, raw, len);
    for (uint32_t i = 0; i < count; i++)
        encode_change(&changes[i], entry.SequenceNumber,
                      raw + VHDX_LOG_ENTRY_HEADER_BYTES + i * VHDX_LOG_DESCRIPTOR_BYTES,
                      raw + (1 + i) * VHDX_SECTOR);
    vhdx_seal_sum(raw, len);
    if (write_around(v, raw, len, e) < 0)
        return pl_within(e, "log");
    v->log_sequence++;
    return 0;
}

void vhdx_new_guid(uint8_t *raw)
{
    struct pl_uuid uuid;

    pl_uuid_random(&uuid);
    pl_uuid_store_guid(raw, &uuid);
}

int vhdx_log_start(struct vhdx *v, struct pl_err *e)
{
    struct vhdx_header *h = &v->header;

    if (v->log.len == 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "the image has no room for a log");
    if (vhdx_cover_file(v, e) < 0)
        return -1;
    vhdx_new_guid(h->LogGuid);
    vhdx_new_guid(h->FileWriteGuid);
    v->log_next = v->log_sequence = 0;
    if (write_entry(v, NULL, 0, e) < 0 || vhdx_sync(v, e) < 0) {
        v->broken = true;
        return -1;
    }
    return vhdx_write_header(v, e);
}

int vhdx_log_write(struct vhdx *v, const struct vhdx_change *changes, uint32_t count,
                   struct pl_err *e)
{
    if (vhdx_cover_file(v, e) < 0 || vhdx_sync(v, e) < 0)
        return -1;
    if (write_entry(v, changes, count, e) < 0) {
        v->broken = true; /* nobody knows whether the entry is there */
        return -1;
    }
    return vhdx_sync(v, e);
}
