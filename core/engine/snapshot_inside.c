/* snapshot_inside.c - states that the image keeps itself; the driver does the work, each step of
 * which is on stable storage when it returns. */
#include <string.h>
#include <time.h>

#include "core/base/scope.h"
#include "core/engine/snapshot_ways.h"

/* Opens the image for writing, has `change` do its work, closes it. */
static int with_image(struct pl_held_disk *disk,
                      int (*change)(struct pl_image *img, const char *name, const char *new_name,
                                    struct pl_err *e),
                      const char *name, const char *new_name, struct pl_err *e)
{
    struct pl_image *img;
    int result;

    if (pl_held_open(disk, true, false, &img, e) < 0)
        return -1;
    result = change(img, name, new_name, e);
    return pl_close(img, result < 0 ? NULL : e) < 0 ? -1 : result;
}

static int create_in(struct pl_image *img, const char *name, const char *unused, struct pl_err *e)
{
    struct pl_snapshot facts = { .disk_size = pl_size(img), .icount = UINT64_MAX };
    struct timespec now;

    (void)unused;
    clock_gettime(CLOCK_REALTIME, &now);
    facts.date_sec = (uint32_t)now.tv_sec;
    facts.date_nsec = (uint32_t)now.tv_nsec;
    memcpy(facts.name, name, strlen(name) + 1); /* checked: no longer than PL_STATE_NAME_MAX */
    return pl_snapshot_create(img, &facts, e);
}

static int apply_in(struct pl_image *img, const char *name, const char *unused, struct pl_err *e)
{
    (void)unused;
    return pl_snapshot_apply(img, name, e);
}

static int rename_in(struct pl_image *img, const char *name, const char *new_name, struct pl_err *e)
{
    return pl_snapshot_rename(img, name, new_name, e);
}

static int delete_in(struct pl_image *img, const char *name, const char *unused, struct pl_err *e)
{
    (void)unused;
    return pl_snapshot_delete(img, name, e);
}

static int create_inside(struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    if (with_image(disk, create_in, name, NULL, e) < 0)
        return -1;
    pl_notes_new_state(disk, name);
    return 0;
}

static int rollback_inside(struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    if (pl_refuse_other_content(disk, e) < 0 ||
        with_image(disk, apply_in, disk->states->state[index].id, NULL, e) < 0)
        return -1;
    pl_notes_stand_on(disk->states, index);
    return 0;
}

static int rename_inside(struct pl_held_disk *disk, size_t index, const char *name,
                         struct pl_err *e)
{
    return with_image(disk, rename_in, disk->states->state[index].id, name, e);
}

static int remove_inside(struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    if (with_image(disk, delete_in, disk->states->state[index].id, NULL, e) < 0)
        return -1;
    pl_notes_drop(disk->states, index);
    return 0;
}

const struct pl_way_ops pl_way_inside = {
    .create = create_inside,
    .rollback = rollback_inside,
    .rename = rename_inside,
    .remove = remove_inside,
};
