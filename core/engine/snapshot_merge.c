/* snapshot_merge.c - the state that goes takes in the one image that is made of it.
 *
 *   1. What the child says is copied into the state's file, and flushed: the two read the same.
 *   2. The disk:  the file takes the disk's name.  That is all.
 *      A state:   the marker says so; then what is made of the child says the state's file instead.
 *   3.            The file takes the child's name beside its own.
 *   4.            What is made of it says that name; the old one is removed.
 * At every instant each image reads the same.  Before the end of 1 nothing but the file was
 * changed, which is no state any more; from then on the marker, after 3 the two names of one file
 * tell where to go on. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/commit_copy.h"
#include "core/engine/new_image.h"
#include "core/engine/snapshot_ways.h"
#include "core/engine/state_name.h"
#include "core/storage/folder.h"
#include "core/storage/names.h"

struct merge {
    struct pl_held_disk *disk;
    const struct pl_disk_state *state, *child; /* child null: the disk */
    size_t index, child_index;
    const char *marker;
};

/* ---- 1 ---- */

static int copy_down(const struct merge *m, struct pl_image *top, struct pl_err *e)
{
    struct pl_image *base = top->parent;
    const struct pl_report *report = m->disk->options->report;
    struct pl_commit_copy job = {
        .top = top,
        .base = base,
        .depth = 1,
        .report = report,
    };

    if (base->layer.size < top->layer.size &&
        pl_resize(base, top->layer.size, false, PL_PREALLOC_OFF, e) < 0)
        return -1;
    job.rate = pl_rate_start(0, report);
    return pl_commit_copy(&job, e) < 0 || pl_flush(base, e) < 0 ? -1 : 0;
}

/* 1: the file cannot be written. */
static int copy(const struct merge *m, struct pl_err *e)
{
    const struct pl_open_options how = {
        .format = m->disk->driver->name,
        .keeps_content = true,
        .allowed_dirs = m->disk->options->allowed_dirs,
        .report = m->disk->options->report,
    };
    struct pl_err why = { 0 };
    struct pl_image *top;
    int result;

    if (pl_state_open(m->disk, m->child_index, &top, e) < 0)
        return -1;
    result = pl_reopen_parent_writable(top, &how, &why);
    if (result < 0 && why.kind == PL_E_UNSUPPORTED) {
        pl_close(top, NULL);
        return 1;
    }
    if (result < 0 && e)
        *e = why;
    if (result == 0)
        result = copy_down(m, top, e);
    return pl_close(top, result < 0 ? NULL : e) < 0 ? -1 : result;
}

/* ---- 2 to 4, for a state ---- */

/* What is made of the two says the state's file by the name at `path`. */
static int retie(const struct merge *m, const char *path, bool of_state, bool of_child,
                 struct pl_err *e)
{
    PL_FREE char *said = pl_name_to_say(pl_file_of(path));
    struct pl_retie how = {
        .parent = { .name = said, .format = m->disk->driver->name },
        .other_file = of_child,
        .except = m->child_index,
    };
    struct pl_image *img;
    int result = 0;

    if (!said)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", path);
    if (pl_state_open(m->disk, m->index, &img, e) < 0)
        return -1;
    how.parent.identity = img->layer.identity;
    if (of_state)
        result = pl_retie_children(m->disk, m->index, &how, e);
    if (result == 0 && of_child)
        result = pl_retie_children(m->disk, m->child_index, &how, e);
    pl_close(img, NULL);
    return result;
}

/* The state's file gets the child's name, too, by way of a hidden one: only a rename replaces. */
static int take_name(const struct merge *m, struct pl_err *e)
{
    static const struct pl_opener opener;
    PL_FREE char *hidden = NULL;
    PL_FREE char *twin = NULL;
    struct pl_storage *file;
    int result;

    if (asprintf(&hidden, ".%s.merged", pl_file_of(m->child->path)) < 0 ||
        !(twin = pl_path_beside(m->child->path, hidden)))
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", m->child->path);
    if (pl_open_path(&opener, m->state->path, PL_READ, &file, e) < 0)
        return -1;
    (void)!pl_name_remove(twin, NULL); /* of an interrupted merge */
    result = pl_name_add(file, twin, e);
    pl_storage_close(file, NULL);
    return result < 0 ? -1 : pl_name_change(twin, m->child->path, e);
}

/* What the marker says of the child: one that takes its name later is another one. */
static void mark_of(const struct pl_disk_state *child, char text[static PL_MARK_MAX])
{
    snprintf(text, PL_MARK_MAX, "%" PRIu64 ".%09u %s", child->date_sec, child->date_nsec,
             child->name);
}

static int become_child(const struct merge *m, struct pl_err *e)
{
    char mark[PL_MARK_MAX];

    mark_of(m->child, mark);
    if (pl_name_mark(m->marker, mark, e) < 0 || retie(m, m->state->path, false, true, e) < 0 ||
        take_name(m, e) < 0)
        return -1;
    pl_name_set_date(m->child->path, m->child->date_sec, m->child->date_nsec);
    if (retie(m, m->child->path, true, true, e) < 0)
        return -1;
    return pl_name_remove(m->state->path, e);
}

bool pl_merge_begun(const struct pl_held_disk *disk, size_t index, const char *marker,
                    size_t *child)
{
    const struct pl_states *states = disk->states;
    PL_FREE char *text = pl_name_marked(marker);
    char mark[PL_MARK_MAX];

    for (size_t i = 0; text && i < states->count; i++) {
        mark_of(&states->state[i], mark);
        if (states->state[i].parent == index && strcmp(mark, text) == 0) {
            *child = i;
            return true;
        }
    }
    return false;
}

int pl_merge_child(struct pl_held_disk *disk, size_t index, size_t child, const char *marker,
                   struct pl_err *e)
{
    const struct pl_disk_state *states = disk->states->state;
    const struct merge m = {
        .disk = disk,
        .state = &states[index],
        .child = child == PL_NO_STATE ? NULL : &states[child],
        .index = index,
        .child_index = child,
        .marker = marker,
    };
    size_t begun;
    int result = 0;

    if (!pl_merge_begun(disk, index, marker, &begun))
        result = copy(&m, e);
    if (result != 0)
        return result;
    return m.child ? become_child(&m, e) : pl_name_change(m.state->path, disk->path, e);
}
