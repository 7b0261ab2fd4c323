/* facts.h - an ordered tree of named values: what `info` shows of a format, as text and as JSON. */
#ifndef PL_CORE_BASE_FACTS_H
#define PL_CORE_BASE_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

enum pl_fact_type { PL_FACT_NUMBER, PL_FACT_BOOL, PL_FACT_TEXT, PL_FACT_OBJECT, PL_FACT_LIST };

struct pl_fact {
    struct pl_fact *next;  /* sibling; owned by the parent */
    struct pl_fact *child; /* OBJECT, LIST: the first member ... */
    struct pl_fact *last;  /* ... and the last, so that appending stays quick */
    char *name;            /* null in a list */
    enum pl_fact_type type;
    uint64_t number; /* NUMBER; BOOL: 0 or 1 */
    char *text;      /* TEXT */
};

/* A new root of type PL_FACT_OBJECT; null when out of memory. */
PL_API struct pl_fact *pl_facts_new(void);

/* Frees the whole tree.  Null is fine. */
PL_API void pl_facts_free(struct pl_fact *root);

/* These append a member to an OBJECT (name given) or a LIST (name null).  They return the new
 * member, or null when out of memory or when `parent` is null: what goes into a member that could
 * not be made is dropped, so a sequence of calls needs no check in between. */
struct pl_fact *pl_facts_number(struct pl_fact *parent, const char *name, uint64_t number);
/* A NUMBER of 0 or 1 that prints as false or true. */
struct pl_fact *pl_facts_bool(struct pl_fact *parent, const char *name, bool value);
/* Copies `text`. */
struct pl_fact *pl_facts_text(struct pl_fact *parent, const char *name, const char *text);
/* An empty OBJECT to fill. */
struct pl_fact *pl_facts_object(struct pl_fact *parent, const char *name);
/* An empty LIST to fill. */
struct pl_fact *pl_facts_list(struct pl_fact *parent, const char *name);

#endif
