/* tree.c - see tree.h.
 *
 * The folders to come wait in a queue, so that near files come before those further down.  Names
 * are counted as they are read, files and folders alike, which bounds the queue too.  Somebody may
 * put a link in the place of a folder after it was looked at: then names of another folder are
 * shown, whose files the opener's policy refuses. */
#include "core/storage/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/scope.h"
#include "core/storage/folder.h"

struct folder {
    char *path; /* owned */
    unsigned depth;
};

struct walk {
    const struct pl_tree_visit *visit;
    unsigned depth;
    struct folder *queue; /* with room for every name that is looked at */
    size_t next, count;
    size_t names; /* looked at so far */
    bool too_deep;
};

static int enqueue(struct walk *w, char *path, unsigned depth, struct pl_err *e)
{
    if (!path)
        return pl_fail(e, PL_E_NOMEM, "no memory for the folders to look through");
    w->queue[w->count++] = (struct folder){ path, depth };
    return 0;
}

/* One name in a folder: shows a file, keeps a folder for later. */
static int look_at(struct walk *w, const struct folder *in, const char *name, struct pl_err *e)
{
    PL_FREE char *path = NULL;
    struct stat status;

    if (asprintf(&path, "%s/%s", in->path, name) < 0) {
        path = NULL;
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for the names in it", in->path);
    }
    if (lstat(path, &status) < 0)
        return 0; /* it has gone, or may not be looked at */
    if (S_ISREG(status.st_mode))
        return w->visit->file(w->visit->ctx, path, e);
    if (!S_ISDIR(status.st_mode))
        return 0;
    if (in->depth < w->depth)
        return enqueue(w, pl_take(path), in->depth + 1, e);
    w->too_deep = true;
    return 0;
}

/* The names in a folder; none where it is passed over. */
static int read_names(struct walk *w, const struct folder *in, char ***names, size_t *count,
                      struct pl_err *e)
{
    struct pl_err why = { 0 };

    if (pl_names_up_to(in->path, PL_TREE_NAMES_MAX - w->names, names, count, &why) == 0) {
        w->names += *count;
        return 0;
    }
    if (in->depth == 0 || why.kind == PL_E_NOMEM) {
        if (e)
            *e = why;
        return -1;
    }
    *names = NULL;
    *count = 0;
    pl_warn(w->visit->report, "%s", why.msg);
    return 0;
}

static int look_through(struct walk *w, const struct folder *in, struct pl_err *e)
{
    char **names;
    size_t count;
    int result = 0;

    if (read_names(w, in, &names, &count, e) < 0)
        return -1;
    for (size_t i = 0; result == 0 && i < count; i++) {
        result = pl_check_cancelled(w->visit->report, e);
        if (result == 0)
            result = look_at(w, in, names[i], e);
    }
    pl_names_free(names, count);
    return result;
}

static void warn_of_bounds(const struct walk *w, const char *root)
{
    if (w->next < w->count)
        pl_warn(w->visit->report, "%s: more than %d names in it and below: not all were looked at",
                root, PL_TREE_NAMES_MAX);
    if (w->too_deep && w->depth > 0)
        pl_warn(w->visit->report, "%s: folders more than %u levels below it were not looked at",
                root, w->depth);
}

int pl_tree_walk(const char *root, unsigned depth, const struct pl_tree_visit *visit,
                 struct pl_err *e)
{
    struct walk w = { .visit = visit, .depth = depth };
    int result;

    w.queue = calloc(PL_TREE_NAMES_MAX + 1, sizeof *w.queue);
    if (!w.queue)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to look through it", root);
    result = enqueue(&w, strdup(root), 0, e);
    while (result == 0 && w.next < w.count && w.names < PL_TREE_NAMES_MAX)
        result = look_through(&w, &w.queue[w.next++], e);
    if (result == 0)
        warn_of_bounds(&w, root);
    for (size_t i = 0; i < w.count; i++)
        free(w.queue[i].path);
    free(w.queue);
    return result;
}
