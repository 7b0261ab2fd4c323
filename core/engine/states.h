/* states.h - what the parts of snapshot.h share: the disk while its states are changed. */
#ifndef PL_CORE_ENGINE_STATES_H
#define PL_CORE_ENGINE_STATES_H

#include "core/engine/snapshot.h"
#include "core/graph/node.h"

/* A disk has no more states than that, nor a folder more files. */
#define PL_STATES_MAX 65536

/* A disk that is open for a look at its states. */
struct pl_held_disk {
    const char *given; /* as the user named it */
    char *path;        /* links followed; owned */
    const struct pl_state_options *options;
    const struct pl_driver *driver; /* of its format */
    struct pl_storage *file;        /* owned; the image's is borrowed from it */
    struct pl_states *states;       /* owned */
    /* Names that an interrupted change left: the disk's own file, or another state's, once more. */
    char **twins;
    size_t twin_count;
    bool damaged; /* the image cannot be opened; states->size is 0 */
};

/* Why a disk is opened. */
enum pl_hold {
    PL_HOLD_LOOK,     /* a reader's lock */
    PL_HOLD_CHANGE,   /* a writer's lock; the disk is no state of another one */
    PL_HOLD_ROLLBACK, /* the same; the disk may be damaged, if the user says its format */
};

/* Opens and locks the disk and gathers its states.  On failure nothing is open. */
int pl_disk_hold(const char *path, const struct pl_state_options *options, enum pl_hold why,
                 struct pl_held_disk *out, struct pl_err *e) PL_CHECK;

/* Closes it; its lock is gone. */
void pl_disk_release(struct pl_held_disk *disk);

/* Opens the image of the disk over the file that is held; for writing, but in a way that children
 * go on knowing it, or with all its parents.  Close it before the disk is released. */
int pl_held_open(const struct pl_held_disk *disk, bool writable, bool parents,
                 struct pl_image **out, struct pl_err *e) PL_CHECK;

/* Opens a state with its parents for reading; index PL_NO_STATE: the disk as it is now. */
int pl_state_open(const struct pl_held_disk *disk, size_t index, struct pl_image **out,
                  struct pl_err *e) PL_CHECK;

/* Opens a state, or (PL_NO_STATE) the disk, for writing, in a way that its own children go on
 * knowing it. */
int pl_child_open(const struct pl_held_disk *disk, size_t index, bool parents,
                  struct pl_image **out, struct pl_err *e) PL_CHECK;

/* Closes what pl_child_open opened and brings all of it to stable storage: the file may not be
 * opened again when what follows is done once more.  The date that tells when the state was kept
 * stays.  `result` is that of the work; so is the one returned, unless this fails. */
int pl_child_close(const struct pl_held_disk *disk, size_t index, struct pl_image *img, int result,
                   struct pl_err *e) PL_CHECK;

/* ---- states_gather.c ---- */
/* Fills in disk->states and disk->twins; `img` is the disk's image without its parents, null: it is
 * damaged. */
int pl_states_gather(struct pl_held_disk *disk, struct pl_image *img, struct pl_err *e) PL_CHECK;

/* Whether the disk has states inside its image. */
bool pl_states_inside(const struct pl_states *states);

/* Whether it has states that are files. */
bool pl_states_in_files(const struct pl_states *states);

/* The number of states that were made from state `index`; the disk itself counts as one. */
size_t pl_state_children(const struct pl_states *states, size_t index);

/* PL_E_INVALID for one that is being deleted or cannot be read. */
int pl_state_check_sound(const struct pl_states *states, size_t index, struct pl_err *e) PL_CHECK;

/* ---- state_notes.c: parents that the format has no place for, as notes beside the files ---- */
/* Fills in `parent` and `stands_on` of states whose files do not tell it. */
void pl_notes_read(struct pl_states *states);

/* The disk stands on that state now; PL_NO_STATE: on none. */
void pl_notes_stand_on(const struct pl_states *states, size_t index);

/* A state of that name was made just now, from the one that the disk stood on: disk->states is
 * gathered anew for it (null where that fails, which loses nothing but the note). */
void pl_notes_new_state(struct pl_held_disk *disk, const char *name);

/* State `index` is about to go: its children become those of its parent. */
void pl_notes_drop(const struct pl_states *states, size_t index);

/* State `index`, a file, was given another name, by which others know it from now on. */
void pl_notes_rename(const struct pl_states *states, size_t index, const char *new_name);

#endif
