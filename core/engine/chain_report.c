/* chain_report.c - walks a chain as far as it leads, and says what is wrong with it.
 *
 * A parent that is not where it should be is replaced, for the rest of the walk, by the best
 * candidate, so that one look shows everything that is to be mended; a file of another identity is
 * walked through for the same reason. */
#include "core/engine/chain_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/chain_find.h"
#include "core/graph/chain.h"

struct walk {
    struct pl_step step; /* child: the last image of the chain so far */
    struct pl_open_options open;
    const struct pl_chain_options *options;
    struct pl_chain *chain; /* with room for PL_CHAIN_MAX layers */
};

static int no_memory(const struct pl_image *img, struct pl_err *e)
{
    return pl_fail(e, PL_E_NOMEM, "%s: no memory to describe its chain", img->path);
}

/* A copy of a text that may be absent. */
static int copy(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return text && !*to ? -1 : 0;
}

static int describe(const struct pl_image *img, struct pl_chain_layer *layer, struct pl_err *e)
{
    const struct pl_layer *texts = &img->layer;

    *layer = (struct pl_chain_layer){
        .format = img->driver->name,
        .size = img->layer.size,
        .disk_usage = pl_disk_usage(img),
    };
    if (copy(&layer->path, img->path) < 0 || copy(&layer->identity, texts->identity) < 0 ||
        copy(&layer->parent_name, texts->parent_name) < 0 ||
        copy(&layer->parent_format, texts->parent_format) < 0 ||
        copy(&layer->parent_identity, texts->parent_identity) < 0 ||
        copy(&layer->parent_revision, texts->parent_revision) < 0)
        return no_memory(img, e);
    return 0;
}

/* ---- a parent that is not where it should be ---- */

/* The part of `path` below the folder of `by`, both without links; null: it is not below. */
static const char *below_folder_of(const char *by, const char *path)
{
    const char *slash = strrchr(by, '/');
    const size_t len = slash ? (size_t)(slash - by) : 0;

    return slash && strncmp(by, path, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

/* Whether a parent at `rest`, seen from the child's folder (null: outside), is found by itself: a
 * name leads into folders below, an identity alone is looked for in the child's own folder. */
static bool is_searched(const char *rest, const struct pl_chain_layer *layer)
{
    return rest && (layer->parent_name || !strchr(rest, '/'));
}

static int set_better(const struct pl_image *child, const char *path, const char *format,
                      struct pl_chain_layer *layer, struct pl_err *e)
{
    PL_FREE char *own = child->file->path ? realpath(child->file->path, NULL) : NULL;
    PL_FREE char *parent = realpath(path, NULL);
    const char *rest = own && parent ? below_folder_of(own, parent) : NULL;
    const char *slash = parent ? strrchr(parent, '/') : NULL;

    if (!parent)
        return 0;
    if (!is_searched(rest, layer) &&
        !(layer->better_folder = strndup(parent, slash > parent ? (size_t)(slash - parent) : 1)))
        return no_memory(child, e);
    if (!layer->parent_name) /* the format has no place for one, or its maker needs none */
        return 0;
    layer->better_format = format;
    return copy(&layer->better_name, rest ? rest : parent) < 0 ? no_memory(child, e) : 0;
}

/* Hangs the best candidate that can be opened below the child. */
static int step_to_candidate(struct walk *w, struct pl_chain_layer *layer, struct pl_err *e)
{
    struct pl_open_options open = w->open;
    struct pl_step step = w->step;
    enum pl_link link;

    step.options = &open;
    for (size_t i = 0; i < layer->candidate_count; i++) {
        struct pl_candidate *candidate = &layer->candidates[i];
        PL_FREE char *folder = strdup(candidate->path);
        const char *allowed[2] = { folder, NULL };

        if (!folder)
            return no_memory(step.child, e);
        folder[PL_MAX(strrchr(folder, '/') - folder, 1)] = '\0';
        open.allowed_dirs = allowed;
        if (pl_step_to(&step, candidate->path, &link, NULL) < 0)
            continue;
        struct pl_candidate best = *candidate;
        memmove(layer->candidates + 1, layer->candidates, i * sizeof best);
        layer->candidates[0] = best;
        return set_better(step.child, best.path, best.format, layer, e);
    }
    return 0;
}

static int look_further(struct walk *w, struct pl_chain_layer *layer, struct pl_err *e)
{
    struct pl_step any = w->step;
    enum pl_link link;

    if (!pl_may_be_elsewhere(layer->link))
        return 0;
    if (pl_find_parents(&w->step, w->options->find_dirs, &layer->candidates,
                        &layer->candidate_count, e) < 0 ||
        step_to_candidate(w, layer, e) < 0)
        return -1;
    any.any_identity = true;
    if (!w->step.child->parent && layer->link == PL_LINK_MISMATCH &&
        pl_step_to(&any, layer->parent_name, &link, NULL) < 0)
        return 0; /* it was there a moment ago; the link says what is wrong */
    return 0;
}

/* ---- the walk ---- */

static bool is_outside(enum pl_kind kind)
{
    return kind == PL_E_LOCKED || kind == PL_E_SYS || kind == PL_E_NOMEM;
}

/* The step from the child to its parent, which is hung below it if there is one. */
static int go_up(struct walk *w, struct pl_chain_layer *layer, struct pl_err *e)
{
    struct pl_image *child = w->step.child;
    struct pl_step_found found;

    if (!pl_names_parent(child))
        return 0;
    if (pl_step(&w->step, &found, &layer->why) < 0) {
        layer->link = found.link;
        w->chain->sound = false;
        w->chain->unknown |= found.link == PL_LINK_UNREADABLE && is_outside(layer->why.kind);
        return look_further(w, layer, e);
    }
    layer->link = found.link;
    layer->by_identity = found.by_identity;
    w->chain->sound &= found.link == PL_LINK_SOUND;
    return found.by_identity && layer->parent_name
               ? set_better(child, child->parent->path, child->parent->driver->name, layer, e)
               : 0;
}

/* A command that leads back into the chain, or out of what can be opened, mends nothing. */
static void withdraw_candidates(struct pl_chain *chain)
{
    const enum pl_link last = chain->layers[chain->count - 1].link;

    if (last != PL_LINK_LOOP && last != PL_LINK_TOO_DEEP)
        return;
    for (size_t i = 0; i < chain->count; i++) {
        free(pl_take(chain->layers[i].better_name));
        free(pl_take(chain->layers[i].better_folder));
    }
}

static int walk_up(struct walk *w, struct pl_err *e)
{
    for (struct pl_image *img = w->step.youngest; img; img = img->parent) {
        struct pl_chain_layer *layer = &w->chain->layers[w->chain->count++];

        w->step.child = img;
        if (pl_check_cancelled(w->options->report, e) < 0 || describe(img, layer, e) < 0 ||
            go_up(w, layer, e) < 0)
            return -1;
    }
    withdraw_candidates(w->chain);
    return 0;
}

int pl_chain_examine(struct pl_image *img, const struct pl_chain_options *options,
                     struct pl_chain **out, struct pl_err *e)
{
    struct walk w = {
        .open = { .force_share = options->force_share, .allowed_dirs = options->allowed_dirs },
        .options = options,
        .chain = calloc(1, sizeof *w.chain),
    };
    int result;

    w.step = (struct pl_step){ .youngest = img, .options = &w.open, .report = options->report };
    if (w.chain)
        w.chain->layers = calloc(PL_CHAIN_MAX, sizeof *w.chain->layers);
    if (!w.chain || !w.chain->layers) {
        free(w.chain);
        return no_memory(img, e);
    }
    w.chain->sound = true;
    result = walk_up(&w, e);
    pl_close(pl_take(img->parent), NULL);
    if (result < 0) {
        pl_chain_free(w.chain);
        return -1;
    }
    *out = w.chain;
    return 0;
}

static void free_layer(struct pl_chain_layer *layer)
{
    free(layer->path);
    free(layer->identity);
    free(layer->parent_name);
    free(layer->parent_format);
    free(layer->parent_identity);
    free(layer->parent_revision);
    free(layer->better_name);
    free(layer->better_folder);
    pl_candidates_free(layer->candidates, layer->candidate_count);
}

void pl_chain_free(struct pl_chain *chain)
{
    if (!chain)
        return;
    for (size_t i = 0; i < chain->count; i++)
        free_layer(&chain->layers[i]);
    free(chain->layers);
    free(chain);
}
