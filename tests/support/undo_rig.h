/* undo_rig.h - a repair that is kept and taken back, on storages that outlive it: of a file, of a
 * second one that it names "data", and of the journal.  One thread at a time; cmocka.h comes
 * first. */
#ifndef TESTS_SUPPORT_UNDO_RIG_H
#define TESTS_SUPPORT_UNDO_RIG_H

#include "core/storage/undo.h"
#include "tests/support/calls.h"

struct undo_rig {
    struct pl_storage *file, *data, *journal;                 /* data: null: there is none */
    struct pl_storage_ops ops[3];                             /* theirs, but for close ... */
    int (*close[3])(struct pl_storage *st, struct pl_err *e); /* ... which waits for the end */
    bool exists;                                              /* the journal */
    bool warned;
    struct pl_undo_place place;
    struct pl_report report;
    struct pl_undo *undo; /* while it runs ... */
    struct pl_storage *view, *data_view;
};

/* The storages are the rig's from now on. */
void undo_rig_init(struct undo_rig *rig, struct pl_storage *file, struct pl_storage *data,
                   struct pl_storage *journal);
void undo_rig_end(struct undo_rig *rig);

/* Begins a repair: view and data_view stand for the files. */
void undo_rig_begin(struct undo_rig *rig);
/* Ends it. */
int undo_rig_finish(struct undo_rig *rig, struct pl_undo_outcome *outcome, struct pl_err *e)
    PL_CHECK;

/* Takes it back; removes the journal where that succeeds. */
int undo_rig_back(struct undo_rig *rig, bool force, struct pl_undo_facts *facts, struct pl_err *e)
    PL_CHECK;

/* One random change of a storage: a write, zeros, another size up to `limit`, a flush. */
int undo_rig_change(struct pl_storage *st, uint64_t limit, uint64_t *random, struct pl_err *e)
    PL_CHECK;

/* All bytes of a storage, the caller's to free. */
uint8_t *undo_rig_bytes(struct pl_storage *st, size_t *len);

#endif
