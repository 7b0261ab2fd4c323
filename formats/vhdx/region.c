/* region.c - the region table: where BAT and metadata are, and that nothing lies on anything else.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

char *vhdx_guid_text(const uint8_t *raw, char buf[static PL_UUID_TEXT])
{
    struct pl_uuid uuid;

    pl_uuid_load_guid(&uuid, raw);
    return pl_uuid_format(&uuid, buf);
}

int vhdx_load_region_table(struct vhdx *v, unsigned copy, uint8_t *raw, bool *sound,
                           struct pl_err *e)
{
    if (pl_storage_read_padded(v->view, VHDX_REGION_TABLE_AT(copy), raw, VHDX_REGION_TABLE_BYTES,
                               e) < 0)
        return pl_within(e, "region table %u", copy + 1);
    *sound = memcmp(raw, "regi", 4) == 0 && vhdx_sum_holds(raw, VHDX_REGION_TABLE_BYTES);
    return 0;
}

static bool overlap(const struct vhdx_range *range, uint64_t off, uint64_t len)
{
    return range->len > 0 && off < range->off + range->len && range->off < off + len;
}

bool vhdx_on_metadata(const struct vhdx *v, uint64_t off, uint64_t len)
{
    if (off < VHDX_UNIT || overlap(&v->log, off, len) || overlap(&v->bat, off, len) ||
        overlap(&v->metadata, off, len))
        return true;
    for (size_t i = 0; i < v->other_count; i++)
        if (overlap(&v->others[i], off, len))
            return true;
    return false;
}

static int check_place(const struct vhdx *v, const struct vhdx_region_entry *r, struct pl_err *e)
{
    char guid[PL_UUID_TEXT];

    if (r->FileOffset % VHDX_UNIT || r->Length % VHDX_UNIT || r->FileOffset < VHDX_UNIT ||
        r->Length == 0)
        return pl_fail(e, PL_E_CORRUPT,
                       "region %s: [0x%" PRIx64 ", +0x%" PRIx32 ") is not in whole MiB behind the "
                       "headers",
                       vhdx_guid_text(r->Guid, guid), r->FileOffset, r->Length);
    if (!pl_inside(r->FileOffset, r->Length, pl_storage_size(v->view)))
        return pl_fail(e, PL_E_CORRUPT,
                       "region %s: [0x%" PRIx64 ", +0x%" PRIx32 ") is past the end of the file "
                       "(0x%" PRIx64 ")",
                       vhdx_guid_text(r->Guid, guid), r->FileOffset, r->Length,
                       pl_storage_size(v->view));
    if (vhdx_on_metadata(v, r->FileOffset, r->Length))
        return pl_fail(e, PL_E_CORRUPT,
                       "region %s: [0x%" PRIx64 ", +0x%" PRIx32 ") overlaps the log or another "
                       "region",
                       vhdx_guid_text(r->Guid, guid), r->FileOffset, r->Length);
    return 0;
}

static int add_region(struct vhdx *v, const struct vhdx_region_entry *r, struct pl_err *e)
{
    const struct vhdx_range place = { r->FileOffset, r->Length };
    struct vhdx_range *known = NULL;
    char guid[PL_UUID_TEXT];

    if (memcmp(r->Guid, vhdx_guid_bat, 16) == 0)
        known = &v->bat;
    else if (memcmp(r->Guid, vhdx_guid_metadata, 16) == 0)
        known = &v->metadata;
    else if (r->Required & VHDX_REGION_REQUIRED)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "region %s is required to read the image, but not known",
                       vhdx_guid_text(r->Guid, guid));
    if (known && known->len)
        return pl_fail(e, PL_E_CORRUPT, "region table: there are two regions %s",
                       vhdx_guid_text(r->Guid, guid));
    if (check_place(v, r, e) < 0)
        return -1;
    if (known)
        *known = place;
    else
        v->others[v->other_count++] = place;
    return 0;
}

static int add_regions(struct vhdx *v, const uint8_t *raw, struct pl_err *e)
{
    const uint32_t count = load_le32(raw + 8);

    if (count > VHDX_REGION_ENTRIES_MAX)
        return pl_fail(e, PL_E_CORRUPT, "region table: %" PRIu32 " entries (limit: %d)", count,
                       VHDX_REGION_ENTRIES_MAX);
    v->others = calloc(count + 1, sizeof *v->others);
    if (!v->others)
        return pl_fail(e, PL_E_NOMEM, "region table: no memory");
    for (uint32_t i = 0; i < count; i++) {
        struct vhdx_region_entry r;

        pl_fields_decode(vhdx_region_entry_fields,
                         raw + VHDX_REGION_ENTRIES_AT + i * VHDX_REGION_ENTRY_BYTES,
                         VHDX_REGION_ENTRY_BYTES, &r);
        if (add_region(v, &r, e) < 0)
            return -1;
    }
    if (!v->bat.len || !v->metadata.len)
        return pl_fail(e, PL_E_CORRUPT, "region table: there is no %s region",
                       v->bat.len ? "metadata" : "BAT");
    return 0;
}

int vhdx_read_regions(struct vhdx *v, struct pl_err *e)
{
    PL_FREE uint8_t *first = malloc(VHDX_REGION_TABLE_BYTES);
    PL_FREE uint8_t *second = malloc(VHDX_REGION_TABLE_BYTES);
    bool first_sound, second_sound;

    if (!first || !second)
        return pl_fail(e, PL_E_NOMEM, "region table: no memory");
    if (vhdx_load_region_table(v, 0, first, &first_sound, e) < 0 ||
        vhdx_load_region_table(v, 1, second, &second_sound, e) < 0)
        return -1;
    if (!first_sound && !second_sound)
        return pl_fail(e, PL_E_CORRUPT,
                       "region tables at 0x%" PRIx64 " and 0x%" PRIx64 ": neither has the right "
                       "signature and checksum",
                       VHDX_REGION_TABLE_AT(0), VHDX_REGION_TABLE_AT(1));
    v->damaged_regions = !first_sound + !second_sound;
    return add_regions(v, first_sound ? first : second, e);
}
