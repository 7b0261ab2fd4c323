/* snapshot_files.c - states kept as frozen files, of which the disk is a child.
 *
 * Create: the disk's file gets the state's name too; then a new, empty child of it takes the disk's
 * name, by a rename.  Rollback: a new, empty child of the state takes it.  So the disk is the old
 * or the new one at every instant, and a crash in between leaves a second name at most.
 *
 * Rename: the file gets the new name too; then its children say the new one, one after the other;
 * then it loses the old one. */
#include <string.h>
#include <time.h>

#include "core/base/scope.h"
#include "core/engine/new_image.h"
#include "core/engine/snapshot_ways.h"
#include "core/engine/state_name.h"
#include "core/graph/chain.h"
#include "core/storage/folder.h"
#include "core/storage/names.h"

static int no_memory(const struct pl_held_disk *disk, struct pl_err *e)
{
    return pl_fail(e, PL_E_NOMEM, "%s: no memory", disk->path);
}

/* A child of it must be one that can be opened. */
static int check_depth(const struct pl_image *parent, struct pl_err *e)
{
    unsigned depth = 1;

    for (const struct pl_image *img = parent; img; img = img->parent)
        depth++;
    if (depth <= PL_CHAIN_MAX)
        return 0;
    pl_fail(e, PL_E_LIMIT, "%s: its chain of backing files is %d deep, a child could not be opened",
            parent->path, PL_CHAIN_MAX);
    return pl_hint(e, "delete snapshots that are no longer needed");
}

static struct pl_create_options child_options(const struct pl_held_disk *disk,
                                              const struct pl_image *parent, const char *name)
{
    return (struct pl_create_options){
        .format = disk->driver->name,
        .size = pl_size(parent),
        .size_given = true,
        .parent = name,
        .parent_format = disk->driver->name,
        .allowed_dirs = disk->options->allowed_dirs,
        .report = disk->options->report,
    };
}

/* Begins the empty child that is to take the disk's name. */
static int begin_child(const struct pl_held_disk *disk, const struct pl_image *parent,
                       const struct pl_create_options *options, struct pl_new_image *child,
                       struct pl_err *e)
{
    return check_depth(parent, e) < 0 ||
                   pl_new_image_begin_over(child, disk->file, parent, options, e) < 0
               ? -1
               : 0;
}

/* ---- create ---- */

/* Whether children can know the file `name` beside the disk by what they know `parent` by. */
static bool is_copy(const struct pl_held_disk *disk, struct pl_image *parent, const char *name)
{
    const struct pl_family family = { parent, disk->options->allowed_dirs };
    PL_FREE char *said = pl_name_to_say(name);
    struct pl_image *img = said ? pl_open_relative(&family, parent->file, said) : NULL;
    const bool copy = img && img->driver == parent->driver && img->layer.identity &&
                      strcmp(img->layer.identity, parent->layer.identity) == 0;

    pl_close(img, NULL);
    return copy;
}

/* Whoever writes to the disk by another name that it has would write to the state. */
static int refuse_links(const struct pl_held_disk *disk, struct pl_err *e)
{
    struct pl_name_facts facts;

    if (!pl_name_look(disk->path, &facts) || facts.links < 2)
        return 0;
    pl_fail(e, PL_E_INVALID,
            "%s: has another name (hard link), by which the snapshot could be written to",
            disk->path);
    return pl_hint(e, "remove that one, or find it: find DIR -samefile %s", disk->path);
}

/* A child that says no name of its parent could take a copy for it. */
static int refuse_copies(const struct pl_held_disk *disk, struct pl_image *parent,
                         struct pl_err *e)
{
    const char *copy = NULL;
    char **names;
    size_t count;

    if (pl_names_beside(parent->file, &names, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count && !copy; i++)
        if (is_copy(disk, parent, names[i]))
            copy = names[i];
    if (copy) {
        pl_fail(e, PL_E_INVALID,
                "%s: %s has the same identity: which of them was kept could not be told",
                disk->path, copy);
        pl_hint(e, "move the copy to another folder");
    }
    pl_names_free(names, count);
    return copy ? -1 : 0;
}

/* Whether children of it say its identity and no name. */
static int is_nameless(struct pl_new_image *child, const struct pl_create_options *options,
                       bool *nameless, struct pl_err *e)
{
    struct pl_create_options alone = *options;

    alone.unsafe_parent = true;
    if (pl_new_image_open(child, &alone, true, e) < 0)
        return -1;
    *nameless = !child->img->layer.parent_name;
    return pl_close(pl_take(child->img), e);
}

static int check_copies(const struct pl_held_disk *disk, struct pl_image *parent,
                        struct pl_new_image *child, const struct pl_create_options *options,
                        struct pl_err *e)
{
    bool nameless;

    if (!parent->layer.identity)
        return 0;
    if (is_nameless(child, options, &nameless, e) < 0 ||
        (nameless && refuse_copies(disk, parent, e) < 0)) {
        pl_new_image_abandon(child);
        return -1;
    }
    return 0;
}

/* A file that is only read from now on is left in good order: a log is replayed, counts are set
 * right. */
static int settle(const struct pl_held_disk *disk, struct pl_err *e)
{
    struct pl_image *img;
    bool dirty;

    if (pl_held_open(disk, false, false, &img, e) < 0)
        return -1;
    dirty = pl_flags(img).dirty;
    pl_close(img, NULL);
    if (!dirty)
        return 0;
    return pl_held_open(disk, true, false, &img, e) < 0 ? -1 : pl_close(img, e);
}

/* Whether the name `path` leads to the file that is held. */
static bool leads_to_disk(const struct pl_held_disk *disk, const char *path)
{
    struct pl_name_facts facts;
    struct pl_storage_id id;

    return pl_name_look(path, &facts) && disk->file->ops->id(disk->file, &id) &&
           facts.id.device == id.device && facts.id.inode == id.inode;
}

/* The child did not become the disk, unless only the last sync failed. */
static void undo_name(const struct pl_held_disk *disk, const char *path)
{
    /* where it stays the next change removes it; what others made meanwhile is theirs */
    if (leads_to_disk(disk, disk->path) && leads_to_disk(disk, path))
        (void)!pl_name_remove(path, NULL);
}

/* The frozen file is called `path` and its child takes the disk's name. */
static int freeze(const struct pl_held_disk *disk, const char *path, struct pl_new_image *child,
                  const struct pl_create_options *options, struct pl_err *e)
{
    struct timespec now;

    if (pl_name_add(disk->file, path, e) < 0) {
        pl_new_image_abandon(child);
        undo_name(disk, path);
        return -1;
    }
    if (pl_new_image_finish_empty(child, options, e) < 0) {
        undo_name(disk, path);
        return -1;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    pl_name_set_date(path, (uint64_t)now.tv_sec, (uint32_t)now.tv_nsec);
    return 0;
}

/* Programs that open the disk by a link in another folder look for the state's file there. */
static void tell_of_link(const struct pl_held_disk *disk, const char *path)
{
    PL_FREE char *beside = pl_path_beside(disk->given, pl_file_of(path));
    struct pl_name_facts facts;

    if (!beside || pl_name_look(beside, &facts))
        return;
    pl_warn(disk->options->report,
            "%s: is a link into another folder, and what opens the disk by it does not find its "
            "snapshots; have all use %s",
            disk->given, disk->path);
}

static int create_file(struct pl_held_disk *disk, const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(disk->path, name);
    PL_FREE char *said = path ? pl_name_to_say(pl_file_of(path)) : NULL;
    struct pl_create_options options;
    struct pl_new_image child;
    struct pl_image *img;
    int result;

    if (!said)
        return no_memory(disk, e);
    if (refuse_links(disk, e) < 0 || settle(disk, e) < 0 ||
        pl_held_open(disk, false, true, &img, e) < 0)
        return -1;
    options = child_options(disk, img, said);
    result = begin_child(disk, img, &options, &child, e);
    if (result == 0)
        result = check_copies(disk, img, &child, &options, e);
    if (pl_close(img, result < 0 ? NULL : e) < 0 && result == 0) {
        pl_new_image_abandon(&child);
        return -1;
    }
    if (result < 0 || freeze(disk, path, &child, &options, e) < 0)
        return -1;
    tell_of_link(disk, path);
    return 0;
}

/* ---- rollback ---- */

static int rollback_file(struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    PL_FREE char *said = pl_name_to_say(pl_file_of(disk->states->state[index].path));
    struct pl_create_options options;
    struct pl_new_image child;
    struct pl_image *parent;
    int result;

    if (!said)
        return no_memory(disk, e);
    if (pl_states_inside(disk->states)) {
        pl_fail(e, PL_E_INVALID, "%s: has snapshots inside, which a rollback to a file would lose",
                disk->path);
        return pl_hint(e, "delete those first");
    }
    if (pl_refuse_other_content(disk, e) < 0 || pl_state_open(disk, index, &parent, e) < 0)
        return -1;
    options = child_options(disk, parent, said);
    result = begin_child(disk, parent, &options, &child, e);
    if (result == 0)
        result = pl_new_image_finish_empty(&child, &options, e);
    pl_close(parent, NULL);
    return result;
}

/* ---- rename ---- */

/* Has one child, a state or (PL_NO_STATE) the disk, say `parent`. */
static int retie(const struct pl_held_disk *disk, size_t child, const struct pl_retie *how,
                 struct pl_err *e)
{
    struct pl_image *img;
    int result = 0;

    if (pl_child_open(disk, child, false, &img, e) < 0)
        return -1;
    if (how->other_file || img->layer.parent_name)
        result = pl_set_parent(img, &how->parent, e);
    return pl_child_close(disk, child, img, result, e);
}

int pl_retie_children(const struct pl_held_disk *disk, size_t of, const struct pl_retie *how,
                      struct pl_err *e)
{
    const struct pl_states *states = disk->states;

    if (states->stands_on == of && retie(disk, PL_NO_STATE, how, e) < 0)
        return -1;
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].parent == of && i != how->except && retie(disk, i, how, e) < 0)
            return -1;
    return 0;
}

/* Has all children of state `index`, which is called `path` as well, say that name. */
static int retie_all(const struct pl_held_disk *disk, size_t index, const char *path,
                     struct pl_err *e)
{
    PL_FREE char *said = pl_name_to_say(pl_file_of(path));
    struct pl_retie how = {
        .parent = { .name = said, .format = disk->driver->name },
        .except = PL_NO_STATE,
    };
    struct pl_image *img;
    int result;

    if (!said)
        return no_memory(disk, e);
    if (pl_state_open(disk, index, &img, e) < 0)
        return -1;
    how.parent.identity = img->layer.identity;
    result = pl_retie_children(disk, index, &how, e);
    pl_close(img, NULL);
    return result;
}

/* Nothing is begun that could not be finished, or that breaks an image of somebody else's. */
static int check_rename(const struct pl_held_disk *disk, size_t index, struct pl_err *e)
{
    struct pl_image *img;
    int result = 0;

    if (pl_state_open(disk, index, &img, e) < 0)
        return -1;
    if (!disk->driver->set_parent && pl_state_children(disk->states, index) > 0)
        result = pl_no_slot(img, "another name of a backing file", e);
    if (result == 0)
        result = pl_refuse_strangers(disk, img, e);
    pl_close(img, NULL);
    return result;
}

static int rename_file(struct pl_held_disk *disk, size_t index, const char *name, struct pl_err *e)
{
    static const struct pl_opener opener;
    const struct pl_disk_state *state = &disk->states->state[index];
    PL_FREE char *path = pl_state_path(disk->path, name);
    struct pl_storage *file;
    int result;

    if (!path)
        return no_memory(disk, e);
    if (pl_state_check_unused(disk, index, e) < 0 || check_rename(disk, index, e) < 0 ||
        pl_open_path(&opener, state->path, PL_READ, &file, e) < 0)
        return -1;
    result = pl_name_add(file, path, e);
    pl_storage_close(file, NULL);
    if (result == 0 && retie_all(disk, index, path, e) < 0) {
        if (retie_all(disk, index, state->path, NULL) == 0) /* else it has both names for now */
            (void)!pl_name_remove(path, NULL);
        return -1;
    }
    return result < 0 ? -1 : pl_name_remove(state->path, e);
}

/* ---- what was interrupted ---- */

/* The state whose file has the further name `path`; PL_NO_STATE: none has, it is the disk's. */
static size_t twin_of(const struct pl_states *states, const char *path)
{
    struct pl_name_facts twin, facts;

    for (size_t i = 0; pl_name_look(path, &twin) && i < states->count; i++)
        if (states->state[i].path && pl_name_look(states->state[i].path, &facts) &&
            facts.id.device == twin.id.device && facts.id.inode == twin.id.inode)
            return i;
    return PL_NO_STATE;
}

/* Half of the children may say the one name, half the other. */
static int clear_twin(struct pl_held_disk *disk, const char *path, struct pl_err *e)
{
    const size_t index = twin_of(disk->states, path);

    if (index != PL_NO_STATE && retie_all(disk, index, disk->states->state[index].path, e) < 0)
        return -1;
    return pl_name_remove(path, e);
}

int pl_twins_clear(struct pl_held_disk *disk, struct pl_err *e)
{
    for (size_t i = 0; i < disk->twin_count; i++)
        if (clear_twin(disk, disk->twins[i], e) < 0)
            return pl_within(e, "%s: clearing away what an interrupted change left", disk->path);
    return 0;
}

const struct pl_way_ops pl_way_files = {
    .create = create_file,
    .rollback = rollback_file,
    .rename = rename_file,
    .remove = pl_delete_file_state,
};
