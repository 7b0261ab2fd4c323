/* flush.c - the order in which changes reach the disk; see the steps at the top of vdi.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

int vdi_check_writable(const struct vdi *v, struct pl_err *e)
{
    if (!v->writable)
        return pl_fail(e, PL_E_INVALID, "the image is open for reading only");
    if (!v->broken)
        return 0;
    pl_fail(e, PL_E_SYS, "an earlier change of the image's tables failed half-way");
    return pl_hint(e, "open the image again; check it first");
}

int vdi_sync(struct vdi *v, struct pl_err *e)
{
    if (pl_storage_flush(v->file, e) == 0)
        return 0;
    v->broken = true; /* the host may have dropped what it could not write */
    return -1;
}

int vdi_switch_header(struct vdi *v, struct pl_err *e)
{
    if (vdi_sync(v, e) == 0 && vdi_write_header(v, e) == 0 && vdi_sync(v, e) == 0)
        return 0;
    v->broken = true; /* which of the two headers is on disk is not known */
    return -1;
}

/* No block may be given room in an image whose map is wrong: a place that two blocks share could
 * be freed by one of them, and one past the end of the file be given to another. */
static int look_at_map(struct vdi *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vdi_findings found;

    if (vdi_scan(v, NULL, &found, e) < 0)
        return -1;
    v->header.allocated = (uint32_t)PL_MAX(v->header.allocated, found.end);
    v->looked = !found.outside && !found.shared;
    return v->looked ? 0 : vdi_refuse_map(&found, e);
}

int vdi_refuse_map(const struct vdi_findings *found, struct pl_err *e)
{
    pl_fail(e, PL_E_CORRUPT,
            "block map: %" PRIu64 " blocks are past the end of the file and %" PRIu64
            " are in the place of another one; it is not changed",
            found->outside, found->shared);
    return pl_hint(e, "run: platter check -r all");
}

int vdi_begin_change(struct vdi *v, struct pl_err *e)
{
    struct pl_uuid uuid;

    if (vdi_check_writable(v, e) < 0)
        return -1;
    if (!v->looked && look_at_map(v, e) < 0)
        return -1;
    if (v->changed)
        return 0;
    if (!v->fresh && !v->keeps_content) {
        pl_uuid_random(&uuid);
        pl_uuid_store_guid(v->header.modification_uuid, &uuid);
        if (vdi_write_header(v, e) < 0 || vdi_sync(v, e) < 0)
            return -1;
    }
    v->changed = true;
    return 0;
}

/* Step 2. */
static int cover_file(struct vdi *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (v->file->device || pl_storage_size(v->file) >= v->file_end)
        return 0;
    /* Threads that write to places they were given stay below file_end, which only grows under the
     * lock: this cuts nothing off. */
    return pl_storage_resize(v->file, v->file_end, e);
}

/* Step 4: nothing on disk points there any more. */
static void release_freed(struct vdi *v) PL_NEEDS(&v->lock)
{
    for (size_t i = 0; i < v->freed_count; i++) {
        const struct vdi_freed *freed = &v->freed[i];

        vdi_give_places(v, freed->place, freed->count);
        v->given_back += freed->count;
        /* The host may ignore or refuse it: the place is free all the same. */
        if (pl_storage_discard(v->file, vdi_place_offset(v, freed->place), freed->count * v->stride,
                               NULL) < 0)
            continue;
    }
    v->freed_count = 0;
}

int vdi_write_back(struct vdi *v, bool sync_last, struct pl_err *e)
{
    if (v->header_dirty && vdi_write_header(v, e) < 0)
        return -1;
    if (pl_table_cache_is_dirty(v->cache) &&
        (cover_file(v, e) < 0 || vdi_sync(v, e) < 0 || pl_table_cache_write_back(v->cache, e) < 0))
        return -1;
    if (v->freed_count) {
        if (vdi_sync(v, e) < 0)
            return -1;
        release_freed(v);
    }
    return sync_last ? vdi_sync(v, e) : 0;
}

int vdi_flush(void *state, struct pl_err *e)
{
    struct vdi *v = state;

    PL_LOCKED(&v->lock);
    if (!v->writable)
        return 0;
    if (vdi_check_writable(v, e) < 0)
        return -1;
    /* An image that nobody changed keeps its length. */
    if (v->changed && cover_file(v, e) < 0)
        return -1;
    return vdi_write_back(v, true, e);
}
