/* snapshot_ways.h - the three ways to keep states: see snapshot.h.  The disk is held for a change
 * in each of these; names are checked, states are sound. */
#ifndef PL_CORE_ENGINE_SNAPSHOT_WAYS_H
#define PL_CORE_ENGINE_SNAPSHOT_WAYS_H

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

/* ---- snapshot_delete.c ---- */
/* PL_E_INVALID where images in the folder that are neither the disk nor one of its states are made
 * of a state, which is open: they would lose it. */
int pl_refuse_strangers(const struct pl_held_disk *disk, struct pl_image *state, struct pl_err *e)
    PL_CHECK;

/* pl_way_files.remove */
int pl_delete_file_state(struct pl_held_disk *disk, size_t index, struct pl_err *e) PL_CHECK;

#endif
