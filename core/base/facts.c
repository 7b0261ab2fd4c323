#include "core/base/facts.h"

#include <stdlib.h>
#include <string.h>

struct pl_fact *pl_facts_new(void)
{
    struct pl_fact *root = calloc(1, sizeof *root);

    if (root)
        root->type = PL_FACT_OBJECT;
    return root;
}

/* The depth is that of the calls which built the tree, never that of a file. */
void pl_facts_free(struct pl_fact *root)
{
    struct pl_fact *member, *next;

    if (!root)
        return;
    for (member = root->child; member; member = next) {
        next = member->next;
        pl_facts_free(member);
    }
    free(root->name);
    free(root->text);
    free(root);
}

static struct pl_fact *append(struct pl_fact *parent, const char *name, enum pl_fact_type type)
{
    struct pl_fact *fact = parent ? calloc(1, sizeof *fact) : NULL;

    if (!fact)
        return NULL;
    fact->type = type;
    if (name && !(fact->name = strdup(name))) {
        free(fact);
        return NULL;
    }
    *(parent->child ? &parent->last->next : &parent->child) = fact;
    parent->last = fact;
    return fact;
}

struct pl_fact *pl_facts_number(struct pl_fact *parent, const char *name, uint64_t number)
{
    struct pl_fact *fact = append(parent, name, PL_FACT_NUMBER);

    if (fact)
        fact->number = number;
    return fact;
}

struct pl_fact *pl_facts_bool(struct pl_fact *parent, const char *name, bool value)
{
    struct pl_fact *fact = append(parent, name, PL_FACT_BOOL);

    if (fact)
        fact->number = value;
    return fact;
}

struct pl_fact *pl_facts_text(struct pl_fact *parent, const char *name, const char *text)
{
    char *own = parent ? strdup(text) : NULL;
    struct pl_fact *fact = own ? append(parent, name, PL_FACT_TEXT) : NULL;

    if (fact)
        fact->text = own;
    else
        free(own);
    return fact;
}

struct pl_fact *pl_facts_object(struct pl_fact *parent, const char *name)
{
    return append(parent, name, PL_FACT_OBJECT);
}

struct pl_fact *pl_facts_list(struct pl_fact *parent, const char *name)
{
    return append(parent, name, PL_FACT_LIST);
}
