/* chain_report.h - the chain of parents of an image as it is, broken or not; and who its children
 * are. */
#ifndef PL_CORE_ENGINE_CHAIN_REPORT_H
#define PL_CORE_ENGINE_CHAIN_REPORT_H

#include "core/base/report.h"
#include "core/graph/image.h"

/* A file that may be the parent that is missing. */
struct pl_candidate {
    char *path;
    const char *format;
    uint64_t size;    /* virtual size */
    bool by_identity; /* it has the identity wanted; false: a guess, by its name and its size */
    bool same_name;   /* as the child says, folders aside */
    bool unchanged;   /* it has the revision that the child knows, if it knows one */
};

/* One image of a chain, and the step to its parent. */
struct pl_chain_layer {
    char *path;          /* as it was opened */
    const char *format;  /* a static name */
    uint64_t size;       /* virtual size */
    uint64_t disk_usage; /* bytes that the host keeps for it */
    char *identity; /* what children know it by: words with blanks between them; null: nothing */
    char *parent_name, *parent_format; /* as the file says them; null: it does not */
    char *parent_identity;             /* words, one of which its parent must have; null: any */
    char *parent_revision;             /* the word that an unchanged parent has; null: not known */
    enum pl_link link;                 /* to the parent */
    bool by_identity;                  /* SOUND, CHANGED: not where the name leads, if any */
    struct pl_err why;                 /* any other link: what is wrong */
    struct pl_candidate *candidates;   /* for a parent that is not there; the best one first */
    size_t candidate_count;
    /* What the image should call its parent, seen from its folder, so that it is found again, by
     * every program; null: nothing better is known, or it can say no name. */
    char *better_name;
    const char *better_format; /* of that parent */
    char *better_folder;       /* where that parent is, when names in images do not lead there by
                            themselves: see pl_open_options.allowed_dirs; null: they do */
};

/* Layer i + 1 is the parent of layer i: the one it names; or the first of its candidates; or the
 * file of another identity that has the name (MISMATCH).  A chain that ends in another way than by
 * PL_LINK_NONE is broken there. */
struct pl_chain {
    struct pl_chain_layer *layers; /* the youngest first */
    size_t count;
    bool sound;   /* every link is, and the chain ends */
    bool unknown; /* it is not, but for a reason outside the images: locks, rights, memory */
};

struct pl_chain_options {
    bool force_share;                /* see pl_open_options, as the next one */
    const char *const *allowed_dirs; /* null-terminated, or null */
    const char *const *find_dirs;    /* folders to look for parents in, and below them */
    const struct pl_report *report;  /* may be null */
};

/* The chain of `img`, which was opened without its parents and is so again afterwards.  What is
 * wrong with the chain is no failure.  Candidates come from the find_dirs, and, by name, from the
 * folder of the child.  *out is to be freed by pl_chain_free.  PL_E_NOMEM, PL_E_CANCELLED; errors
 * of a folder in find_dirs. */
PL_API int pl_chain_examine(struct pl_image *img, const struct pl_chain_options *options,
                            struct pl_chain **out, struct pl_err *e) PL_CHECK;

/* Null is fine. */
PL_API void pl_chain_free(struct pl_chain *chain);

/* An image whose parent is another one. */
struct pl_child {
    char *path;
    const char *format; /* a static name */
    uint64_t size;      /* virtual size */
    enum pl_link link;  /* SOUND, CHANGED or MISMATCH */
};

/* The images in the folders, and below them, whose parent `img` is: they name it, or know its
 * identity while what they name is not their parent.  Files that are no image, or cannot be opened,
 * are passed over; nothing is locked.  *list is to be freed by pl_children_free, also with
 * *count 0.  PL_E_NOMEM, PL_E_CANCELLED; errors of a folder in dirs. */
PL_API int pl_children(struct pl_image *img, const char *const *dirs,
                       const struct pl_chain_options *options, struct pl_child **list,
                       size_t *count, struct pl_err *e) PL_CHECK;

/* Frees the list and what it holds. */
PL_API void pl_children_free(struct pl_child *list, size_t count);

#endif
