/* tables.h - the snapshot table and the bitmap directory, read into memory. */
#ifndef PL_FORMATS_QCOW2_TABLES_H
#define PL_FORMATS_QCOW2_TABLES_H

#include "formats/qcow2/qcow2.h"

/* One entry of the snapshot table. */
struct qcow2_snapshot {
    uint64_t at;  /* byte offset of the entry in the file */
    uint32_t len; /* its bytes, without the padding */
    uint32_t l1_size;
    uint64_t l1_table_offset; /* not checked: qcow2_check_table does that */
    struct pl_snapshot shown;
};

/* Reads the whole table; *list is the caller's to free, null when there are none.  *bytes (may be
 * null) is the length of the table in the file.  PL_E_CORRUPT, PL_E_LIMIT, PL_E_NOMEM. */
int qcow2_load_snapshots(struct qcow2 *q, struct qcow2_snapshot **list, size_t *count,
                         uint64_t *bytes, struct pl_err *e) PL_CHECK;

/* The snapshot with that id, else the first one with that name; null: there is none. */
const struct qcow2_snapshot *qcow2_find_snapshot(const struct qcow2_snapshot *list, size_t count,
                                                 const char *id_or_name);

/* Reads its L1 table, which is checked to be large enough for its disk; *l1 is the caller's to
 * free. */
int qcow2_load_snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *s, uint64_t **l1,
                           struct pl_err *e) PL_CHECK;

/* A table of 8-byte entries in the file. */
struct qcow2_place {
    uint64_t off; /* bytes */
    uint64_t entries;
    uint64_t bytes_max; /* the limit for this kind of table */
};

/* Whether the table is cluster aligned, within its limit and inside the file.  `what` names it in
 * messages. */
int qcow2_check_table(const struct qcow2 *q, const char *what, struct qcow2_place table,
                      struct pl_err *e) PL_CHECK;

/* Reads a table into host order; checks as qcow2_check_table.  *out is the caller's to free, never
 * null on success. */
int qcow2_load_table(struct qcow2 *q, const char *what, struct qcow2_place table, uint64_t **out,
                     struct pl_err *e) PL_CHECK;

/* One entry of the bitmap directory. */
struct qcow2_bitmap {
    uint64_t at;  /* byte offset of the entry in the file */
    uint32_t len; /* its bytes, without the padding */
    struct qcow2_bitmap_entry entry;
    struct pl_bitmap shown;
    bool usable; /* its type and extra data are known, its size fits the disk */
};

/* The bitmaps extension of the header, decoded and checked.  1: there is none (or it says nothing
 * because its autoclear bit is off and `even_stale` is false); 0; -1. */
int qcow2_bitmaps_extension(const struct qcow2 *q, bool even_stale, struct qcow2_bitmaps_ext *ext,
                            struct pl_err *e) PL_CHECK;

/* Reads the whole directory; *list is the caller's to free, null when there are none. */
int qcow2_load_bitmaps(struct qcow2 *q, bool even_stale, struct qcow2_bitmap **list, size_t *count,
                       struct pl_err *e) PL_CHECK;

#endif
