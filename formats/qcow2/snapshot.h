/* snapshot.h - what the parts that change internal snapshots offer each other.
 *
 * All of it happens within a change of shadow.h.
 *
 * Who counts: each path from an L1 table over an L2 table to a cluster is one reference of that
 * cluster, and each L1 entry one of its L2 table.  The copied flags are right in the tables of the
 * disk alone, as the specification has it; those of snapshots are not looked at. */
#ifndef PL_FORMATS_QCOW2_SNAPSHOT_H
#define PL_FORMATS_QCOW2_SNAPSHOT_H

#include "formats/qcow2/tables.h"

/* ---- snapshot_refs.c ---- */
/* How many L2 tables an L1 table names.  PL_E_CORRUPT: more than the file can have. */
int qcow2_count_tables(const struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *count,
                       struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Everything that the L1 table leads to gets one more reference; shared[] (as many entries) is an
 * L1 table that leads to the same clusters, for the disk.  L2 tables with copied flags are copied
 * for it, and those whose count is at its limit; others are shared. */
int qcow2_share_tables(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *shared,
                       struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Everything that the L1 table leads to loses a reference. */
int qcow2_release_tables(struct qcow2 *q, const uint64_t *l1, uint32_t entries, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* The copied flags of the disk's L1 table, in memory, and of its L2 tables, which are copied where
 * one changes, follow the counts.  *changed: an entry of l1 did. */
int qcow2_follow_counts(struct qcow2 *q, uint64_t *l1, uint32_t entries, bool *changed,
                        struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- snapshot_table.c ---- */
/* A snapshot table on its way to the file. */
struct qcow2_snapshot_draft {
    uint8_t *raw; /* to be freed */
    uint64_t len, room;
    uint32_t count;
};
/* Room for the entries of a table that has `old_bytes` and `count` entries now, and one more. */
int qcow2_draft_begin(struct qcow2_snapshot_draft *d, uint64_t old_bytes, size_t count,
                      struct pl_err *e) PL_CHECK;
/* Appends an entry of the file with all that is in it, under a new name (null: its own); what its
 * extra data do not say they say then. */
int qcow2_draft_keep(struct qcow2 *q, struct qcow2_snapshot_draft *d,
                     const struct qcow2_snapshot *s, const char *new_name, struct pl_err *e)
    PL_CHECK;
/* Appends a new entry. */
void qcow2_draft_add(struct qcow2_snapshot_draft *d, const struct pl_snapshot *facts,
                     uint64_t l1_table_offset, uint32_t l1_size);
/* Writes the table to new clusters, and makes `header` point there.  PL_E_LIMIT: it is too long. */
int qcow2_draft_write(struct qcow2 *q, const struct qcow2_snapshot_draft *d,
                      struct qcow2_header *header, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

#endif
