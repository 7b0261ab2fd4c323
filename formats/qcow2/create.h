/* create.h - what a new image is to be like, shared by create and measure. */
#ifndef PL_FORMATS_QCOW2_CREATE_H
#define PL_FORMATS_QCOW2_CREATE_H

#include "formats/qcow2/qcow2.h"

/* The create options, checked against each other. */
struct qcow2_request {
    uint32_t version; /* 2 or 3 */
    uint32_t cluster_bits;
    uint32_t refcount_order;
    bool lazy_refcounts, extended_l2, data_file_raw;
    uint8_t compression_type;
    enum pl_prealloc prealloc;
    const char *data_file; /* null: none; belongs to the options */
};

/* Reads the options, refusing what the format cannot combine.  PL_E_INVALID. */
int qcow2_read_request(const struct pl_options *options, bool has_parent,
                       struct qcow2_request *request, struct pl_err *e) PL_CHECK;

/* Where everything goes in a new image: header, refcount table, refcount blocks, L1 table, and for
 * preallocated metadata all L2 tables and then all guest clusters, each in one piece and in that
 * order. */
struct qcow2_new_layout {
    uint64_t refcount_table, refcount_table_clusters; /* numbers of clusters, as all below */
    uint64_t refcount_blocks, refcount_block_count;
    uint64_t l1, l1_clusters;
    uint64_t l2, l2_tables;       /* 0 tables: not preallocated */
    uint64_t data, data_clusters; /* the same; 0 too with an external data file */
    uint64_t total;
};

/* Lays the image out; needs what qcow2_derive sets and header.size.  PL_E_LIMIT. */
int qcow2_plan_layout(const struct qcow2 *q, bool prealloc, struct qcow2_new_layout *plan,
                      struct pl_err *e) PL_CHECK;

/* Writes all tables, and zeros where a device may hold something else.  The header is left. */
int qcow2_write_tables(struct qcow2 *q, const struct qcow2_new_layout *plan, struct pl_err *e)
    PL_CHECK;

#endif
