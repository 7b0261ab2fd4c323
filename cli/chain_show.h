/* chain_show.h - a chain as a picture in text, and as JSON. */
#ifndef PL_CLI_CHAIN_SHOW_H
#define PL_CLI_CHAIN_SHOW_H

#include <jansson.h>

#include "include/platter.h"

/* What there is to show. */
struct chain_view {
    const struct pl_chain *chain;
    bool with_children;              /* they were asked for */
    const struct pl_child *children; /* null: none */
    size_t child_count;
};

#define CHAIN_MEND_WORDS 10

/* The words of the command that has the layer name its better parent; `words` gets them, and null.
 * They belong to the layer. */
void chain_mend_words(const struct pl_chain_layer *layer, const char *words[CHAIN_MEND_WORDS]);

/* "sound", "missing" ...: the stable name of a link, as in JSON. */
const char *chain_link_name(enum pl_link link);

/* Prints the picture, and below it what mends what is wrong.  PL_E_NOMEM. */
int chain_print(const struct chain_view *view, struct pl_err *e) PL_CHECK;

/* An object; null without memory. */
json_t *chain_json(const struct chain_view *view);

#endif
