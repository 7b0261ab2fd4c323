/* chain.h - one step of a chain: from a child to the parent that it names, or back. */
#ifndef PL_CORE_GRAPH_CHAIN_H
#define PL_CORE_GRAPH_CHAIN_H

#include "core/graph/node.h"

/* A child whose parent is wanted. */
struct pl_step {
    struct pl_image *youngest, *child; /* child is the last of youngest's chain, as it is so far */
    const struct pl_open_options *options; /* of the youngest: locks, folders */
    const struct pl_report *report;        /* for what opening says of the file; may be null */
    bool writable;         /* the parent is to be written to, without its children noticing */
    struct pl_err *unseen; /* pl_step's own: see there; the caller leaves it null */
    char **changed;        /* pl_step's own: the first file with the identity, but written to since;
                              one that was not is taken before it */
    bool any_identity; /* a parent without the identity wanted is taken, too: by pl_step_to alone */
};

struct pl_step_found {
    enum pl_link link;
    bool by_identity; /* it is not where the name leads, if the child has one */
};

/* Whether the image names a parent, or says what its identity is. */
bool pl_names_parent(const struct pl_image *img) PL_CHECK;

/* Whether another file may be the parent that the name did not lead to. */
bool pl_may_be_elsewhere(enum pl_link link) PL_CHECK;

/* The last part of a name, by the rules of Unix and of Windows; a part of `name`. */
const char *pl_last_part(const char *name);

/* Opens the parent alone, by the name that the child gives, else by its identity, in the child's
 * folder and the allowed ones, and hangs it below the child.  A failure leaves the child as it was;
 * found->link says which one.  Where no file has the identity, the error tells of the first that
 * could not be looked at, since that one may be the parent. */
int pl_step(const struct pl_step *step, struct pl_step_found *found, struct pl_err *e) PL_CHECK;

/* The same for the file of that name, seen from the child's folder. */
int pl_step_to(const struct pl_step *step, const char *name, enum pl_link *link, struct pl_err *e)
    PL_CHECK;

/* An image, and where children of it may name files: see pl_open_options. */
struct pl_family {
    struct pl_image *parent;
    const char *const *allowed_dirs;
};

/* What the child, which is open alone, is to the parent: SOUND, CHANGED; MISMATCH where it names
 * the file and wants another identity; NONE.  As in pl_step the name comes first: a child that
 * names another file with the identity wanted is that one's. */
enum pl_link pl_child_link(const struct pl_family *family, struct pl_image *child) PL_CHECK;

/* Opens the file that `name` leads to from the folder of `by`, alone and without locks, if it is an
 * image of a format that tells itself, which no other can be a child, and not the parent; else
 * null. */
struct pl_image *pl_open_relative(const struct pl_family *family, struct pl_storage *by,
                                  const char *name) PL_CHECK;

#endif
