/* states_gather.c - finds the states of a disk, and which was made from which.
 *
 * A state's file is found by its name, and its parent by what its image says: the name that leads
 * to another state's file, or that one's identity.  Which names an interrupted change left behind
 * is told by the host: they lead to a file that has another name already. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/new_image.h"
#include "core/engine/state_name.h"
#include "core/engine/states.h"
#include "core/storage/folder.h"
#include "core/storage/names.h"

/* A state, and what links it to others. */
struct found {
    struct pl_disk_state state;
    struct pl_storage_id id; /* of its file */
    char *identity, *parent_name, *parent_identity;
};

struct gathering {
    struct pl_held_disk *disk;
    struct found *found;
    size_t count, room;
};

static void free_found(struct gathering *g)
{
    for (size_t i = 0; i < g->count; i++) {
        struct found *f = &g->found[i];

        free(f->state.name);
        free(f->state.id);
        free(f->state.path);
        free(f->identity);
        free(f->parent_name);
        free(f->parent_identity);
    }
    free(g->found);
}

/* Room for one more, zeroed; null: no memory. */
static struct found *add(struct gathering *g)
{
    struct found *more;

    if (g->count == g->room) {
        const size_t room = g->room ? 2 * g->room : 16;

        more = reallocarray(g->found, room, sizeof *more);
        if (!more)
            return NULL;
        g->found = more;
        g->room = room;
    }
    more = &g->found[g->count++];
    *more = (struct found){ .state.parent = PL_NO_STATE };
    return more;
}

static int no_memory(const struct gathering *g, struct pl_err *e)
{
    return pl_fail(e, PL_E_NOMEM, "%s: no memory for its snapshots", g->disk->path);
}

/* ---- inside the image ---- */

static int add_inside(struct gathering *g, const struct pl_snapshot *s, struct pl_err *e)
{
    struct found *f = add(g);

    if (!f)
        return no_memory(g, e);
    f->state.name = strdup(s->name);
    f->state.id = strdup(s->id);
    f->state.date_sec = s->date_sec;
    f->state.date_nsec = s->date_nsec;
    f->state.size = s->disk_size;
    f->state.vm_state_size = s->vm_state_size;
    return f->state.name && f->state.id ? 0 : no_memory(g, e);
}

static int gather_inside(struct gathering *g, struct pl_image *img, struct pl_err *e)
{
    PL_FREE struct pl_snapshot *list = NULL;
    size_t count;

    if (pl_snapshots(img, &list, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (add_inside(g, &list[i], e) < 0)
            return -1;
    return 0;
}

/* ---- files ---- */

static bool same_id(struct pl_storage_id a, struct pl_storage_id b)
{
    return a.device == b.device && a.inode == b.inode;
}

/* A copy of a text that may be null. */
static bool copy(const char *text, char **to)
{
    *to = text ? strdup(text) : NULL;
    return !text || *to;
}

/* Whether the file itself is to blame: it is no image, or a damaged one.  Else it may be good, and
 * made of another state, so that nothing can be changed without knowing it. */
static bool is_damaged(const struct pl_err *why)
{
    return why->kind == PL_E_FORMAT || why->kind == PL_E_CORRUPT || why->kind == PL_E_UNSUPPORTED ||
           why->kind == PL_E_LIMIT;
}

static int open_state(const struct gathering *g, const char *path, struct pl_image **img,
                      struct pl_err *e)
{
    const bool look = !g->disk->file->writable;
    const struct pl_open_options how = {
        .format = g->disk->driver->name,
        .no_parent = true,
        .force_share = look, /* nothing but the header is of interest */
        .check_only = look,
        .allowed_dirs = g->disk->options->allowed_dirs,
    };

    return pl_open(path, &how, img, e);
}

/* What the image in the file says; one that is damaged is listed all the same. */
static int look_inside(struct gathering *g, struct found *f, struct pl_err *e)
{
    struct pl_err why = { 0 };
    struct pl_image *img;
    bool copied;

    if (open_state(g, f->state.path, &img, &why) < 0) {
        f->state.unreadable = true;
        if (!g->disk->file->writable || is_damaged(&why))
            return 0;
        if (e)
            *e = why;
        return pl_within(e, "%s: looking at its snapshots", g->disk->path);
    }
    f->state.size = pl_size(img);
    f->state.usage = pl_disk_usage(img);
    copied = copy(img->layer.identity, &f->identity) &&
             copy(img->layer.parent_name, &f->parent_name) &&
             copy(img->layer.parent_identity, &f->parent_identity);
    pl_close(img, NULL);
    return copied ? 0 : no_memory(g, e);
}

static bool has_marker(const char *path)
{
    PL_FREE char *marker = NULL;
    struct pl_name_facts facts;

    return asprintf(&marker, "%s" PL_STATE_DELETING, path) >= 0 && pl_name_look(marker, &facts);
}

/* A second name of a file that is known. */
static int add_twin(struct gathering *g, const char *path, struct pl_err *e)
{
    struct pl_held_disk *disk = g->disk;
    char **more = reallocarray(disk->twins, disk->twin_count + 1, sizeof *more);

    if (more)
        disk->twins = more;
    if (!more || !(more[disk->twin_count] = strdup(path)))
        return no_memory(g, e);
    disk->twin_count++;
    return 0;
}

static bool is_disk(const struct gathering *g, struct pl_storage_id id)
{
    struct pl_storage *file = g->disk->file;
    struct pl_storage_id disk;

    return file->ops->id && file->ops->id(file, &disk) && same_id(disk, id);
}

/* The state that is this file; null: none is so far. */
static struct found *find_file(const struct gathering *g, struct pl_storage_id id)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->found[i].state.path && same_id(g->found[i].id, id))
            return &g->found[i];
    return NULL;
}

/* Another name of a file that is known.  Of a state that goes it is the one that goes. */
static int add_other_name(struct gathering *g, struct found *known, char **path, const char *name,
                          struct pl_err *e)
{
    char *copy;

    if (!known || !known->state.deleting || has_marker(*path))
        return add_twin(g, *path, e);
    copy = strdup(name);
    if (!copy || add_twin(g, known->state.path, e) < 0) {
        free(copy);
        return no_memory(g, e);
    }
    free(known->state.path);
    free(known->state.name);
    known->state.path = pl_take(*path);
    known->state.name = copy;
    known->state.deleting = false;
    return 0;
}

/* The state called `name`; the name of the file was taken apart to get it. */
static int add_file(struct gathering *g, const char *name, struct pl_err *e)
{
    PL_FREE char *path = pl_state_path(g->disk->path, name);
    struct pl_name_facts facts;
    struct found *f;

    if (!path)
        return no_memory(g, e);
    if (!pl_name_look(path, &facts) || !facts.regular)
        return 0;
    f = find_file(g, facts.id);
    if (f || is_disk(g, facts.id))
        return add_other_name(g, f, &path, name, e);
    f = add(g);
    if (!f)
        return no_memory(g, e);
    f->id = facts.id;
    f->state.date_sec = facts.date_sec;
    f->state.date_nsec = facts.date_nsec;
    f->state.deleting = has_marker(path);
    f->state.path = pl_take(path);
    f->state.name = strdup(name);
    return f->state.name ? look_inside(g, f, e) : no_memory(g, e);
}

static int gather_files(struct gathering *g, struct pl_err *e)
{
    PL_FREE char *folder = pl_folder_of(g->disk->path);
    char **names;
    size_t count;
    int result = 0;

    if (!folder)
        return no_memory(g, e);
    if (pl_names_up_to(folder, PL_STATES_MAX, &names, &count, e) < 0)
        return -1;
    for (size_t i = 0; result == 0 && i < count; i++) {
        PL_FREE char *name = pl_state_name_of(g->disk->path, names[i]);

        if (name)
            result = add_file(g, name, e);
    }
    pl_names_free(names, count);
    return result;
}

/* ---- the tree ---- */

static int by_date(const void *a, const void *b)
{
    const struct pl_disk_state *x = &((const struct found *)a)->state;
    const struct pl_disk_state *y = &((const struct found *)b)->state;

    if (x->date_sec != y->date_sec)
        return x->date_sec < y->date_sec ? -1 : 1;
    if (x->date_nsec != y->date_nsec)
        return x->date_nsec < y->date_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Whether `name`, as a file in the folder says it, leads to the file. */
static bool leads_to(const struct gathering *g, const char *name, struct pl_storage_id id)
{
    PL_FREE char *path = pl_path_beside(g->disk->path, name);
    struct pl_name_facts facts;

    return path && pl_name_look(path, &facts) && same_id(facts.id, id);
}

/* Whether children can know the state by that word. */
static bool is_known_by(const struct found *f, const char *word)
{
    const struct pl_image closed = { .layer.identity = f->identity };

    return pl_has_identity(&closed, word);
}

/* The state that an image says is its parent. */
static size_t find_parent(const struct gathering *g, const char *name, const char *identity)
{
    for (size_t i = 0; name && i < g->count; i++)
        if (g->found[i].state.path && leads_to(g, name, g->found[i].id))
            return i;
    for (size_t i = 0; identity && i < g->count; i++)
        if (is_known_by(&g->found[i], identity))
            return i;
    return PL_NO_STATE;
}

static int take_over(struct gathering *g, struct pl_image *img, struct pl_err *e)
{
    struct pl_states *states = calloc(1, sizeof *states);

    g->disk->states = states;
    if (!states)
        return no_memory(g, e);
    states->path = strdup(g->disk->path);
    states->format = g->disk->driver->name;
    states->state = calloc(g->count ? g->count : 1, sizeof *states->state);
    if (!states->path || !states->state)
        return no_memory(g, e);
    states->size = img ? pl_size(img) : 0;
    states->usage = img ? pl_disk_usage(img) : pl_storage_disk_usage(g->disk->file);
    states->stands_on =
        img ? find_parent(g, img->layer.parent_name, img->layer.parent_identity) : PL_NO_STATE;
    for (; states->count < g->count; states->count++) {
        struct found *f = &g->found[states->count];

        f->state.parent = find_parent(g, f->parent_name, f->parent_identity);
        states->state[states->count] = f->state;
        f->state.name = f->state.id = NULL; /* the list's now; the path is still looked at */
    }
    for (size_t i = 0; i < g->count; i++)
        g->found[i].state.path = NULL;
    return 0;
}

int pl_states_gather(struct pl_held_disk *disk, struct pl_image *img, struct pl_err *e)
{
    struct gathering g = { .disk = disk };
    int result = img ? gather_inside(&g, img, e) : 0;

    if (result == 0)
        result = gather_files(&g, e);
    if (result == 0 && g.count > 1)
        qsort(g.found, g.count, sizeof *g.found, by_date);
    if (result == 0)
        result = take_over(&g, img, e);
    free_found(&g);
    if (result == 0)
        pl_notes_read(disk->states);
    return result;
}
