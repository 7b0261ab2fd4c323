/* chain.c - opens the parents of an image, the youngest first, under the opener's policy.
 *
 * A parent is found by its name; where the child knows an identity too, the parent must have it,
 * and a file in the child's folder, or in one that the caller allows, that has it is taken where
 * the name leads nowhere: VirtualBox keeps children in a folder below that of their parent.
 *
 * A chain ends where an image names no parent.  One that comes back to a file already in it, or is
 * deeper than PL_CHAIN_MAX, is refused: both are ways to make a reader loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/scope.h"
#include "core/storage/folder.h"
#include "core/graph/node.h"

/* Words that differ in the case of letters alone are the same: identities are hexadecimal. */
static bool has_word(const char *words, const char *word, size_t len)
{
    for (const char *at = words; at && *at; at += strspn(at, " ")) {
        const size_t here = strcspn(at, " ");

        if (here == len && strncasecmp(at, word, len) == 0)
            return true;
        at += here;
    }
    return false;
}

bool pl_has_identity(const struct pl_image *img, const char *words)
{
    for (const char *at = words; *at; at += strspn(at, " ")) {
        const size_t len = strcspn(at, " ");

        if (has_word(img->layer.identity, at, len))
            return true;
        at += len;
    }
    return false;
}

static int check_identity(const struct pl_image *child, const struct pl_image *parent,
                          struct pl_err *e)
{
    const char *wanted = child->layer.parent_identity;

    if (!wanted || pl_has_identity(parent, wanted))
        return 0;
    pl_fail(e, PL_E_MISMATCH, "%s: its parent must have the identity %s, but %s has %s",
            child->path, wanted, parent->path,
            parent->layer.identity ? parent->layer.identity : "none");
    return pl_hint(e, "the parent was changed or replaced after the child was made from it");
}

static void warn_of_changes(const struct pl_image *child, const struct pl_image *parent,
                            const struct pl_report *report)
{
    const char *revision = child->layer.parent_revision;

    if (revision && !pl_has_identity(parent, revision))
        pl_warn(report,
                "%s: its parent %s was changed after it was made from it (no longer %s): its "
                "content may be damaged",
                child->path, parent->path, revision);
}

static int refuse_loop(const struct pl_image *youngest, const struct pl_image *child,
                       struct pl_storage *file, const char *name, struct pl_err *e)
{
    unsigned depth = 1;

    for (const struct pl_image *img = youngest; img != child; img = img->parent)
        depth++;
    if (depth >= PL_CHAIN_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: its chain of backing files is deeper than %d",
                       youngest->path, PL_CHAIN_MAX);
    for (const struct pl_image *img = youngest; img; img = img->parent)
        if (pl_storage_same(img->file, file))
            return pl_fail(e, PL_E_CORRUPT, "%s: its backing file '%s' is already in the chain",
                           child->path, name);
    return 0;
}

/* A child whose parent is wanted. */
struct search {
    struct pl_image *youngest, *child;
    const struct pl_open_options *options; /* of the youngest */
    const struct pl_report *report;        /* for what opening says of the file; may be null */
    bool writable; /* the parent is to be written to, without its children noticing */
};

/* Opens the file of that name, seen from the folder of the child, alone and hangs it below the
 * child. */
static int open_by_name(const struct search *s, const char *name, struct pl_err *e)
{
    struct pl_image *child = s->child;
    const struct pl_opener opener = { .allowed = s->options->allowed_dirs,
                                      .force_share = s->options->force_share };
    const struct pl_open_options parent_options = {
        .format = child->layer.parent_format,
        .writable = s->writable,
        .keeps_content = s->writable,
        .no_parent = true, /* one step at a time: no recursion */
        .force_share = s->options->force_share,
        .describe_only = s->options->describe_only,
        .allowed_dirs = s->options->allowed_dirs,
        .report = s->report,
    };
    const struct pl_file_source own = { 0 };
    struct pl_image *parent;
    struct pl_storage *file;

    if (pl_open_named(&opener, child->file, name, s->writable ? PL_READ_WRITE : PL_READ, &file, e) <
        0)
        return -1;
    if (refuse_loop(s->youngest, child, file, name, e) < 0) {
        pl_storage_close(file, NULL);
        return -1;
    }
    if (pl_open_storage(file, &own, file->path ? file->path : name, &parent_options, &parent, e) <
        0)
        return -1;
    if (check_identity(child, parent, e) < 0) {
        pl_close(parent, NULL);
        return -1;
    }
    warn_of_changes(child, parent, s->options->report);
    child->parent = parent;
    return 0;
}

/* Whether the file could be the parent, by its first bytes: the format of the child. */
static bool is_candidate(const struct search *s, const char *name)
{
    const struct pl_opener opener = { .allowed = s->options->allowed_dirs, .force_share = true };
    const struct pl_driver *driver;
    struct pl_storage *file;
    bool same;

    if (pl_open_named(&opener, s->child->file, name, PL_READ, &file, NULL) < 0)
        return false;
    same = pl_probe_file(file, NULL, &driver, NULL) == 0 && driver == s->child->driver;
    pl_storage_close(file, NULL);
    return same;
}

/* `name` in `folder`, which is null for the child's own; null without memory. */
static char *name_in(const char *folder, const char *name)
{
    char *path;

    if (!folder)
        return strdup(name);
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static int try_candidate(const struct search *s, const char *folder, const char *name)
{
    PL_FREE char *path = name_in(folder, name);

    return path && is_candidate(s, path) && open_by_name(s, path, NULL) == 0 ? 0 : 1;
}

/* Looks for the identity in a folder (null: the child's): what a name says ends with a move to
 * another host, and some formats give none.  1: not there. */
static int search_folder(const struct search *s, const char *folder, struct pl_err *e)
{
    struct search quiet = *s; /* what other files have to say concerns nobody */
    char **names;
    size_t count;
    int result = 1;

    quiet.report = NULL;
    if ((folder ? pl_names_in(folder, &names, &count, e)
                : pl_names_beside(s->child->file, &names, &count, e)) < 0)
        return -1;
    for (size_t i = 0; result == 1 && i < count; i++)
        result = try_candidate(&quiet, folder, names[i]);
    pl_names_free(names, count);
    return result;
}

/* The last part of a name, by the rules of Unix and of Windows. */
static const char *last_part(const char *name)
{
    const char *last = name;

    for (const char *at = name; *at; at++)
        if ((*at == '/' || *at == '\\') && at[1])
            last = at + 1;
    return last;
}

/* Whether another file may be the parent that the name did not lead to. */
static bool may_be_elsewhere(const struct pl_err *why)
{
    return why->kind == PL_E_NOT_FOUND || why->kind == PL_E_POLICY || why->kind == PL_E_MISMATCH;
}

/* A file called `last` first, which spares looking into the others.  1: not there. */
static int search_for(const struct search *s, const char *folder, const char *last,
                      struct pl_err *e)
{
    PL_FREE char *path = last ? name_in(folder, last) : NULL;

    if (path && open_by_name(s, path, NULL) == 0)
        return 0;
    return search_folder(s, folder, e);
}

/* The child's folder, then those that the caller allows; one that cannot be looked through is an
 * error only where the others do not have it.  1: not there. */
static int search_everywhere(const struct search *s, const char *last, struct pl_err *e)
{
    const char *const *allowed = s->options->allowed_dirs;
    int result = search_for(s, NULL, last, e);

    for (; result != 0 && allowed && *allowed; allowed++) {
        PL_FREE char *folder = realpath(*allowed, NULL);
        /* the opener passes over one that is not there, too */
        const int found = folder ? search_for(s, folder, last, result < 0 ? NULL : e) : 1;

        if (found <= 0)
            result = found;
    }
    return result;
}

static int open_parent(const struct search *s, struct pl_err *e)
{
    const char *name = s->child->layer.parent_name;
    const char *wanted = s->child->layer.parent_identity;
    struct pl_err why = { 0 };
    int result;

    pl_fail(&why, PL_E_NOT_FOUND, "no file in its folder%s has the identity %s of its parent",
            s->options->allowed_dirs && *s->options->allowed_dirs ? " or the allowed ones" : "",
            wanted ? wanted : "");
    if (name && open_by_name(s, name, &why) == 0)
        return 0;
    if (wanted && may_be_elsewhere(&why)) {
        result = search_everywhere(s, name ? last_part(name) : NULL, e);
        if (result <= 0)
            return result;
        if (!*why.hint)
            pl_hint(&why, "use --allow-dir DIR to look for it in the folder DIR, too");
    }
    if (e)
        *e = why;
    return pl_within(e, "%s: opening its backing file", s->child->path);
}

int pl_open_parents(struct pl_image *img, const struct pl_open_options *options, struct pl_err *e)
{
    struct pl_image *child = img;

    while (child->layer.parent_name || child->layer.parent_identity) {
        const struct search search = {
            .youngest = img, .child = child, .options = options, .report = options->report
        };

        if (open_parent(&search, e) < 0) {
            pl_close(pl_take(img->parent), NULL);
            return -1;
        }
        child = child->parent;
    }
    return 0;
}

int pl_reopen_parent_writable(struct pl_image *child, const struct pl_open_options *options,
                              struct pl_err *e)
{
    struct pl_open_options quiet = *options; /* what the chain has to say was said */
    const struct search search = { .youngest = child,
                                   .child = child,
                                   .options = &quiet,
                                   .report = options->report,
                                   .writable = true };

    quiet.report = NULL;
    pl_close(pl_take(child->parent), NULL);
    if (open_parent(&search, e) < 0)
        return -1;
    return pl_open_parents(child->parent, &quiet, e);
}
