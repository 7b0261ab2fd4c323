/* snapshot.c - the changes of snapshot.h: holds the disk, checks names, leaves the work to the way
 * in which the states are kept. */
#include "core/engine/snapshot.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/scope.h"
#include "core/engine/snapshot_ways.h"
#include "core/engine/state_name.h"
#include "core/storage/names.h"

/* Names by date that are tried: two states a second are rare. */
#define DATED_NAMES 1000

/* Whether new images of the format can be children. */
static bool has_children(const struct pl_driver *driver)
{
    const struct pl_option_help *option = driver->create_options;

    for (; option && option->name; option++)
        if (strcmp(option->name, "backing_file") == 0)
            return true;
    return false;
}

static int refuse_format(const struct pl_held_disk *disk, struct pl_err *e)
{
    pl_fail(e, PL_E_UNSUPPORTED, "%s: snapshots are not supported by the format %s", disk->path,
            disk->driver->name);
    return pl_hint(e, "convert it to a format that can be written");
}

/* How files keep states. */
static int way_of_files(const struct pl_held_disk *disk, const struct pl_way_ops **way,
                        struct pl_err *e)
{
    if (!disk->driver->create)
        return refuse_format(disk, e);
    *way = has_children(disk->driver) ? &pl_way_files : &pl_way_copies;
    return 0;
}

/* The way of an existing state. */
static int way_of(const struct pl_held_disk *disk, size_t index, const struct pl_way_ops **way,
                  struct pl_err *e)
{
    *way = &pl_way_inside;
    return disk->states->state[index].path ? way_of_files(disk, way, e) : 0;
}

/* The way of a new state: a disk keeps all its states in one way. */
static int choose_way(const struct pl_held_disk *disk, const struct pl_way_ops **way,
                      struct pl_err *e)
{
    if (!disk->options->files && disk->driver->snapshot_create &&
        !pl_states_in_files(disk->states)) {
        *way = &pl_way_inside;
        return 0;
    }
    if (pl_states_inside(disk->states)) {
        pl_fail(e, PL_E_INVALID, "%s: keeps snapshots inside: a file beside it would hide them",
                disk->path);
        return pl_hint(e, "delete those first, or keep this one inside, too");
    }
    return way_of_files(disk, way, e);
}

/* ---- names ---- */

static bool is_taken(const struct pl_states *states, const char *name)
{
    for (size_t i = 0; i < states->count; i++)
        if (strcmp(states->state[i].name, name) == 0)
            return true;
    return false;
}

/* The longest name of the host that deleting the state needs: ".NAME.deleting.". */
static int check_length(const char *path, struct pl_err *e)
{
    const size_t len = strlen(pl_file_of(path)) + strlen("." PL_STATE_DELETING);

    if (len <= NAME_MAX)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: this name for its file is too long by %zu bytes", path,
            len - NAME_MAX);
    return pl_hint(e, "choose a shorter name for the snapshot");
}

/* The file "a.snapshot-b.raw" is the state "b.raw" of the disk "a", and "b" of "a.raw". */
static int refuse_ambiguous(const struct pl_held_disk *disk, const char *path, struct pl_err *e)
{
    PL_FREE char *other = NULL, *name = NULL;
    struct pl_name_facts facts;

    if (!pl_state_disk_of(path, false, &other, &name) || strcmp(other, disk->path) == 0 ||
        !pl_name_look(other, &facts) || !facts.regular)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: would be taken for the state '%s' of the disk %s", path, name,
            other);
    return pl_hint(e, "choose another name for the snapshot");
}

/* Whether a state that is kept that way can be called `name`. */
static int check_file_name(const struct pl_held_disk *disk, const struct pl_way_ops *way,
                           const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(disk->path, name);

    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
    if (way == &pl_way_inside)
        return 0;
    return check_length(path, e) < 0 ? -1 : refuse_ambiguous(disk, path, e);
}

/* Not only states stand in the way: whatever has the name of the file would be lost. */
static int check_free(const struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(disk->path, name);
    struct pl_name_facts facts;

    if (!path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
    if (is_taken(disk->states, name))
        return pl_fail(e, PL_E_EXISTS, "%s: there is a snapshot '%s' already", disk->path, name);
    if (pl_name_look(path, &facts))
        return pl_fail(e, PL_E_EXISTS, "%s: is there already", path);
    return 0;
}

/* A deletion that was interrupted in its last step left the mark of a state that is gone. */
static int clear_mark(const struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(disk->path, name);
    PL_FREE char *mark = NULL;
    struct pl_name_facts facts;

    if (!path || asprintf(&mark, "%s" PL_STATE_DELETING, path) < 0)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
    return pl_name_look(mark, &facts) ? pl_name_remove(mark, e) : 0;
}

/* The date, with a number where that is taken. */
static int name_by_date(const struct pl_held_disk *disk, char name[static 48], struct pl_err *e)
{
    char date[32];

    pl_state_name_by_date((uint64_t)time(NULL), date);
    snprintf(name, 48, "%s", date);
    for (unsigned n = 2; n < DATED_NAMES && check_free(disk, name, NULL) < 0; n++)
        snprintf(name, 48, "%s-%u", date, n);
    return check_free(disk, name, e);
}

/* ---- the changes ---- */

/* Holds the disk in good order. */
static int hold(const char *path, const struct pl_state_options *options, enum pl_hold why,
                struct pl_held_disk *disk, struct pl_err *e)
{
    if (pl_disk_hold(path, options, why, disk, e) < 0)
        return -1;
    if (disk->twin_count == 0)
        return 0;
    if (pl_twins_clear(disk, e) < 0) {
        pl_disk_release(disk);
        return -1;
    }
    pl_disk_release(disk); /* what was found may be out of date */
    return pl_disk_hold(path, options, why, disk, e);
}

static int create_held(struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    const struct pl_way_ops *way = NULL;

    if (check_free(disk, name, e) < 0 || choose_way(disk, &way, e) < 0 ||
        check_file_name(disk, way, name, e) < 0 || clear_mark(disk, name, e) < 0)
        return -1;
    if (way->create(disk, name, e) < 0)
        return pl_within(e, "%s: keeping the snapshot '%s'", disk->path, name);
    return 0;
}

int pl_state_create(const char *path, const char *name, const struct pl_state_options *options,
                    char **made, struct pl_err *e)
{
    struct pl_held_disk disk;
    char date[48];
    int result = 0;

    if ((name && pl_state_check_name(name, e) < 0) ||
        hold(path, options, PL_HOLD_CHANGE, &disk, e) < 0)
        return -1;
    if (!name)
        result = name_by_date(&disk, date, e);
    if (result == 0)
        result = create_held(&disk, name ? name : date, e);
    pl_disk_release(&disk);
    if (result < 0 || !made)
        return result;
    *made = strdup(name ? name : date);
    return *made ? 0 : pl_fail(e, PL_E_NOMEM, "%s: the snapshot is kept, but no memory", path);
}

static int rollback_held(struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    const struct pl_way_ops *way = NULL;
    size_t index;

    if (pl_states_find(disk->states, name, &index, e) < 0 ||
        pl_state_check_sound(disk->states, index, e) < 0 || way_of(disk, index, &way, e) < 0)
        return -1;
    if (way->rollback(disk, index, e) < 0)
        return pl_within(e, "%s: rolling back to '%s'", disk->path, name);
    return 0;
}

int pl_state_rollback(const char *path, const char *name, const struct pl_state_options *options,
                      struct pl_err *e)
{
    struct pl_held_disk disk;
    int result;

    if (hold(path, options, PL_HOLD_ROLLBACK, &disk, e) < 0)
        return -1;
    result = rollback_held(&disk, name, e);
    pl_disk_release(&disk);
    return result;
}

static int rename_held(struct pl_held_disk *disk, const char *name, const char *new_name,
                       struct pl_err *e)
{
    const struct pl_way_ops *way = NULL;
    size_t index;

    if (pl_states_find(disk->states, name, &index, e) < 0 ||
        pl_state_check_sound(disk->states, index, e) < 0 || check_free(disk, new_name, e) < 0 ||
        way_of(disk, index, &way, e) < 0 || check_file_name(disk, way, new_name, e) < 0 ||
        clear_mark(disk, new_name, e) < 0)
        return -1;
    if (way->rename(disk, index, new_name, e) < 0)
        return pl_within(e, "%s: calling the snapshot '%s' '%s'", disk->path, name, new_name);
    return 0;
}

int pl_state_rename(const char *path, const char *name, const char *new_name,
                    const struct pl_state_options *options, struct pl_err *e)
{
    struct pl_held_disk disk;
    int result;

    if (pl_state_check_name(new_name, e) < 0 || hold(path, options, PL_HOLD_CHANGE, &disk, e) < 0)
        return -1;
    result = rename_held(&disk, name, new_name, e);
    pl_disk_release(&disk);
    return result;
}

/* Whether all that is left of a state is the mark that it is being deleted, which is removed. */
static bool was_deleted(const struct pl_held_disk *disk, const char *name)
{
    PL_FREE char *path = pl_state_path(disk->path, name);
    PL_FREE char *mark = NULL;
    struct pl_name_facts facts;

    if (pl_state_check_name(name, NULL) < 0 || !path ||
        asprintf(&mark, "%s" PL_STATE_DELETING, path) < 0 || !pl_name_look(mark, &facts))
        return false;
    return pl_name_remove(mark, NULL) == 0;
}

static int delete_held(struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    const struct pl_way_ops *way = NULL;
    size_t index;

    if (pl_states_find(disk->states, name, &index, e) < 0)
        return was_deleted(disk, name) ? 0 : -1;
    if (way_of(disk, index, &way, e) < 0)
        return -1;
    if (way->remove(disk, index, e) < 0)
        return pl_within(e, "%s: deleting the snapshot '%s'", disk->path, name);
    return 0;
}

int pl_state_delete(const char *path, const char *name, const struct pl_state_options *options,
                    struct pl_err *e)
{
    struct pl_held_disk disk;
    int result;

    if (hold(path, options, PL_HOLD_CHANGE, &disk, e) < 0)
        return -1;
    result = delete_held(&disk, name, e);
    pl_disk_release(&disk);
    return result;
}
