/* chain.c - opens the parents of an image, the youngest first, under the opener's policy.
 *
 * A parent is found by its name; where the child knows an identity too, the parent must have it,
 * and a file in the child's folder, or in one that the caller allows, that has it is taken where
 * the name leads nowhere: VirtualBox keeps children in a folder below that of their parent.
 * Among several the one is taken that was not written to since: others may be copies.
 *
 * A chain ends where an image names no parent.  One that comes back to a file already in it, or is
 * deeper than PL_CHAIN_MAX, is refused: both are ways to make a reader loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/scope.h"
#include "core/storage/folder.h"
#include "core/graph/chain.h"

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

/* Whether the parent was written to after the child was made from it. */
static bool was_changed(const struct pl_image *child, const struct pl_image *parent)
{
    const char *revision = child->layer.parent_revision;

    return revision && !pl_has_identity(parent, revision);
}

static bool is_in_chain(const struct pl_step *s, struct pl_storage *file)
{
    for (const struct pl_image *img = s->youngest; img; img = img->parent)
        if (pl_storage_same(img->file, file))
            return true;
    return false;
}

/* *link says which of the two it is. */
static int refuse_loop(const struct pl_step *s, struct pl_storage *file, const char *name,
                       enum pl_link *link, struct pl_err *e)
{
    unsigned depth = 1;

    for (const struct pl_image *img = s->youngest; img != s->child; img = img->parent)
        depth++;
    *link = PL_LINK_TOO_DEEP;
    if (depth >= PL_CHAIN_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: its chain of backing files is deeper than %d",
                       s->youngest->path, PL_CHAIN_MAX);
    *link = PL_LINK_LOOP;
    return is_in_chain(s, file)
               ? pl_fail(e, PL_E_CORRUPT, "%s: its backing file '%s' is already in the chain",
                         s->child->path, name)
               : 0;
}

static enum pl_link link_of_failure(enum pl_kind kind)
{
    switch (kind) {
    case PL_E_NOT_FOUND:
        return PL_LINK_MISSING;
    case PL_E_POLICY:
        return PL_LINK_REFUSED;
    default:
        return PL_LINK_UNREADABLE;
    }
}

/* Hangs the image in the file, which is taken over, below the child. */
static int hang(const struct pl_step *s, struct pl_storage *file, const char *name,
                enum pl_link *link, struct pl_err *e)
{
    struct pl_image *child = s->child;
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
    int result;

    *link = PL_LINK_UNREADABLE;
    if (pl_open_storage(file, &own, file->path ? file->path : name, &parent_options, &parent, e) <
        0)
        return -1;
    result = check_identity(child, parent, e);
    *link = result < 0                   ? PL_LINK_MISMATCH
            : was_changed(child, parent) ? PL_LINK_CHANGED
                                         : PL_LINK_SOUND;
    if (result < 0 && !s->any_identity) {
        pl_close(parent, NULL);
        return -1;
    }
    child->parent = parent;
    return 0;
}

int pl_step_to(const struct pl_step *s, const char *name, enum pl_link *link, struct pl_err *e)
{
    const struct pl_opener opener = { .allowed = s->options->allowed_dirs,
                                      .force_share = s->options->force_share };
    struct pl_err why = { 0 };
    struct pl_storage *file;
    int result = pl_open_named(&opener, s->child->file, name, s->writable ? PL_READ_WRITE : PL_READ,
                               &file, &why);

    if (result < 0) {
        *link = link_of_failure(why.kind);
    } else if (refuse_loop(s, file, name, link, &why) < 0) {
        pl_storage_close(file, NULL);
        result = -1;
    } else {
        result = hang(s, file, name, link, &why);
    }
    if (result < 0 && e)
        *e = why;
    return result;
}

/* Whether the file could be the parent, by its first bytes: the format of the child. */
static bool is_candidate(const struct pl_step *s, const char *name, struct pl_err *e)
{
    const struct pl_opener opener = { .allowed = s->options->allowed_dirs, .force_share = true };
    const struct pl_driver *driver;
    struct pl_storage *file;
    bool same;

    if (pl_open_named(&opener, s->child->file, name, PL_READ, &file, e) < 0)
        return false;
    same = pl_probe_file(file, NULL, &driver, e) == 0 && driver == s->child->driver &&
           !is_in_chain(s, file);
    pl_storage_close(file, NULL);
    return same;
}

/* `name` in `folder`, which is null for the child's own; null without memory. */
static char *name_in(const char *folder, const char *name)
{
    char *path;

    if (!folder)
        return pl_name_to_say(name);
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* A read error tells more than a lock: many files in the folder may be in use, by us as well. */
static void note_unseen(struct pl_err *unseen, const struct pl_err *why)
{
    if (why->kind == PL_E_SYS ? unseen->kind != PL_E_SYS
                              : why->kind == PL_E_LOCKED && !unseen->kind)
        *unseen = *why;
}

static int try_candidate(const struct pl_step *s, const char *folder, const char *name,
                         enum pl_link *link)
{
    PL_FREE char *path = name_in(folder, name);
    struct pl_err why = { 0 };

    if (path && is_candidate(s, path, &why) && pl_step_to(s, path, link, &why) == 0) {
        if (*link != PL_LINK_CHANGED || s->changed == NULL)
            return 0;
        pl_close(pl_take(s->child->parent), NULL); /* a copy of the parent, or the parent */
        if (!*s->changed)
            *s->changed = pl_take(path);
        return 1;
    }
    note_unseen(s->unseen, &why);
    return 1;
}

/* Looks for the identity in a folder (null: the child's): what a name says ends with a move to
 * another host, and some formats give none.  1: not there. */
static int search_folder(const struct pl_step *s, const char *folder, enum pl_link *link,
                         struct pl_err *e)
{
    struct pl_step quiet = *s; /* what other files have to say concerns nobody */
    char **names;
    size_t count;
    int result = 1;

    quiet.report = NULL;
    if ((folder ? pl_names_in(folder, &names, &count, e)
                : pl_names_beside(s->child->file, &names, &count, e)) < 0)
        return -1;
    for (size_t i = 0; result == 1 && i < count; i++)
        result = try_candidate(&quiet, folder, names[i], link);
    pl_names_free(names, count);
    return result;
}

const char *pl_last_part(const char *name)
{
    const char *last = name;

    for (const char *at = name; *at; at++)
        if ((*at == '/' || *at == '\\') && at[1])
            last = at + 1;
    return last;
}

bool pl_may_be_elsewhere(enum pl_link link)
{
    return link == PL_LINK_MISSING || link == PL_LINK_REFUSED || link == PL_LINK_MISMATCH;
}

/* A file called `last` first, which spares looking into the others.  1: not there. */
static int search_for(const struct pl_step *s, const char *folder, const char *last,
                      enum pl_link *link, struct pl_err *e)
{
    PL_FREE char *path = last ? name_in(folder, last) : NULL;

    if (path && pl_step_to(s, path, link, NULL) == 0)
        return 0;
    return search_folder(s, folder, link, e);
}

/* The child's folder, then those that the caller allows; one that cannot be looked through is an
 * error only where the others do not have it.  1: not there. */
static int search_everywhere(const struct pl_step *s, const char *last, enum pl_link *link,
                             struct pl_err *e)
{
    const char *const *allowed = s->options->allowed_dirs;
    int result = search_for(s, NULL, last, link, e);

    for (; result != 0 && allowed && *allowed; allowed++) {
        PL_FREE char *folder = realpath(*allowed, NULL);
        /* the opener passes over one that is not there, too */
        const int found = folder ? search_for(s, folder, last, link, result < 0 ? NULL : e) : 1;

        if (found <= 0)
            result = found;
    }
    return result;
}

/* By its identity, wherever it is.  1: not there; *found is as before unless it is. */
static int search(const struct pl_step *s, struct pl_step_found *found, struct pl_err *e)
{
    const char *name = s->child->layer.parent_name;
    PL_FREE char *changed = NULL;
    struct pl_step choosy = *s;
    enum pl_link link;
    int result;

    choosy.changed = &changed;
    result = search_everywhere(&choosy, name ? pl_last_part(name) : NULL, &link, e);
    if (result != 0 && changed && s->unseen->kind != PL_E_SYS)
        result = pl_step_to(s, changed, &link, e) < 0 ? -1 : 0;
    if (result == 0)
        *found = (struct pl_step_found){ .link = link, .by_identity = true };
    return result;
}

/* The parent may be the file that could not be looked at. */
static void add_unseen(struct pl_err *why, const struct pl_err *unseen)
{
    const struct pl_err first = *why;

    if (!unseen->kind)
        return;
    pl_fail(why, unseen->kind, "%s; one was not looked at: %s", first.msg, unseen->msg);
    pl_hint(why, "%s", *first.hint ? first.hint : unseen->hint);
    why->sys = unseen->sys;
}

int pl_step(const struct pl_step *s, struct pl_step_found *found, struct pl_err *e)
{
    const char *name = s->child->layer.parent_name;
    const char *wanted = s->child->layer.parent_identity;
    struct pl_err why = { 0 }, unseen = { 0 };
    struct pl_step searching = *s;
    int result;

    searching.unseen = &unseen;
    *found = (struct pl_step_found){ .link = PL_LINK_MISSING };
    pl_fail(&why, PL_E_NOT_FOUND, "no file in its folder%s has the identity %s of its parent",
            s->options->allowed_dirs && *s->options->allowed_dirs ? " or the allowed ones" : "",
            wanted ? wanted : "");
    if (name && pl_step_to(s, name, &found->link, &why) == 0)
        return 0;
    if (wanted && pl_may_be_elsewhere(found->link)) {
        result = search(&searching, found, e);
        if (result <= 0)
            return result;
        add_unseen(&why, &unseen);
        if (!*why.hint)
            pl_hint(&why, "use --allow-dir DIR to look for it in the folder DIR, too");
    }
    if (e)
        *e = why;
    return pl_within(e, "%s: opening its backing file", s->child->path);
}

static void warn_of_changes(const struct pl_image *child, const struct pl_report *report)
{
    pl_warn(report,
            "%s: its parent %s was changed after it was made from it (no longer %s): its "
            "content may be damaged",
            child->path, child->parent->path, child->layer.parent_revision);
}

bool pl_names_parent(const struct pl_image *img)
{
    return img->layer.parent_name || img->layer.parent_identity;
}

int pl_open_parents(struct pl_image *img, const struct pl_open_options *options, struct pl_err *e)
{
    for (struct pl_image *child = img; pl_names_parent(child); child = child->parent) {
        const struct pl_step step = {
            .youngest = img, .child = child, .options = options, .report = options->report
        };
        struct pl_step_found found;

        if (pl_step(&step, &found, e) < 0) {
            pl_close(pl_take(img->parent), NULL);
            return -1;
        }
        if (found.link == PL_LINK_CHANGED)
            warn_of_changes(child, options->report);
    }
    return 0;
}

int pl_reopen_parent_writable(struct pl_image *child, const struct pl_open_options *options,
                              struct pl_err *e)
{
    struct pl_open_options quiet = *options; /* what the chain has to say was said */
    const struct pl_step step = { .youngest = child,
                                  .child = child,
                                  .options = &quiet,
                                  .report = options->report,
                                  .writable = true };
    struct pl_step_found found;

    quiet.report = NULL;
    pl_close(pl_take(child->parent), NULL);
    if (pl_step(&step, &found, e) < 0)
        return -1;
    return pl_open_parents(child->parent, &quiet, e);
}
