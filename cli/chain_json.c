/* chain_json.c - a chain as JSON.  Names are those of `info` where it has them. */
#include <stdlib.h>
#include <string.h>

#include "cli/chain_show.h"
#include "cli/output.h"
#include "cli/shell_line.h"
#include "core/base/scope.h"

const char *chain_link_name(enum pl_link link)
{
    static const char *const names[] = {
        [PL_LINK_NONE] = "none",
        [PL_LINK_SOUND] = "sound",
        [PL_LINK_CHANGED] = "changed",
        [PL_LINK_MISMATCH] = "mismatch",
        [PL_LINK_MISSING] = "missing",
        [PL_LINK_REFUSED] = "refused",
        [PL_LINK_LOOP] = "loop",
        [PL_LINK_TOO_DEEP] = "too-deep",
        [PL_LINK_UNREADABLE] = "unreadable",
    };

    return names[link];
}

void chain_mend_words(const struct pl_chain_layer *layer, const char *words[CHAIN_MEND_WORDS])
{
    const char **word = words;

    *word++ = "platter";
    *word++ = "rebase";
    *word++ = "-u";
    *word++ = "-b";
    *word++ = layer->better_name;
    *word++ = "-F";
    *word++ = layer->better_format;
    if (*layer->path == '-')
        *word++ = "--";
    *word++ = layer->path;
    *word = NULL;
}

static void add_text(json_t *object, const char *key, const char *text)
{
    if (text)
        json_object_set_new(object, key, output_json_text(text));
}

/* Words with blanks between them, as a list. */
static void add_words(json_t *object, const char *key, const char *text)
{
    json_t *words;

    if (!text)
        return;
    words = json_array();
    for (const char *at = text; *at; at += strspn(at, " ")) {
        const size_t len = strcspn(at, " ");

        json_array_append_new(words, json_stringn(at, len));
        at += len;
    }
    json_object_set_new(object, key, words);
}

static json_t *error_json(const struct pl_err *why)
{
    json_t *error = json_object();

    json_object_set_new(error, "kind", json_string(pl_kind_name(why->kind)));
    json_object_set_new(error, "message", output_json_text(why->msg));
    if (*why->hint)
        json_object_set_new(error, "hint", output_json_text(why->hint));
    return error;
}

static json_t *candidates_json(const struct pl_chain_layer *layer)
{
    json_t *list = json_array();

    for (size_t i = 0; i < layer->candidate_count; i++) {
        const struct pl_candidate *candidate = &layer->candidates[i];
        json_t *object = json_object();

        json_object_set_new(object, "filename", output_json_text(candidate->path));
        json_object_set_new(object, "format", json_string(candidate->format));
        json_object_set_new(object, "virtual-size", output_json_number(candidate->size));
        json_object_set_new(object, "guess", json_boolean(!candidate->by_identity));
        json_object_set_new(object, "same-name", json_boolean(candidate->same_name));
        json_object_set_new(object, "changed", json_boolean(!candidate->unchanged));
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *mend_json(const struct pl_chain_layer *layer)
{
    const char *words[CHAIN_MEND_WORDS];
    json_t *mend = json_object(), *arguments = json_array();
    PL_FREE char *line = NULL;

    chain_mend_words(layer, words);
    line = shell_line(words);
    for (size_t i = 0; words[i]; i++)
        json_array_append_new(arguments, output_json_text(words[i]));
    json_object_set_new(mend, "arguments", arguments);
    add_text(mend, "command", line);
    return mend;
}

static json_t *layer_json(const struct pl_chain_layer *layer)
{
    json_t *object = json_object();

    json_object_set_new(object, "filename", output_json_text(layer->path));
    json_object_set_new(object, "format", json_string(layer->format));
    json_object_set_new(object, "virtual-size", output_json_number(layer->size));
    json_object_set_new(object, "actual-size", output_json_number(layer->disk_usage));
    add_words(object, "identity", layer->identity);
    add_text(object, "backing-filename", layer->parent_name);
    add_text(object, "backing-filename-format", layer->parent_format);
    add_words(object, "parent-identity", layer->parent_identity);
    add_text(object, "parent-revision", layer->parent_revision);
    json_object_set_new(object, "link", json_string(chain_link_name(layer->link)));
    if (layer->link == PL_LINK_SOUND || layer->link == PL_LINK_CHANGED)
        json_object_set_new(object, "found-by",
                            json_string(layer->by_identity ? "identity" : "name"));
    else if (layer->link != PL_LINK_NONE)
        json_object_set_new(object, "error", error_json(&layer->why));
    if (layer->candidate_count)
        json_object_set_new(object, "candidates", candidates_json(layer));
    if (layer->better_name)
        json_object_set_new(object, "mend", mend_json(layer));
    add_text(object, "allow-dir", layer->better_folder);
    return object;
}

static json_t *children_json(const struct chain_view *view)
{
    json_t *list = json_array();

    for (size_t i = 0; i < view->child_count; i++) {
        json_t *object = json_object();

        json_object_set_new(object, "filename", output_json_text(view->children[i].path));
        json_object_set_new(object, "format", json_string(view->children[i].format));
        json_object_set_new(object, "virtual-size", output_json_number(view->children[i].size));
        json_object_set_new(object, "link", json_string(chain_link_name(view->children[i].link)));
        json_array_append_new(list, object);
    }
    return list;
}

json_t *chain_json(const struct chain_view *view)
{
    json_t *object = json_object(), *list = json_array();

    for (size_t i = 0; i < view->chain->count; i++)
        json_array_append_new(list, layer_json(&view->chain->layers[i]));
    json_object_set_new(object, "filename", output_json_text(view->chain->layers[0].path));
    json_object_set_new(object, "sound", json_boolean(view->chain->sound));
    json_object_set_new(object, "chain", list);
    if (view->with_children)
        json_object_set_new(object, "children", children_json(view));
    return object;
}
