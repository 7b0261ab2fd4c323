/* snapshots.c - internal snapshots: states of the disk that its file keeps besides the current one.
 */
#include <string.h>
#include <time.h>

#include "core/graph/node.h"

int pl_snapshots(struct pl_image *img, struct pl_snapshot **list, size_t *count, struct pl_err *e)
{
    *list = NULL;
    *count = 0;
    if (!img->driver->snapshots)
        return 0;
    return img->driver->snapshots(img->layer.state, list, count, e) < 0
               ? pl_within(e, "%s", img->path)
               : 0;
}

/* Whether they can be changed at all; `slot` is what the driver has for it. */
static int check_changeable(struct pl_image *img, bool slot, struct pl_err *e)
{
    if (!slot)
        return pl_no_slot(img, "a change of internal snapshots", e);
    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    if (!img->broken)
        return 0;
    pl_fail(e, PL_E_CORRUPT, "%s: an earlier change failed half-way, so no more are made",
            img->path);
    return pl_hint(e, "close it and run: platter check -r all");
}

static int check_name(const struct pl_image *img, const char *name, struct pl_err *e)
{
    const size_t room = sizeof((struct pl_snapshot *)0)->name;

    if (name && *name && strnlen(name, room) < room)
        return 0;
    return pl_fail(e, PL_E_INVALID, "%s: the name of a snapshot must have 1 to %zu bytes",
                   img->path, room - 1);
}

static void set_date(struct pl_snapshot *facts)
{
    struct timespec now;

    if (facts->date_sec || facts->date_nsec || clock_gettime(CLOCK_REALTIME, &now) < 0)
        return;
    facts->date_sec = (uint32_t)now.tv_sec;
    facts->date_nsec = (uint32_t)now.tv_nsec;
}

int pl_snapshot_create(struct pl_image *img, const struct pl_snapshot *facts, struct pl_err *e)
{
    struct pl_snapshot own = *facts;

    if (check_changeable(img, img->driver->snapshot_create, e) < 0 ||
        check_name(img, facts->name, e) < 0)
        return -1;
    set_date(&own);
    return img->driver->snapshot_create(img->layer.state, &own, e) < 0
               ? pl_within(e, "%s: taking snapshot '%s'", img->path, own.name)
               : 0;
}

int pl_snapshot_apply(struct pl_image *img, const char *name, struct pl_err *e)
{
    if (check_changeable(img, img->driver->snapshot_apply, e) < 0 || check_name(img, name, e) < 0)
        return -1;
    return img->driver->snapshot_apply(img->layer.state, name, &img->layer.size, e) < 0
               ? pl_within(e, "%s: applying snapshot '%s'", img->path, name)
               : 0;
}

int pl_snapshot_delete(struct pl_image *img, const char *name, struct pl_err *e)
{
    if (check_changeable(img, img->driver->snapshot_delete, e) < 0 || check_name(img, name, e) < 0)
        return -1;
    return img->driver->snapshot_delete(img->layer.state, name, e) < 0
               ? pl_within(e, "%s: deleting snapshot '%s'", img->path, name)
               : 0;
}

int pl_snapshot_rename(struct pl_image *img, const char *name, const char *new_name,
                       struct pl_err *e)
{
    if (check_changeable(img, img->driver->snapshot_rename, e) < 0 ||
        check_name(img, name, e) < 0 || check_name(img, new_name, e) < 0)
        return -1;
    return img->driver->snapshot_rename(img->layer.state, name, new_name, e) < 0
               ? pl_within(e, "%s: renaming snapshot '%s'", img->path, name)
               : 0;
}
