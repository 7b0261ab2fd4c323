/* extensions.h - the header extensions of an open qcow2 file.
 *
 * The backing format and the data file's name are kept as q->parent_format and q->data_file_name;
 * all others lie in q->extensions, in the order of the file, known ones (feature names, bitmaps)
 * and unknown ones. Changes reach the file by qcow2_write_header. */
#ifndef PL_FORMATS_QCOW2_EXTENSIONS_H
#define PL_FORMATS_QCOW2_EXTENSIONS_H

#include "formats/qcow2/qcow2.h"

/* Reads them all; needs q->file and the header's fields.  PL_E_CORRUPT, PL_E_LIMIT, PL_E_NOMEM. */
int qcow2_read_extensions(struct qcow2 *q, struct pl_err *e) PL_CHECK;

/* The extension of that type in q->extensions, or null. */
struct qcow2_extension *qcow2_extension(const struct qcow2 *q, uint32_t type);

/* Sets (or, without data, removes) the extension of that type in q->extensions.  PL_E_NOMEM. */
int qcow2_set_extension(struct qcow2 *q, uint32_t type, const void *data, uint32_t len,
                        struct pl_err *e) PL_CHECK;

/* The feature name table as QEMU writes it. */
int qcow2_set_feature_names(struct qcow2 *q, struct pl_err *e) PL_CHECK;

/* Writes all of them and the end mark at *used of cluster 0 in `raw`, and moves *used behind.  The
 * feature names are left out where there is no room for them and the parent's name before byte
 * `limit`.  PL_E_LIMIT. */
int qcow2_put_extensions(const struct qcow2 *q, uint32_t limit, uint8_t *raw, uint32_t *used,
                         struct pl_err *e) PL_CHECK;

/* Frees the list. */
void qcow2_free_extensions(struct qcow2 *q);

#endif
