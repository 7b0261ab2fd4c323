/* commit.c - pl_commit: finds the base, refuses what would lose content, copies, empties the
 * child.
 *
 * The order on disk: the base is longer, its bytes are written, all of it is flushed; only then
 * does the child lose its own.  So the child reads the same at every instant. */
#include "core/engine/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/commit_copy.h"
#include "core/engine/new_image.h"
#include "core/engine/state_name.h"
#include "core/storage/folder.h"

#define SECTOR 512u

/* The child is emptied in steps, between which somebody may ask to stop. */
#define STEP PL_GIB

struct commit {
    const struct pl_commit_options *options;
    struct pl_open_options open; /* how the chain was opened */
    struct pl_image *top;
    struct pl_image *above; /* whose parent is the base */
    unsigned depth;         /* of the base below top */
    bool empties;
};

/* ---- the base ---- */

/* Whether the file at `path` is the image's. */
static bool is_file_of(const struct pl_image *img, const char *path)
{
    const struct pl_opener opener = { .force_share = true };
    struct pl_storage *there;
    bool same;

    if (!path || pl_open_path(&opener, path, PL_READ, &there, NULL) < 0)
        return false;
    same = pl_storage_same(img->file, there);
    pl_storage_close(there, NULL);
    return same;
}

/* Whether `name` means the parent of `child`: as the child names it, or a path, from here or from
 * the folder of the youngest. */
static bool means_parent(const struct commit *c, const struct pl_image *child, const char *name)
{
    PL_FREE char *beside = pl_path_beside(c->top->path, name);

    return (child->layer.parent_name && strcmp(child->layer.parent_name, name) == 0) ||
           is_file_of(child->parent, name) || is_file_of(child->parent, beside);
}

static int find_base(struct commit *c, struct pl_err *e)
{
    const char *name = c->options->base;

    if (!c->top->parent)
        return pl_fail(e, PL_E_INVALID, "%s: it has no backing file to commit to", c->top->path);
    c->above = c->top;
    c->depth = 1;
    while (name && !means_parent(c, c->above, name)) {
        c->above = c->above->parent;
        c->depth++;
        if (!c->above->parent) {
            pl_fail(e, PL_E_NOT_FOUND, "%s: '%s' is not in its chain of backing files",
                    c->top->path, name);
            return pl_hint(e, "platter info --backing-chain shows them");
        }
    }
    return 0;
}

/* What can be known before anything is opened for writing. */
static int check_abilities(const struct commit *c, struct pl_err *e)
{
    struct pl_image *base = c->above->parent;

    if (!base->driver->allocate)
        return pl_no_slot(base, "writing", e);
    if (c->empties && !c->top->driver->forget && pl_no_slot(c->top, "emptying", e) < 0)
        return pl_hint(e, "-d commits without emptying it");
    if (base->layer.size < c->top->layer.size && !base->driver->resize)
        return pl_no_slot(base, "growing", e);
    return 0;
}

/* ---- who else would lose content ---- */

static int refuse_snapshots(const struct commit *c, struct pl_err *e)
{
    for (struct pl_image *img = c->top; img != c->above->parent; img = img->parent) {
        PL_FREE struct pl_snapshot *list = NULL;
        size_t count;

        if (pl_snapshots(img, &list, &count, e) < 0)
            return -1;
        if (count) {
            pl_fail(e, PL_E_INVALID,
                    "%s: its internal snapshots (%zu, the first is '%s') read from what is to "
                    "change, too",
                    img->path, count, list[0].name);
            return pl_hint(e, "--force commits all the same; their content is then another one");
        }
    }
    return 0;
}

/* A state that is kept reads from the base, or is the base: it would silently become another. */
static int refuse_states(const struct commit *c, struct pl_err *e)
{
    for (const struct pl_image *img = c->top; img != c->above->parent; img = img->parent) {
        PL_FREE char *disk = NULL, *name = NULL;

        if (!pl_state_is_kept(img->parent->path, &disk, &name))
            continue;
        pl_fail(e, PL_E_INVALID, "%s: is the snapshot '%s' of the disk %s, which would change",
                img->parent->path, name, disk);
        return pl_hint(e, "platter snapshot delete '%s' '%s' joins the two once the snapshot is "
                          "of no use any more; --force commits all the same",
                       disk, name);
    }
    return 0;
}

/* Whether the file `name` beside an image is one of the chain down to the base. */
static bool is_in_chain(const struct commit *c, const struct pl_image *beside, const char *name)
{
    PL_FREE char *path = pl_path_beside(beside->path, name);

    for (const struct pl_image *img = c->top; img != c->above->parent->parent; img = img->parent)
        if (is_file_of(img, path))
            return true;
    return false;
}

/* The children of `parent` in the folder of `beside` that are not of this chain: their names,
 * with commas. *others is the caller's to free, null: none. */
static int list_others(const struct commit *c, struct pl_image *parent, struct pl_image *beside,
                       char **others, struct pl_err *e)
{
    char **names;
    size_t count;

    *others = NULL;
    if (pl_children_beside(parent, beside, &c->open, &names, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        PL_FREE char *before = NULL;

        if (is_in_chain(c, beside, names[i]))
            continue;
        before = pl_take(*others);
        if (asprintf(others, "%s%s%s", before ? before : "", before ? ", " : "", names[i]) < 0)
            *others = NULL;
    }
    pl_names_free(names, count);
    return 0;
}

static int refuse_others_beside(const struct commit *c, struct pl_image *parent,
                                struct pl_image *beside, struct pl_err *e)
{
    PL_FREE char *others = NULL;
    struct pl_err why;

    if (list_others(c, parent, beside, &others, &why) < 0) {
        pl_warn(c->options->report, "%s: other images that build on it were not looked for: %s",
                parent->path, why.msg);
        return 0;
    }
    if (!others)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: other images build on it, whose content would change: %s",
            parent->path, others);
    return pl_hint(e, "rebase them first (platter rebase), or commit all the same with --force");
}

/* Another folder than that of the image's child was looked through already. */
static bool has_own_folder(const struct pl_image *child, const struct pl_image *parent)
{
    const char *a = strrchr(child->path, '/'), *b = strrchr(parent->path, '/');
    const size_t a_len = a ? (size_t)(a - child->path) : 0;
    const size_t b_len = b ? (size_t)(b - parent->path) : 0;

    return a_len != b_len || memcmp(child->path, parent->path, a_len) != 0;
}

static int refuse_others(const struct commit *c, struct pl_err *e)
{
    for (struct pl_image *img = c->top; img != c->above->parent; img = img->parent)
        if (refuse_others_beside(c, img->parent, img, e) < 0 ||
            (has_own_folder(img, img->parent) &&
             refuse_others_beside(c, img->parent, img->parent, e) < 0))
            return -1;
    return 0;
}

/* ---- the work ---- */

static int grow_base(struct pl_image *base, uint64_t size, struct pl_commit_result *result,
                     struct pl_err *e)
{
    const uint64_t whole = base->layer.plain ? size : pl_round_up(size, SECTOR);

    if (base->layer.size >= size)
        return 0;
    result->grown = true;
    return pl_resize(base, whole, false, PL_PREALLOC_OFF, e);
}

static int empty(const struct commit *c, struct pl_err *e)
{
    const uint64_t size = c->top->layer.size;

    for (uint64_t at = 0; at < size; at += PL_MIN(STEP, size - at))
        if (pl_check_cancelled(c->options->report, e) < 0 ||
            pl_forget(c->top, at, PL_MIN(STEP, size - at), e) < 0)
            return -1;
    return pl_flush(c->top, e);
}

static int copy(const struct commit *c, struct pl_image *base, struct pl_commit_result *result,
                struct pl_err *e)
{
    const struct pl_commit_options *o = c->options;
    struct pl_commit_copy job = {
        .top = c->top,
        .base = base,
        .depth = c->depth,
        .empties = c->empties,
        .workers = o->workers,
        .rate = pl_rate_start(o->rate_limit, o->report),
        .report = o->report,
    };
    const int status = pl_commit_copy(&job, e);

    result->copied = job.copied;
    result->zero = job.zero;
    return status;
}

static int describe_base(const struct pl_image *base, struct pl_commit_result *result,
                         struct pl_err *e)
{
    result->base = strdup(base->path);
    result->format = base->driver->name;
    return result->base ? 0 : pl_fail(e, PL_E_NOMEM, "%s: no memory for its name", base->path);
}

/* What to do about a failure on the way, unless that was said. */
static int advise(const struct commit *c, const struct pl_image *base, struct pl_err *e)
{
    if (e && e->kind == PL_E_POLICY && base->guard_header)
        return pl_hint(
            e, "if it is %s, have its child say so: platter rebase -u -F %s -b '%s' '%s'",
            base->driver->name, base->driver->name, c->above->layer.parent_name, c->above->path);
    if (e && !*e->hint)
        return pl_hint(e, "the disk reads as before; the same command goes on from here");
    return -1;
}

static int change(const struct commit *c, struct pl_commit_result *result, struct pl_err *e)
{
    struct pl_image *base;

    if (pl_reopen_parent_writable(c->above, &c->open, e) < 0)
        return -1;
    base = c->above->parent;
    if (describe_base(base, result, e) < 0)
        return -1;
    if (grow_base(base, c->top->layer.size, result, e) < 0 || copy(c, base, result, e) < 0 ||
        pl_flush(base, e) < 0 || (c->empties && empty(c, e) < 0))
        return advise(c, base, e);
    result->size = base->layer.size;
    result->emptied = c->empties;
    return 0;
}

static int commit(struct commit *c, struct pl_commit_result *result, struct pl_err *e)
{
    if (find_base(c, e) < 0 || check_abilities(c, e) < 0)
        return -1;
    if (!c->options->force && (refuse_snapshots(c, e) < 0 || refuse_states(c, e) < 0 ||
                               refuse_others(c, e) < 0))
        return -1;
    return change(c, result, e);
}

int pl_commit(const char *path, const struct pl_commit_options *options,
              struct pl_commit_result *result, struct pl_err *e)
{
    struct commit c = {
        .options = options,
        .empties = !options->keep && !options->base,
        .open = { .format = options->format,
                  .keeps_content = true, /* the child reads the same, emptied or not */
                  .same_disk = true,
                  .allowed_dirs = options->allowed_dirs,
                  .report = options->report },
    };
    int status;

    *result = (struct pl_commit_result){ 0 };
    c.open.writable = c.empties;
    if (pl_open(path, &c.open, &c.top, e) < 0)
        return -1;
    status = commit(&c, result, e);
    if (pl_close(c.top, status < 0 ? NULL : e) < 0)
        status = -1;
    if (status < 0)
        free(pl_take(result->base));
    return status;
}
