/* suggest.h - the known word that a mistyped one is nearest to. */
#ifndef PL_CLI_SUGGEST_H
#define PL_CLI_SUGGEST_H

#include <stddef.h>

struct suggestion {
    const char *given; /* not terminated ... */
    size_t len;        /* ... this long */
    const char *best;  /* the nearest word so far; null: none is near enough */
    unsigned distance; /* of it: the edits between the two */
};

/* A search for the word that was meant by the first `len` bytes of `given`. */
struct suggestion suggestion_for(const char *given, size_t len);

/* Considers one known word. */
void suggestion_offer(struct suggestion *s, const char *word);

#endif
