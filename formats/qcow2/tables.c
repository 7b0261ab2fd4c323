/* tables.c - tables of 8-byte entries that lie in the file in one piece. */
#include "formats/qcow2/tables.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"

int qcow2_check_table(const struct qcow2 *q, const char *what, struct qcow2_place table,
                      struct pl_err *e)
{
    const uint64_t file_size = pl_storage_size(q->file);
    uint64_t bytes;

    if (!pl_mul(table.entries, 8, &bytes) || bytes > table.bytes_max)
        return pl_fail(e, PL_E_LIMIT, "%s: %" PRIu64 " entries are more than the limit of %" PRIu64,
                       what, table.entries, table.bytes_max / 8);
    if (table.off & (q->cluster_size - 1))
        return pl_fail(e, PL_E_CORRUPT, "%s: its offset 0x%" PRIx64 " is not aligned to a cluster",
                       what, table.off);
    if (table.off == 0 && bytes > 0)
        return pl_fail(e, PL_E_CORRUPT, "%s: its offset is 0, where the header is", what);
    if (!pl_inside(table.off, bytes, file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "%s: [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of the file (0x%" PRIx64
                       ")",
                       what, table.off, bytes, file_size);
    return 0;
}

int qcow2_load_table(struct qcow2 *q, const char *what, struct qcow2_place table, uint64_t **out,
                     struct pl_err *e)
{
    PL_FREE uint64_t *entries = NULL;

    if (qcow2_check_table(q, what, table, e) < 0)
        return -1;
    entries = calloc(table.entries ? table.entries : 1, 8);
    if (!entries)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for %" PRIu64 " entries", what, table.entries);
    if (pl_storage_read(q->file, table.off, entries, table.entries * 8, e) < 0)
        return pl_within(e, "%s", what);
    for (uint64_t i = 0; i < table.entries; i++)
        entries[i] = load_be64(&entries[i]);
    *out = pl_take(entries);
    return 0;
}
