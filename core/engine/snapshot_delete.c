/* snapshot_delete.c - a frozen file goes, and what is made of it stays as it reads.
 *
 * A marker beside the file tells first that its content is no state any more.  Then
 *   nothing is made of it       it is removed
 *   one image alone is, and     what that says goes into the file, which then takes its name
 *   says less than the file     (snapshot_merge.c)
 *   else                        what the file says goes into each of its children, which then say
 *                               its parent; then it is removed
 * All of them read the same at every instant, and what is done needs not be done again: deleting it
 * once more goes on where it was interrupted. */
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/rebase_copy.h"
#include "core/engine/snapshot_ways.h"
#include "core/engine/state_name.h"
#include "core/storage/folder.h"
#include "core/storage/names.h"

struct deletion {
    struct pl_held_disk *disk;
    const struct pl_states *states;
    const struct pl_disk_state *state; /* the one that goes ... */
    size_t index;
    struct pl_image *img; /* ... with its parents, for reading; owned */
    char *marker;         /* owned */
};

static const struct pl_report *report_of(const struct deletion *d)
{
    return d->disk->options->report;
}

/* ---- what stands in the way ---- */

static int refuse_inside(struct pl_image *img, struct pl_err *e)
{
    PL_FREE struct pl_snapshot *list = NULL;
    size_t count;

    if (pl_snapshots(img, &list, &count, e) < 0)
        return -1;
    if (count == 0)
        return 0;
    pl_fail(e, PL_E_INVALID,
            "%s: has snapshots inside (%zu, the first is '%s'), which read from it", img->path,
            count, list[0].name);
    return pl_hint(e, "delete those first");
}

/* Whether a file in the folder is the disk or one of its states. */
static bool is_ours(const struct pl_held_disk *disk, const char *name)
{
    const struct pl_states *states = disk->states;

    if (strcmp(name, pl_file_of(disk->path)) == 0)
        return true;
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].path && strcmp(name, pl_file_of(states->state[i].path)) == 0)
            return true;
    return false;
}

/* What cannot be read may be made of any state. */
static int refuse_unreadable(const struct pl_states *states, struct pl_err *e)
{
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].unreadable) {
            pl_fail(e, PL_E_CORRUPT, "%s: cannot be read, so what it is made of is not known",
                    states->state[i].path);
            return pl_hint(e, "mend it (platter check -r all), delete that snapshot, or move the "
                              "file away");
        }
    return 0;
}

/* What is made of the image, and is neither the disk nor one of its states. */
static int refuse_others(const struct pl_held_disk *disk, struct pl_image *img, struct pl_err *e)
{
    const struct pl_open_options how = { .allowed_dirs = disk->options->allowed_dirs };
    const char *stranger = NULL;
    char **names;
    size_t count;

    if (pl_children_beside(img, img, &how, &names, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count && !stranger; i++)
        if (!is_ours(disk, names[i]))
            stranger = names[i];
    if (stranger) {
        pl_fail(e, PL_E_INVALID, "%s: the image %s is made of it, too", img->path, stranger);
        pl_hint(e, "give that one another backing file first: platter rebase");
    }
    pl_names_free(names, count);
    return stranger ? -1 : 0;
}

int pl_refuse_strangers(const struct pl_held_disk *disk, struct pl_image *state, struct pl_err *e)
{
    return refuse_unreadable(disk->states, e) < 0 ? -1 : refuse_others(disk, state, e);
}

int pl_refuse_other_content(const struct pl_held_disk *disk, struct pl_err *e)
{
    struct pl_err why = { 0 };
    struct pl_image *img;
    int result;

    if (disk->damaged || pl_held_open(disk, false, false, &img, NULL) < 0)
        return 0; /* nothing can be made of what cannot be read */
    result = refuse_others(disk, img, &why);
    pl_close(img, NULL);
    if (result < 0 && why.kind == PL_E_LIMIT) { /* a way back is needed the more */
        pl_warn(disk->options->report, "%s", why.msg);
        return 0;
    }
    if (result < 0 && e)
        *e = why;
    return result;
}

int pl_state_check_unused(const struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    static const struct pl_opener opener;
    struct pl_storage *file;
    struct pl_err why = { 0 };

    if (pl_open_path(&opener, disk->states->state[index].path, PL_READ_WRITE, &file, &why) == 0) {
        pl_storage_close(file, NULL);
        return 0;
    }
    if (why.kind != PL_E_LOCKED) /* a file that may not be written can go all the same */
        return 0;
    if (e)
        *e = why;
    return -1;
}

/* ---- into the file ---- */

/* What a child has of its own, and its size. */
static void weigh(const struct deletion *d, size_t child, uint64_t *usage, uint64_t *size)
{
    const bool is_disk = child == PL_NO_STATE;

    *usage = is_disk ? d->states->usage : d->states->state[child].usage;
    *size = is_disk ? d->states->size : d->states->state[child].size;
}

/* Whether the state's file can become that child: nobody but the disk and its states is made of it.
 * A state that says no name of its parent is found by an identity, which the file keeps: a copy
 * made of the file before could then be taken for it. */
static bool can_become(const struct deletion *d, size_t child)
{
    struct pl_image *img;
    int result;

    if (pl_state_open(d->disk, child, &img, NULL) < 0)
        return false;
    result = child != PL_NO_STATE && !img->layer.parent_name
                 ? -1
                 : pl_refuse_strangers(d->disk, img, NULL);
    pl_close(img, NULL);
    return result == 0;
}

/* The one child, which may be the disk; false: there is none, or more. */
static bool find_only_child(const struct deletion *d, size_t *child)
{
    *child = PL_NO_STATE;
    if (pl_state_children(d->states, d->index) != 1)
        return false;
    for (size_t i = 0; i < d->states->count; i++)
        if (d->states->state[i].parent == d->index)
            *child = i;
    return true;
}

/* Each byte that must be moved counts; further files of the state's image would be left behind if
 * it were removed. */
static bool goes_down(const struct deletion *d, size_t *child)
{
    const uint64_t usage = pl_disk_usage(d->img);
    uint64_t childs, size;

    if (pl_merge_begun(d->disk, d->index, d->marker, child))
        return true;
    if (!find_only_child(d, child))
        return false;
    weigh(d, *child, &childs, &size);
    return d->img->layer.size <= size && can_become(d, *child) &&
           (childs <= usage || usage > pl_storage_disk_usage(d->img->file));
}

/* ---- into the children ---- */

/* What a child of the state will say instead. */
static struct pl_parent_ref parent_ref(const struct deletion *d)
{
    const struct pl_image *parent = d->img->parent;
    const char *said = d->img->layer.parent_name;

    if (!parent)
        return (struct pl_parent_ref){ 0 };
    return (struct pl_parent_ref){
        .name = said ? said : pl_file_of(parent->path),
        .format = parent->driver->name,
        .identity = parent->layer.identity,
    };
}

static int copy_up(const struct deletion *d, struct pl_image *child, struct pl_err *e)
{
    const struct pl_parent_ref parent = parent_ref(d);
    struct pl_rebase_copy job = {
        .img = child,
        .new = d->img->parent,
        .report = report_of(d),
    };

    if (refuse_inside(child, e) < 0 || pl_rebase_copy(&job, e) < 0 || pl_flush(child, e) < 0)
        return -1;
    return pl_set_parent(child, &parent, e);
}

/* A state, or (PL_NO_STATE) the disk, gets what it reads from the state that goes. */
static int free_child(const struct deletion *d, size_t child, struct pl_err *e)
{
    struct pl_image *img;

    if (pl_child_open(d->disk, child, true, &img, e) < 0)
        return -1;
    return pl_child_close(d->disk, child, img, copy_up(d, img, e), e);
}

static int free_children(const struct deletion *d, struct pl_err *e)
{
    if (d->states->stands_on == d->index && free_child(d, PL_NO_STATE, e) < 0)
        return -1;
    for (size_t i = 0; i < d->states->count; i++)
        if (d->states->state[i].parent == d->index && free_child(d, i, e) < 0)
            return -1;
    return 0;
}

/* The further files of such an image cannot be told from those of another one. */
static void warn_of_rest(const struct deletion *d)
{
    if (pl_disk_usage(d->img) > pl_storage_disk_usage(d->img->file))
        pl_warn(report_of(d), "%s: the files that it consisted of besides are of no use any more",
                d->state->path);
}

/* An interrupted change of a child's parent is finished by opening it for writing. */
static int settle_children(const struct deletion *d, struct pl_err *e)
{
    struct pl_image *img;

    for (size_t i = 0; i <= d->states->count; i++) {
        const size_t child = i < d->states->count ? i : PL_NO_STATE;
        const size_t parent =
            child == PL_NO_STATE ? d->states->stands_on : d->states->state[i].parent;

        if (child == d->index || parent != d->state->parent)
            continue;
        if (pl_child_open(d->disk, child, false, &img, e) < 0 ||
            pl_child_close(d->disk, child, img, 0, e) < 0)
            return -1;
    }
    return 0;
}

static int remove_state(const struct deletion *d, struct pl_err *e)
{
    if ((d->state->deleting && settle_children(d, e) < 0) || free_children(d, e) < 0)
        return -1;
    warn_of_rest(d);
    return pl_name_remove(d->state->path, e);
}

/* ---- all of it ---- */

/* In the direction that moves less. */
static int move(struct deletion *d, struct pl_err *e)
{
    int result = 1;
    size_t child;

    if (goes_down(d, &child)) {
        pl_close(pl_take(d->img), NULL);
        result = pl_merge_child(d->disk, d->index, child, d->marker, e);
    }
    if (result == 1 && !d->img && pl_state_open(d->disk, d->index, &d->img, e) < 0)
        result = -1;
    return result == 1 ? remove_state(d, e) : result;
}

static int work(struct deletion *d, struct pl_err *e)
{
    PL_FREE char *begun = pl_name_marked(d->marker);

    if (refuse_inside(d->img, e) < 0 || pl_refuse_strangers(d->disk, d->img, e) < 0)
        return -1;
    if (d->states->stands_on == d->index && pl_states_inside(d->states))
        return pl_fail(e, PL_E_INVALID, "%s: has snapshots inside, which read from this one",
                       d->disk->path);
    if (!d->disk->driver->set_parent && pl_state_children(d->states, d->index) > 0)
        return pl_no_slot(d->img, "another backing file for what is made of it", e);
    if (!begun && pl_name_mark(d->marker, NULL, e) < 0)
        return -1;
    if (move(d, e) < 0)
        return e && *e->hint ? -1
                             : pl_hint(e, "disk and snapshots read as before; deleting it once "
                                          "more goes on from here");
    return pl_name_remove(d->marker, e);
}

/* What cannot be read can only be of use to somebody who mends it. */
static int delete_unreadable(const struct deletion *d, struct pl_err *e)
{
    if (pl_state_children(d->states, d->index) > 0)
        return pl_state_check_sound(d->states, d->index, e);
    return pl_name_remove(d->state->path, e);
}

int pl_delete_file_state(struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    struct deletion d = { disk, disk->states, &disk->states->state[index], index, NULL, NULL };
    int result;

    if (d.state->unreadable)
        return delete_unreadable(&d, e);
    if (asprintf(&d.marker, "%s" PL_STATE_DELETING, d.state->path) < 0)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
    result = pl_state_check_unused(disk, index, e);
    if (result == 0)
        result = pl_state_open(disk, index, &d.img, e);
    if (result == 0)
        result = work(&d, e);
    pl_close(d.img, NULL);
    free(d.marker);
    return result;
}
