/* snapshot.h - states of a disk that are kept under names, the same way for every format.
 *
 * Where a state is kept:
 *   inside   qcow2: in the image itself, as an internal snapshot
 *   files    qcow2 (if asked for), vmdk, vhd, vhdx, vdi: the image's file is frozen under the name
 *            "DISK.snapshot-NAME.ending" and a new, empty child of it takes the disk's name
 *   copies   raw: a file of that name which shares the disk's blocks where the file system can,
 *            and keeps its holes where it cannot
 *
 * States are a tree: each one knows the state that the disk stood on when it was kept.  Rolling
 * back moves the disk to a state and keeps all states, later ones too.
 *
 * A disk is locked for the whole of every change, against other processes and virtual machines.  A
 * crash at any instant leaves the old or the new state of it; what a crash left behind is cleared
 * away by the next change. */
#ifndef PL_CORE_ENGINE_SNAPSHOT_H
#define PL_CORE_ENGINE_SNAPSHOT_H

#include <stddef.h>

#include "core/base/report.h"
#include "core/graph/image.h"

struct pl_state_options {
    const char *format; /* of the disk; null: found out from its content */
    bool files;         /* create: a file, also where the format can keep states inside */
    bool force_share;   /* list and diff: without locks, while a virtual machine may be writing */
    const char *const *allowed_dirs; /* see pl_open_options */
    const struct pl_report *report;  /* may be null */
};

/* No parent; or the disk stands on no state. */
#define PL_NO_STATE SIZE_MAX

/* A state that is kept. */
struct pl_disk_state {
    char *name;
    char *id;   /* inside: the snapshot's number; null: a file */
    char *path; /* of its file; null: inside */
    uint64_t date_sec;
    uint32_t date_nsec;
    uint64_t size;          /* virtual size of the disk then */
    uint64_t usage;         /* file: bytes that the host keeps for it; inside: 0 */
    uint64_t vm_state_size; /* inside: bytes of the machine's memory kept with it */
    size_t parent;          /* index of the state it was made from; PL_NO_STATE: none, or unknown */
    bool deleting;          /* its deletion was begun: it cannot be rolled back to any more */
    bool unreadable;        /* the file is no image of the disk's format */
};

struct pl_states {
    char *path;         /* of the disk, links followed */
    const char *format; /* a static name */
    uint64_t size;      /* virtual size of the disk now */
    uint64_t usage;     /* bytes that the host keeps for its file */
    struct pl_disk_state *state;
    size_t count;     /* oldest first */
    size_t stands_on; /* index of the state that the disk was made from or rolled back to last;
                         PL_NO_STATE: none, or unknown */
};

/* The states of the disk at `path`.  *out is to be freed by pl_states_free.  PL_E_LOCKED,
 * PL_E_NOT_FOUND, PL_E_UNSUPPORTED (the file is a package). */
PL_API int pl_states_list(const char *path, const struct pl_state_options *options,
                          struct pl_states **out, struct pl_err *e) PL_CHECK;

/* Null is fine. */
PL_API void pl_states_free(struct pl_states *states);

/* The index of the state of that name (or, inside an image, of that id); PL_E_NOT_FOUND lists the
 * names that there are, PL_E_INVALID: several have it. */
PL_API int pl_states_find(const struct pl_states *states, const char *name, size_t *index,
                          struct pl_err *e) PL_CHECK;

/* Keeps the disk as it is now under `name`; null: the date and time.  *made, if not null, is the
 * name, the caller's to free.  PL_E_EXISTS, PL_E_INVALID (no name for a state; a disk that is the
 * state of another one), PL_E_LOCKED, PL_E_NO_SPACE. */
PL_API int pl_state_create(const char *path, const char *name,
                           const struct pl_state_options *options, char **made, struct pl_err *e)
    PL_CHECK;

/* The disk reads as the state does from now on; what was written since the last state was kept is
 * lost.  PL_E_NOT_FOUND, PL_E_LOCKED, PL_E_INVALID (a state that is being deleted; an image in the
 * folder builds on the disk). */
PL_API int pl_state_rollback(const char *path, const char *name,
                             const struct pl_state_options *options, struct pl_err *e) PL_CHECK;

/* The state is called `new_name` from now on.  PL_E_NOT_FOUND, PL_E_EXISTS, PL_E_INVALID. */
PL_API int pl_state_rename(const char *path, const char *name, const char *new_name,
                           const struct pl_state_options *options, struct pl_err *e) PL_CHECK;

/* The state is kept no longer; disk and all other states read as before.  What is needed of it goes
 * into them first, with progress; when that is interrupted, by PL_E_CANCELLED, PL_E_NO_SPACE or a
 * crash, deleting it once more goes on. */
PL_API int pl_state_delete(const char *path, const char *name,
                           const struct pl_state_options *options, struct pl_err *e) PL_CHECK;

#endif
