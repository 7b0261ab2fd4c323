/* header.c - the file type identifier and the two headers, of which the newer sound one counts. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/zero.h"
#include "formats/vhdx/vhdx.h"

bool vhdx_probe(const struct pl_probe *probe)
{
    return probe->len >= 8 && memcmp(probe->head, VHDX_SIGNATURE, 8) == 0;
}

void vhdx_seal_sum(uint8_t *raw, size_t len)
{
    memset(raw + VHDX_CHECKSUM_AT, 0, 4);
    store_le32(raw + VHDX_CHECKSUM_AT, pl_crc32c(0, raw, len));
}

bool vhdx_sum_holds(uint8_t *raw, size_t len)
{
    const uint32_t wanted = load_le32(raw + VHDX_CHECKSUM_AT);
    uint32_t sum;

    memset(raw + VHDX_CHECKSUM_AT, 0, 4);
    sum = pl_crc32c(0, raw, len);
    store_le32(raw + VHDX_CHECKSUM_AT, wanted);
    return sum == wanted;
}

void vhdx_encode_header(const struct vhdx_header *header, uint8_t *raw)
{
    memset(raw, 0, VHDX_HEADER_BYTES);
    pl_fields_encode(vhdx_header_fields, header, raw, VHDX_HEADER_BYTES);
    vhdx_seal_sum(raw, VHDX_HEADER_BYTES);
}

/* Reads one copy; *sound: signature and checksum are right. */
static int load_header(struct vhdx *v, unsigned slot, struct vhdx_header *header, bool *sound,
                       struct pl_err *e)
{
    uint8_t raw[VHDX_HEADER_BYTES];

    if (pl_storage_read_padded(v->file, VHDX_HEADER_AT(slot), raw, sizeof raw, e) < 0)
        return pl_within(e, "header %u", slot + 1);
    pl_fields_decode(vhdx_header_fields, raw, sizeof raw, header);
    *sound = memcmp(header->Signature, "head", 4) == 0 && vhdx_sum_holds(raw, sizeof raw);
    return 0;
}

static int check_header(const struct vhdx *v, struct pl_err *e)
{
    const struct vhdx_header *h = &v->header;
    const bool log_used = !pl_is_zero(h->LogGuid, sizeof h->LogGuid);

    if (h->Version != VHDX_VERSION)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: version %u is not known (wanted: %d)",
                       h->Version, VHDX_VERSION);
    if (h->LogVersion != VHDX_LOG_VERSION)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: log version %u is not known (wanted: %d)",
                       h->LogVersion, VHDX_LOG_VERSION);
    if (h->LogLength == 0 && !log_used)
        return 0;
    if (h->LogLength == 0)
        return pl_fail(e, PL_E_CORRUPT, "header: the log is in use but has no length");
    if (h->LogLength % VHDX_UNIT || h->LogOffset % VHDX_UNIT || h->LogOffset < VHDX_UNIT)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: the log [0x%" PRIx64 ", +0x%" PRIx32 ") is not in whole MiB "
                       "behind the headers",
                       h->LogOffset, h->LogLength);
    if (!pl_inside(h->LogOffset, h->LogLength, pl_storage_size(v->file)))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: the log [0x%" PRIx64 ", +0x%" PRIx32 ") is past the end of the "
                       "file (0x%" PRIx64 ")",
                       h->LogOffset, h->LogLength, pl_storage_size(v->file));
    return 0;
}

int vhdx_read_headers(struct vhdx *v, struct pl_err *e)
{
    struct vhdx_header both[2];
    uint8_t magic[8];
    bool sound[2];

    if (pl_storage_read_padded(v->file, 0, magic, sizeof magic, e) < 0)
        return -1;
    if (memcmp(magic, VHDX_SIGNATURE, sizeof magic) != 0)
        return pl_fail(e, PL_E_FORMAT, "not a VHDX file: it does not begin with \"%s\"",
                       VHDX_SIGNATURE);
    if (load_header(v, 0, &both[0], &sound[0], e) < 0 ||
        load_header(v, 1, &both[1], &sound[1], e) < 0)
        return -1;
    if (!sound[0] && !sound[1])
        return pl_fail(e, PL_E_CORRUPT,
                       "headers at 0x%" PRIx64 " and 0x%" PRIx64 ": neither has the right "
                       "signature and checksum",
                       VHDX_HEADER_AT(0), VHDX_HEADER_AT(1));
    v->damaged_headers = !sound[0] + !sound[1];
    v->header_slot =
        !sound[0] || (sound[1] && both[1].SequenceNumber > both[0].SequenceNumber) ? 1 : 0;
    v->header = both[v->header_slot];
    v->log = (struct vhdx_range){ v->header.LogOffset, v->header.LogLength };
    return check_header(v, e);
}

int vhdx_write_header(struct vhdx *v, struct pl_err *e)
{
    uint8_t raw[VHDX_HEADER_BYTES];
    struct vhdx_header next = v->header;

    next.SequenceNumber++;
    vhdx_encode_header(&next, raw);
    if (pl_storage_write(v->file, VHDX_HEADER_AT(!v->header_slot), raw, sizeof raw, e) < 0 ||
        pl_storage_flush(v->file, e) < 0) {
        v->broken = true; /* nobody knows which header the disk has */
        return pl_within(e, "header");
    }
    v->header = next;
    v->header_slot = !v->header_slot;
    return 0;
}
