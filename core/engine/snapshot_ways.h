/* snapshot_ways.h - the three ways to keep states: see snapshot.h.  The disk is held for a change
 * in each of these; names are checked, states are sound. */
#ifndef PL_CORE_ENGINE_SNAPSHOT_WAYS_H
#define PL_CORE_ENGINE_SNAPSHOT_WAYS_H

#include <string.h>

#include "core/engine/states.h"

/* One way.  `index` is that of a state in disk->states that was kept this way. */
struct pl_way_ops {
    int (*create)(struct pl_held_disk *disk, const char *name, struct pl_err *e);
    int (*rollback)(struct pl_held_disk *disk, size_t index, struct pl_err *e);
    int (*rename)(struct pl_held_disk *disk, size_t index, const char *name, struct pl_err *e);
    int (*remove)(struct pl_held_disk *disk, size_t index, struct pl_err *e);
};

/* snapshot_inside.c, snapshot_files.c, snapshot_copies.c */
extern const struct pl_way_ops pl_way_inside, pl_way_files, pl_way_copies;

/* ---- snapshot_files.c ---- */
/* Finishes or undoes what an interrupted change of names left behind: disk->twins are gone. */
int pl_twins_clear(struct pl_held_disk *disk, struct pl_err *e) PL_CHECK;

/* What children of a state are to say. */
struct pl_retie {
    struct pl_parent_ref parent;
    bool other_file; /* it has another identity; else its name alone is new, which children that
                        say none need not know */
    size_t except;   /* a child that goes on saying what it says; PL_NO_STATE: none */
};
/* Has the children of state `of`, states and the disk, say another parent that reads the same. */
int pl_retie_children(const struct pl_held_disk *disk, size_t of, const struct pl_retie *how,
                      struct pl_err *e) PL_CHECK;

/* A path's last part. */
static inline const char *pl_file_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ---- snapshot_merge.c ---- */
/* The state `index` is to go, and its one child, another state or (PL_NO_STATE) the disk, has less
 * of its own: that goes into the state's file, which then takes the child's name.  Nothing else has
 * the file open, and `marker` tells that the state goes.  1: it cannot be written; nothing was
 * changed. */
int pl_merge_child(struct pl_held_disk *disk, size_t index, size_t child, const char *marker,
                   struct pl_err *e) PL_CHECK;
/* The child whose merging was begun, and is past the copy, when it was interrupted; false: none. */
bool pl_merge_begun(const struct pl_held_disk *disk, size_t index, const char *marker,
                    size_t *child);

/* ---- snapshot_delete.c ---- */
/* PL_E_INVALID where images in the folder that are neither the disk nor one of its states are made
 * of a state, which is open: they would lose it. */
int pl_refuse_strangers(const struct pl_held_disk *disk, struct pl_image *state, struct pl_err *e)
    PL_CHECK;

/* PL_E_LOCKED where somebody has the state's file open: a machine whose disk, in whatever folder,
 * is made of it. */
int pl_state_check_unused(const struct pl_held_disk *disk, size_t index, struct pl_err *e)
    PL_CHECK;

/* PL_E_INVALID where images in the folder are made of the disk: they would read another content
 * when it is rolled back. */
int pl_refuse_other_content(const struct pl_held_disk *disk, struct pl_err *e) PL_CHECK;

/* pl_way_files.remove */
int pl_delete_file_state(struct pl_held_disk *disk, size_t index, struct pl_err *e) PL_CHECK;

#endif
