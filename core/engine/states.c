/* states.c - opens and locks a disk whose states are looked at or changed, and lists them. */
#include "core/engine/states.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/engine/state_name.h"
#include "core/storage/folder.h"
#include "core/storage/names.h"

/* ---- which file ---- */

static bool is_there(const char *path)
{
    struct pl_name_facts facts;

    return pl_name_look(path, &facts) && facts.regular;
}

/* A change of a state under its own name would damage the disk that is made of it. */
static int refuse_state_of_other(const char *path, struct pl_err *e)
{
    PL_FREE char *disk = NULL, *name = NULL;

    if (!pl_state_is_kept(path, &disk, &name))
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: is the state '%s' of the disk %s", path, name, disk);
    return pl_hint(e, "name the disk: what is made of this file would be damaged");
}

static int refuse_package(struct pl_storage *file, const char *format, struct pl_err *e)
{
    const struct pl_package_driver *kind = format ? pl_package_kind(format) : NULL;

    if (!format && pl_package_probe(file, &kind, e) < 0)
        return -1;
    if (!kind)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED, "%s: a disk inside an %s package has no snapshots", file->name,
            kind->name);
    return pl_hint(e, "convert it, and make snapshots of the converted disk");
}

/* Links are followed once: files change their names in the folder where the disk really is. */
static int find_file(const char *path, enum pl_hold why, struct pl_held_disk *disk,
                     struct pl_err *e)
{
    struct pl_name_facts facts;
    const char *slash;

    if (pl_name_look(path, &facts) && facts.regular)
        disk->path = strdup(path);
    else
        disk->path = realpath(path, NULL);
    if (!disk->path)
        return pl_fail_sys(e, errno, "%s", path);
    if (!is_there(disk->path)) {
        pl_fail(e, PL_E_UNSUPPORTED, "%s: is no regular file", path);
        return pl_hint(e, "states of a device are kept by who manages it, such as LVM");
    }
    slash = strrchr(disk->path, '/');
    if (why != PL_HOLD_LOOK && (slash ? slash[1] : *disk->path) == '.')
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: a hidden file cannot have snapshots", path);
    return why == PL_HOLD_LOOK ? 0 : refuse_state_of_other(disk->path, e);
}

/* Whoever replaced the disk between our look at the name and our lock has changed another file. */
static int check_still_there(const struct pl_held_disk *disk, struct pl_err *e)
{
    struct pl_name_facts facts;
    struct pl_storage_id id;

    if (pl_name_look(disk->path, &facts) && disk->file->ops->id &&
        disk->file->ops->id(disk->file, &id) && id.device == facts.id.device &&
        id.inode == facts.id.inode)
        return 0;
    pl_fail(e, PL_E_LOCKED, "%s: was replaced by another process just now", disk->path);
    return pl_hint(e, "try again");
}

static int lock(struct pl_held_disk *disk, enum pl_hold why, struct pl_err *e)
{
    const bool look = why == PL_HOLD_LOOK;
    const struct pl_opener opener = { .allowed = disk->options->allowed_dirs,
                                      .force_share = look && disk->options->force_share };

    if (pl_open_path(&opener, disk->path, look ? PL_READ : PL_READ_WRITE, &disk->file, e) < 0 ||
        refuse_package(disk->file, disk->options->format, e) < 0)
        return -1;
    return look ? 0 : check_still_there(disk, e);
}

/* ---- its image ---- */

static int open_held(const struct pl_held_disk *disk, struct pl_open_options how,
                     struct pl_image **out, struct pl_err *e)
{
    const struct pl_file_source source = { .borrowed = true };

    how.format = disk->driver ? disk->driver->name : disk->options->format;
    how.force_share = disk->options->force_share && !disk->file->writable;
    how.allowed_dirs = disk->options->allowed_dirs;
    return pl_open_storage(disk->file, &source, disk->path, &how, out, e);
}

int pl_held_open(const struct pl_held_disk *disk, bool writable, bool parents,
                 struct pl_image **out, struct pl_err *e)
{
    return open_held(disk,
                     (struct pl_open_options){ .writable = writable,
                                               .keeps_content = true,
                                               .no_parent = !parents,
                                               .report = disk->options->report },
                     out, e);
}

static int gather_of(struct pl_held_disk *disk, bool check_only, struct pl_err *e)
{
    const struct pl_open_options how = { .no_parent = true, .check_only = check_only };
    struct pl_image *img;
    int result;

    if (open_held(disk, how, &img, e) < 0)
        return -1;
    disk->driver = img->driver;
    result = pl_states_gather(disk, img, e);
    pl_close(img, NULL);
    return result;
}

/* With the format known a disk can be rolled back however damaged it is. */
static int gather_damaged(struct pl_held_disk *disk, struct pl_err *e)
{
    if (pl_driver_find(disk->options->format, &disk->driver, e) < 0)
        return -1;
    disk->damaged = true;
    return pl_states_gather(disk, NULL, e);
}

/* What cannot be read now may be read the next time; what contradicts itself is damaged. */
static bool is_damage(const struct pl_err *why)
{
    return why->kind == PL_E_CORRUPT || why->kind == PL_E_FORMAT;
}

static int gather(struct pl_held_disk *disk, enum pl_hold why, struct pl_err *e)
{
    struct pl_err failure = { 0 };

    if (gather_of(disk, why == PL_HOLD_LOOK, &failure) == 0)
        return 0;
    if (why == PL_HOLD_ROLLBACK && is_damage(&failure) && !disk->states &&
        (gather_of(disk, true, NULL) == 0 ||
         (disk->options->format && !disk->states && gather_damaged(disk, NULL) == 0)))
        return 0;
    if (e)
        *e = failure;
    return -1;
}

int pl_disk_hold(const char *path, const struct pl_state_options *options, enum pl_hold why,
                 struct pl_held_disk *out, struct pl_err *e)
{
    static const struct pl_state_options defaults;

    *out = (struct pl_held_disk){ .options = options ? options : &defaults, .given = path };
    if (find_file(path, why, out, e) == 0 && lock(out, why, e) == 0 && gather(out, why, e) == 0)
        return 0;
    pl_disk_release(out);
    return -1;
}

void pl_disk_release(struct pl_held_disk *disk)
{
    pl_states_free(disk->states);
    pl_names_free(disk->twins, disk->twin_count);
    pl_storage_close(disk->file, NULL);
    free(disk->path);
    *disk = (struct pl_held_disk){ 0 };
}

int pl_state_open(const struct pl_held_disk *disk, size_t index, struct pl_image **out,
                  struct pl_err *e)
{
    const struct pl_disk_state *state = index == PL_NO_STATE ? NULL : &disk->states->state[index];
    const struct pl_open_options how = {
        .format = disk->driver->name,
        .snapshot = state && !state->path ? state->id : NULL,
        .force_share = disk->options->force_share && !disk->file->writable,
        .allowed_dirs = disk->options->allowed_dirs,
        .report = disk->options->report,
    };

    return state && state->path ? pl_open(state->path, &how, out, e) : open_held(disk, how, out, e);
}

int pl_child_open(const struct pl_held_disk *disk, size_t index, bool parents,
                  struct pl_image **out, struct pl_err *e)
{
    const struct pl_open_options how = {
        .format = disk->driver->name,
        .writable = true,
        .no_parent = !parents,
        .keeps_content = true,
        .allowed_dirs = disk->options->allowed_dirs,
        .report = disk->options->report,
    };

    return index == PL_NO_STATE ? pl_held_open(disk, true, parents, out, e)
                                : pl_open(disk->states->state[index].path, &how, out, e);
}

int pl_child_close(const struct pl_held_disk *disk, size_t index, struct pl_image *img, int result,
                   struct pl_err *e)
{
    const struct pl_disk_state *state = index == PL_NO_STATE ? NULL : &disk->states->state[index];

    if (pl_close(img, result < 0 ? NULL : e) < 0)
        result = -1;
    if (result == 0)
        result = pl_name_sync(state ? state->path : disk->path, e);
    if (state)
        pl_name_set_date(state->path, state->date_sec, state->date_nsec);
    return result;
}

/* ---- lists ---- */

void pl_states_free(struct pl_states *states)
{
    if (!states)
        return;
    for (size_t i = 0; i < states->count; i++) {
        free(states->state[i].name);
        free(states->state[i].id);
        free(states->state[i].path);
    }
    free(states->state);
    free(states->path);
    free(states);
}

int pl_states_list(const char *path, const struct pl_state_options *options, struct pl_states **out,
                   struct pl_err *e)
{
    struct pl_held_disk disk;

    if (pl_disk_hold(path, options, PL_HOLD_LOOK, &disk, e) < 0)
        return -1;
    *out = pl_take(disk.states);
    pl_disk_release(&disk);
    return 0;
}

/* "a, b, c", as far as they fit. */
static void join_names(const struct pl_states *states, char *buf, size_t size)
{
    size_t used = 0;

    for (size_t i = 0; i < states->count && used < size; i++)
        used +=
            (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", states->state[i].name);
}

/* qemu-img gives the same name to as many as one likes. */
static int refuse_namesakes(const struct pl_states *states, size_t index, struct pl_err *e)
{
    const struct pl_disk_state *first = &states->state[index];

    for (size_t i = index + 1; i < states->count; i++)
        if (strcmp(states->state[i].name, first->name) == 0 && first->id && states->state[i].id) {
            pl_fail(e, PL_E_INVALID, "%s: more than one snapshot is called '%s'", states->path,
                    first->name);
            return pl_hint(e, "say which by its number ('%s', '%s', ...; platter snapshot -l shows "
                              "them)",
                           first->id, states->state[i].id);
        }
    return 0;
}

int pl_states_find(const struct pl_states *states, const char *name, size_t *index,
                   struct pl_err *e)
{
    char names[240] = "";

    for (size_t i = 0; i < states->count; i++)
        if (strcmp(states->state[i].name, name) == 0) {
            *index = i;
            return refuse_namesakes(states, i, e);
        }
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].id && strcmp(states->state[i].id, name) == 0) {
            *index = i;
            return 0;
        }
    if (states->count == 0)
        return pl_fail(e, PL_E_NOT_FOUND, "%s: there is no snapshot '%s', and no other one",
                       states->path, name);
    join_names(states, names, sizeof names);
    return pl_fail(e, PL_E_NOT_FOUND, "%s: there is no snapshot '%s', but: %s", states->path, name,
                   names);
}

bool pl_states_inside(const struct pl_states *states)
{
    for (size_t i = 0; i < states->count; i++)
        if (!states->state[i].path)
            return true;
    return false;
}

bool pl_states_in_files(const struct pl_states *states)
{
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].path)
            return true;
    return false;
}

size_t pl_state_children(const struct pl_states *states, size_t index)
{
    size_t children = states->stands_on == index;

    for (size_t i = 0; i < states->count; i++)
        children += states->state[i].parent == index;
    return children;
}

int pl_state_check_sound(const struct pl_states *states, size_t index, struct pl_err *e)
{
    const struct pl_disk_state *state = &states->state[index];

    if (state->deleting) {
        pl_fail(e, PL_E_INVALID, "%s: the snapshot '%s' is being deleted, it is whole no longer",
                states->path, state->name);
        return pl_hint(e, "finish that: platter snapshot delete DISK NAME");
    }
    if (state->unreadable)
        return pl_fail(e, PL_E_FORMAT, "%s: cannot be read as an image of the format %s",
                       state->path, states->format);
    return 0;
}
