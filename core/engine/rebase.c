/* rebase.c - pl_rebase: opens the two chains, has the difference copied, then changes the name.
 *
 * The order on disk: what was copied is flushed before the name changes, and the name changes in
 * one step.  Until then the image names its old parent and reads the same, afterwards the new
 * one. */
#include "core/engine/rebase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/engine/new_image.h"
#include "core/engine/rebase_copy.h"
#include "core/graph/node.h"

struct rebase {
    const char *path;
    const struct pl_rebase_options *options;
    const char *parent;   /* null: none */
    char *parent_path;    /* seen from here; owned, null: none */
    struct pl_image *img; /* owned */
    struct pl_image *new; /* owned; null: none, or not read */
};

static bool is_safe(const struct rebase *r)
{
    return !r->options->unsafe;
}

/* ---- the new parent ---- */

static int refuse_loop(const struct rebase *r, struct pl_err *e)
{
    struct pl_image *images[] = { r->new };

    if (pl_refuse_in_use(images, 1, r->path, NULL) == 0)
        return 0;
    return pl_fail(e, PL_E_INVALID, "%s: '%s' is the image itself or builds on it", r->path,
                   r->parent);
}

/* Where only the name counts the file need not be there; what it says would be of use all the
 * same. */
static int tell_of_missing(const struct rebase *r, const struct pl_err *why)
{
    pl_warn(r->options->report, "%s: the new backing file cannot be opened: %s", r->path, why->msg);
    if (!r->options->parent_format)
        pl_warn(r->options->report, "%s: its format is not stored either; -F says it", r->path);
    return 0;
}

/* Opens it with its parents where they are of use: in safe mode they must be there, else they may
 * tell of a loop. */
static int try_open_new(struct rebase *r, struct pl_err *e)
{
    struct pl_open_options open = {
        .format = r->options->parent_format,
        .force_share = r->options->force_share || !is_safe(r),
        .allowed_dirs = r->options->allowed_dirs,
        .report = is_safe(r) ? r->options->report : NULL,
    };

    if (pl_open(r->parent_path, &open, &r->new, e) == 0)
        return 0;
    r->new = NULL;
    open.no_parent = true;
    return is_safe(r) || pl_open(r->parent_path, &open, &r->new, e) < 0 ? -1 : 0;
}

static int open_new(struct rebase *r, struct pl_err *e)
{
    struct pl_err why = { 0 };

    if (!r->parent)
        return 0;
    r->parent_path = pl_path_beside(r->path, r->parent);
    if (!r->parent_path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", r->parent);
    if (try_open_new(r, &why) == 0)
        return refuse_loop(r, e);
    r->new = NULL;
    if (!is_safe(r))
        return tell_of_missing(r, &why);
    if (e)
        *e = why;
    return pl_within(e, "%s: opening the new backing file", r->path);
}

/* ---- the image and its old parents ---- */

/* Where only the name counts, or by force, they are the caller's to answer for. */
static int refuse_snapshots(const struct rebase *r, struct pl_err *e)
{
    PL_FREE struct pl_snapshot *list = NULL;
    size_t count;

    if (pl_snapshots(r->img, &list, &count, e) < 0)
        return -1;
    if (!count)
        return 0;
    if (r->options->force || !is_safe(r)) {
        pl_warn(r->options->report,
                "%s: its internal snapshots read from the new backing file, too", r->path);
        return 0;
    }
    pl_fail(e, PL_E_INVALID,
            "%s: its internal snapshots (%zu, the first is '%s') would read from the new backing "
            "file, too",
            r->path, count, list[0].name);
    return pl_hint(e, "delete them first; --force changes the backing file all the same, and with "
                      "it what they read");
}

/* A format that knows parents by an identity knows those of its own kind alone.  The driver refuses
 * others too, but only once all is copied. */
static int refuse_format(const struct rebase *r, struct pl_err *e)
{
    if (!r->new || !r->img->layer.identity || r->new->driver == r->img->driver)
        return 0;
    pl_fail(e, PL_E_UNSUPPORTED, "%s: the backing file of a %s image must be a %s image, not %s",
            r->path, r->img->driver->name, r->img->driver->name, r->new->driver->name);
    return pl_hint(e, "convert one of the two to the format of the other");
}

static int open_image(struct rebase *r, struct pl_err *e)
{
    const struct pl_open_options open = {
        .format = r->options->format,
        .writable = true,
        .no_parent = true,
        .keeps_content = true,
        .same_disk = is_safe(r),
        .allowed_dirs = r->options->allowed_dirs,
        .report = r->options->report,
    };
    const struct pl_open_options parents = {
        .force_share = r->options->force_share,
        .allowed_dirs = r->options->allowed_dirs,
        .report = r->options->report,
    };

    if (pl_open(r->path, &open, &r->img, e) < 0)
        return -1;
    if (!r->img->driver->set_parent)
        return pl_no_slot(r->img, "another backing file", e);
    if (refuse_format(r, e) < 0 || refuse_snapshots(r, e) < 0)
        return -1;
    if (!is_safe(r))
        return 0;
    if (pl_open_parents(r->img, &parents, e) == 0)
        return 0;
    return e && *e->hint ? -1
                         : pl_hint(e, "-u changes the name alone: right where the new file has the "
                                      "content of the old one");
}

/* The user may name any file; what images name is opened in their own folder alone, by default. */
static void tell_of_policy(const struct rebase *r)
{
    const struct pl_opener opener = { .allowed = r->options->allowed_dirs, .force_share = true };
    struct pl_storage *file;
    struct pl_err why;

    if (!r->parent)
        return;
    if (pl_open_named(&opener, r->img->file, r->parent, PL_READ, &file, &why) == 0)
        pl_storage_close(file, NULL);
    else if (why.kind == PL_E_POLICY)
        pl_warn(r->options->report, "%s; from now on %s", why.msg, why.hint);
}

/* ---- the work ---- */

static int copy(const struct rebase *r, struct pl_rebase_result *result, struct pl_err *e)
{
    struct pl_rebase_copy job = {
        .img = r->img,
        .new = r->new,
        .workers = r->options->workers,
        .report = r->options->report,
    };
    const int status = pl_rebase_copy(&job, e);

    result->copied = job.copied;
    result->zero = job.zero;
    return status;
}

static int set_name(const struct rebase *r, struct pl_rebase_result *result, struct pl_err *e)
{
    const struct pl_parent_ref parent = {
        .name = r->parent,
        .format = r->new ? r->new->driver->name : r->options->parent_format,
        .identity = r->new ? r->new->layer.identity : NULL,
    };

    snprintf(result->parent_format, sizeof result->parent_format, "%s",
             parent.name && parent.format ? parent.format : "");
    return pl_set_parent(r->img, &parent, e);
}

static int rebase(struct rebase *r, struct pl_rebase_result *result, struct pl_err *e)
{
    if (open_new(r, e) < 0 || open_image(r, e) < 0)
        return -1;
    if (is_safe(r) && (copy(r, result, e) < 0 || pl_flush(r->img, e) < 0))
        return e && *e->hint ? -1
                             : pl_hint(e, "the image reads as before, over its old backing file; "
                                          "the same command goes on from here");
    if (set_name(r, result, e) < 0)
        return -1;
    tell_of_policy(r);
    return 0;
}

int pl_rebase(const char *path, const struct pl_rebase_options *options,
              struct pl_rebase_result *result, struct pl_err *e)
{
    struct rebase r = {
        .path = path,
        .options = options,
        .parent = options->parent && *options->parent ? options->parent : NULL,
    };
    int status;

    *result = (struct pl_rebase_result){ 0 };
    status = rebase(&r, result, e);
    if (pl_close(r.img, status < 0 ? NULL : e) < 0)
        status = -1;
    if (pl_close(r.new, status < 0 ? NULL : e) < 0)
        status = -1;
    free(r.parent_path);
    return status;
}
