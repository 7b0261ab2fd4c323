/* chain_print.c - a chain as a picture in text: a line an image, each below its child; what is
 * wrong stands where the parent should be. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/chain_show.h"
#include "cli/message.h"
#include "cli/shell_line.h"
#include "core/base/scope.h"

#define INDENT 2

/* The start of a line that stands `depth` below the first image. */
static void begin(size_t depth)
{
    if (depth)
        printf("%*s`- ", (int)((depth - 1) * INDENT), "");
}

/* A line of words about what stands above it. */
static void remark(size_t depth, const char *words, const char *text)
{
    printf("%*s%s", (int)(depth * INDENT) + 3, "", words);
    message_text(stdout, text);
    putchar('\n');
}

static void print_image(const struct pl_chain_layer *layer, size_t depth)
{
    char size[32], usage[32];

    begin(depth);
    message_text(stdout, layer->path);
    printf(": %s, %s, %s allocated", layer->format, pl_format_size(layer->size, size),
           pl_format_size(layer->disk_usage, usage));
    if (layer->identity) {
        fputs(", ", stdout);
        message_text(stdout, layer->identity);
    }
    putchar('\n');
}

static const char *headline(enum pl_link link)
{
    switch (link) {
    case PL_LINK_MISSING:
        return "MISSING";
    case PL_LINK_REFUSED:
        return "NOT ALLOWED";
    case PL_LINK_MISMATCH:
        return "ANOTHER IDENTITY";
    case PL_LINK_LOOP:
        return "LOOP";
    case PL_LINK_TOO_DEEP:
        return "TOO DEEP";
    default:
        return "CANNOT BE OPENED";
    }
}

static bool may_be_found(enum pl_link link)
{
    return link == PL_LINK_MISSING || link == PL_LINK_REFUSED || link == PL_LINK_MISMATCH;
}

/* Why the parent is not what the child wants, and what can be done. */
static void print_reason(const struct pl_chain_layer *layer, size_t depth)
{
    remark(depth, "", layer->why.msg);
    if (layer->candidate_count)
        return;
    if (*layer->why.hint)
        remark(depth, "hint: ", layer->why.hint);
    if (may_be_found(layer->link))
        remark(depth, "hint: ", "use --find DIR to look for it in DIR and below");
}

static void print_candidates(const struct pl_chain_layer *layer, size_t depth)
{
    for (size_t i = 0; i < layer->candidate_count; i++) {
        const struct pl_candidate *candidate = &layer->candidates[i];
        const char *words = candidate->by_identity ? "it may be, by its identity: "
                                                   : "it may be, a guess by name and size: ";

        remark(depth, words, candidate->path);
        if (!candidate->unchanged)
            remark(depth, "  ", "which was changed after the child was made from it");
    }
}

static bool is_here(enum pl_link link)
{
    return link == PL_LINK_SOUND || link == PL_LINK_CHANGED;
}

/* Whether the next line shows what has the name, though it is not what the child wants. */
static bool is_followed(const struct pl_chain_layer *layer)
{
    return layer->link == PL_LINK_MISMATCH && !layer->candidate_count;
}

/* What stands in the place of a parent that is not where its child says. */
static void print_broken(const struct pl_chain_layer *layer, size_t depth)
{
    begin(depth);
    message_text(stdout, layer->parent_name ? layer->parent_name : layer->parent_identity);
    printf(": %s\n", headline(layer->link));
    print_reason(layer, depth);
    print_candidates(layer, depth);
}

/* What is to be said of the step from the child, below the line of the parent. */
static void print_remarks(const struct pl_chain_layer *child, size_t depth)
{
    if (is_followed(child)) {
        remark(depth, headline(child->link), "");
        print_reason(child, depth);
    }
    if (child->link == PL_LINK_CHANGED)
        remark(depth, "CHANGED after the image above was made from it: no longer ",
               child->parent_revision);
    if (is_here(child->link) && child->by_identity && child->parent_name)
        remark(depth, "found by its identity; the name leads elsewhere: ", child->parent_name);
}

static int print_command(const struct pl_chain_layer *layer, struct pl_err *e)
{
    const char *words[CHAIN_MEND_WORDS];
    PL_FREE char *line = NULL;

    chain_mend_words(layer, words);
    line = shell_line(words);
    if (!line)
        return pl_fail(e, PL_E_NOMEM, "no memory for a command");
    printf("    %s\n", line);
    return 0;
}

/* The commands of links that are sound, or those of the others; the oldest image comes first. */
static int print_commands(const struct pl_chain *chain, bool sound, const char *title,
                          struct pl_err *e)
{
    bool begun = false;

    for (size_t i = chain->count; i-- > 0;) {
        const struct pl_chain_layer *layer = &chain->layers[i];

        if (!layer->better_name || is_here(layer->link) != sound)
            continue;
        if (!begun)
            puts(title);
        begun = true;
        if (print_command(layer, e) < 0)
            return -1;
    }
    return 0;
}

/* Folders that names in images do not lead to by themselves, each once. */
static int print_folders(const struct pl_chain *chain, struct pl_err *e)
{
    const char *shown = NULL;

    for (size_t i = chain->count; i-- > 0;) {
        const char *words[] = { "--allow-dir", chain->layers[i].better_folder, NULL };
        PL_FREE char *line = NULL;

        if (!words[1] || (shown && strcmp(shown, words[1]) == 0))
            continue;
        if (!shown)
            puts("To let the images use what lies in other folders, give every command:");
        shown = words[1];
        line = shell_line(words);
        if (!line)
            return pl_fail(e, PL_E_NOMEM, "no memory for an option");
        printf("    %s\n", line);
    }
    return 0;
}

static void print_children(const struct chain_view *view)
{
    char size[32];

    if (!view->with_children)
        return;
    puts(view->child_count ? "Children:" : "Children: none found");
    for (size_t i = 0; i < view->child_count; i++) {
        const struct pl_child *child = &view->children[i];

        fputs("    ", stdout);
        message_text(stdout, child->path);
        printf(": %s, %s", child->format, pl_format_size(child->size, size));
        if (child->link == PL_LINK_CHANGED)
            fputs(", CHANGED: this image was written to after it was made", stdout);
        if (child->link == PL_LINK_MISMATCH)
            fputs(", ANOTHER IDENTITY: it wants another parent than what has the name", stdout);
        putchar('\n');
    }
}

int chain_print(const struct chain_view *view, struct pl_err *e)
{
    const struct pl_chain *chain = view->chain;

    for (size_t i = 0; i < chain->count; i++) {
        const struct pl_chain_layer *layer = &chain->layers[i];

        print_image(layer, i);
        if (i > 0)
            print_remarks(&chain->layers[i - 1], i);
        if (i + 1 == chain->count ? layer->link != PL_LINK_NONE
                                  : !is_here(layer->link) && !is_followed(layer))
            print_broken(layer, i + 1);
    }
    print_children(view);
    if (print_commands(chain, false, "To mend it:", e) < 0 ||
        print_commands(chain, true, "To have the names lead there for other programs, too:", e) < 0)
        return -1;
    return print_folders(chain, e);
}
