/* snapshot_copies.c - states of disks whose format knows no parents: copies of the file.
 *
 * Where the file system can, a copy shares the disk's blocks and costs nothing; elsewhere data is
 * copied and holes stay holes.  A copy appears under its name when it is complete, the disk is
 * replaced by a copy of a state in the same way. */
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/snapshot_ways.h"
#include "core/engine/state_name.h"
#include "core/storage/names.h"
#include "core/storage/output.h"

/* Bytes between two looks whether to stop. */
#define PIECE (64u << 20)

static int copy_run(struct pl_storage *from, struct pl_storage *to, uint64_t at, uint64_t len,
                    struct pl_err *e)
{
    if (pl_storage_copy(to, at, from, at, len, e) < 0)
        return -1;
    pl_storage_settle(to, at, len);
    return 0;
}

/* `to` is empty and becomes as long as `from`. */
static int copy_file(struct pl_storage *from, struct pl_storage *to, const struct pl_report *report,
                     struct pl_err *e)
{
    const uint64_t size = pl_storage_size(from);
    uint64_t len;

    for (uint64_t at = 0; at < size; at += len) {
        bool hole;

        len = PL_MIN(size - at, PIECE - at % PIECE);
        if (pl_check_cancelled(report, e) < 0 || pl_storage_map(from, at, &len, &hole, e) < 0 ||
            (!hole && copy_run(from, to, at, len, e) < 0))
            return -1;
        pl_progress(report, at + len, size);
    }
    return pl_storage_resize(to, size, e);
}

/* Fills the output from the file and names it. */
static int finish_copy(struct pl_storage *from, struct pl_output *to,
                       const struct pl_report *report, struct pl_err *e)
{
    if (copy_file(from, pl_output_storage(to), report, e) < 0) {
        pl_output_abandon(to);
        return -1;
    }
    return pl_output_finish(to, e);
}

static int create_copy(struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(disk->path, name);
    struct pl_output *output;

    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
    if (pl_output_begin_like(path, disk->file, &output, e) < 0 ||
        finish_copy(disk->file, output, disk->options->report, e) < 0)
        return -1;
    pl_notes_new_state(disk, name);
    return 0;
}

static int rollback_copy(struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    static const struct pl_opener opener;
    struct pl_output *output;
    struct pl_storage *from;
    int result;

    if (pl_refuse_other_content(disk, e) < 0 ||
        pl_open_path(&opener, disk->states->state[index].path, PL_READ, &from, e) < 0)
        return -1;
    result = pl_output_begin_over(disk->file, &output, e);
    if (result == 0)
        result = finish_copy(from, output, disk->options->report, e);
    pl_storage_close(from, NULL);
    if (result == 0)
        pl_notes_stand_on(disk->states, index);
    return result;
}

/* Images made of a copy would lose it, and a machine that runs on it, wherever its own disk is,
 * would find nothing the next time. */
static int check_unused(const struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    struct pl_image *img;
    int result;

    if (disk->states->state[index].unreadable)
        return 0;
    if (pl_state_check_unused(disk, index, e) < 0 || pl_state_open(disk, index, &img, e) < 0)
        return -1;
    result = pl_refuse_strangers(disk, img, e);
    pl_close(img, NULL);
    return result;
}

static int rename_copy(struct pl_held_disk *disk, size_t index, const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(disk->path, name);

    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
    if (check_unused(disk, index, e) < 0 ||
        pl_name_change(disk->states->state[index].path, path, e) < 0)
        return -1;
    pl_notes_rename(disk->states, index, name);
    return 0;
}

static int remove_copy(struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    if (check_unused(disk, index, e) < 0 ||
        pl_name_remove(disk->states->state[index].path, e) < 0)
        return -1;
    pl_notes_drop(disk->states, index);
    return 0;
}

const struct pl_way_ops pl_way_copies = {
    .create = create_copy,
    .rollback = rollback_copy,
    .rename = rename_copy,
    .remove = remove_copy,
};
