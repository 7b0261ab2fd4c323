/* flush.c - the order in which changes reach the disk; see the steps at the top of vhdx.h. */
#include <inttypes.h>
#include <string.h>

#include "formats/vhdx/vhdx.h"

int vhdx_check_writable(const struct vhdx *v, struct pl_err *e)
{
    if (!v->writable)
        return pl_fail(e, PL_E_INVALID, "the image is open for reading only");
    if (!v->broken)
        return 0;
    pl_fail(e, PL_E_SYS, "an earlier change of the image's tables failed half-way");
    return pl_hint(e, "open the image again: its log is replayed then");
}

/* Some writers end the file with the disk, inside its last block: new room begins behind that. */
static int cover_last_block(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t blocks = vhdx_blocks(v, v->size);
    uint64_t entry = 0;

    if (blocks == 0)
        return 0;
    if (vhdx_entry(v, vhdx_payload_index(v, blocks - 1), &entry, e) < 0)
        return -1;
    if (vhdx_is_present(entry) && vhdx_check_payload(v, entry, blocks - 1, v->file_end, NULL) == 0)
        v->file_end = PL_MAX(v->file_end, VHDX_BAT_OFFSET(entry) + v->block_size);
    return 0;
}

/* No block is given room, or written to, in an image whose BAT is wrong: two blocks in one place
 * overwrite each other, and the room that one of them gives back would be given to a third. */
static int look_at_blocks(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vhdx_tally tally = { 0 };
    int result = vhdx_tally_make(v, &tally, e);

    if (result == 0)
        result = vhdx_tally_blocks(v, &tally, e);
    vhdx_tally_free(&tally);
    if (result == 0)
        return 0;
    pl_within(e, "it is not changed");
    return !e || e->kind != PL_E_CORRUPT ? -1 : pl_hint(e, "run: platter check -r all");
}

int vhdx_begin_repair(struct vhdx *v, struct pl_err *e)
{
    if (vhdx_check_writable(v, e) < 0)
        return -1;
    if (v->changed)
        return 0;
    if (cover_last_block(v, e) < 0)
        return -1;
    if (!v->direct && vhdx_log_start(v, e) < 0)
        return -1;
    v->changed = true;
    return 0;
}

int vhdx_new_content(struct vhdx *v, struct pl_err *e)
{
    if (v->data_changed || v->keeps_content || v->direct)
        return 0;
    vhdx_new_guid(v->header.DataWriteGuid);
    v->data_changed = true;
    return v->changed ? vhdx_write_header(v, e) : 0; /* else it is about to be written */
}

/* The first call looks at all blocks. */
static int look_once(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (vhdx_check_writable(v, e) < 0)
        return -1;
    if (!v->looked && !v->direct && look_at_blocks(v, e) < 0)
        return -1;
    v->looked = true;
    return 0;
}

int vhdx_begin_upkeep(struct vhdx *v, struct pl_err *e)
{
    return look_once(v, e) < 0 ? -1 : vhdx_begin_repair(v, e);
}

int vhdx_begin_change(struct vhdx *v, struct pl_err *e)
{
    if (look_once(v, e) < 0 || vhdx_new_content(v, e) < 0)
        return -1;
    return vhdx_begin_repair(v, e);
}

int vhdx_sync(struct vhdx *v, struct pl_err *e)
{
    if (pl_storage_flush(v->file, e) == 0)
        return 0;
    v->broken = true; /* the host may have dropped what it could not write */
    return -1;
}

int vhdx_cover_file(struct vhdx *v, struct pl_err *e)
{
    v->file_end = pl_round_up(v->file_end, VHDX_UNIT);
    if (pl_storage_size(v->file) >= v->file_end)
        return 0;
    /* Threads that write to blocks they were given stay below file_end, which only grows under the
     * lock: this cuts nothing off. */
    return pl_storage_resize(v->file, v->file_end, e);
}

/* Steps 1 and 2. */
static int log_dirty(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vhdx_change changes[VHDX_CHANGES_MAX];

    for (uint32_t i = 0; i < v->dirty_count; i++)
        changes[i] = (struct vhdx_change){
            .off = v->dirty[i],
            .bytes = pl_table_cache_peek(v->tables, v->dirty[i]),
        };
    return vhdx_log_write(v, changes, v->dirty_count, e);
}

int vhdx_commit(struct vhdx *v, struct pl_err *e)
{
    if (v->dirty_count == 0)
        return 0;
    if (v->direct ? vhdx_cover_file(v, e) < 0 : log_dirty(v, e) < 0)
        return -1;
    if (pl_table_cache_write_back(v->tables, e) < 0) {
        v->broken = true;
        return -1;
    }
    v->dirty_count = 0;
    vhdx_rooms_free_now(v);
    return 0;
}

int vhdx_flush(void *state, struct pl_err *e)
{
    struct vhdx *v = state;

    PL_LOCKED(&v->lock);
    if (!v->writable || !v->changed)
        return 0;
    if (vhdx_check_writable(v, e) < 0)
        return -1;
    if (v->dirty_count > 0 && !v->direct)
        return vhdx_commit(v, e);
    if (vhdx_commit(v, e) < 0 || vhdx_cover_file(v, e) < 0)
        return -1;
    return vhdx_sync(v, e);
}

int vhdx_seal(void *state, struct pl_err *e)
{
    struct vhdx *v = state;

    PL_LOCKED(&v->lock);
    if (!v->changed || v->direct || v->broken)
        return 0;
    if (vhdx_sync(v, e) < 0)
        return -1;
    memset(v->header.LogGuid, 0, sizeof v->header.LogGuid);
    v->changed = false;
    return vhdx_write_header(v, e);
}
