/* snapshot_table.c - writes the snapshot table anew.
 *
 * Entries that stay keep every byte: extra data that platter does not know, ids and names longer
 * than it shows.  One whose extra data are short gets what its readers take for granted then, since
 * the disk's size, which they take for that of the snapshot, may change.
 *
 * Specification: docs/interop/qcow2.rst, "Snapshots". */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/shadow.h"
#include "formats/qcow2/snapshot.h"

#define FIXED_BYTES (QCOW2_SNAPSHOT_ENTRY_BYTES + QCOW2_SNAPSHOT_EXTRA_BYTES)

int qcow2_draft_begin(struct qcow2_snapshot_draft *d, uint64_t old_bytes, size_t count,
                      struct pl_err *e)
{
    /* each entry may get extra data and padding, one a new name or be new */
    const uint64_t each = QCOW2_SNAPSHOT_EXTRA_BYTES + 8;
    const uint64_t one = FIXED_BYTES + 2 * sizeof((struct pl_snapshot *)0)->name;

    *d = (struct qcow2_snapshot_draft){ .room = old_bytes + count * each + one };
    d->raw = calloc(1, d->room);
    return d->raw
               ? 0
               : pl_fail(e, PL_E_NOMEM, "snapshot table: no memory for %" PRIu64 " bytes", d->room);
}

/* Ends the entry of `len` bytes that was put at the draft's end. */
static void end_entry(struct qcow2_snapshot_draft *d, uint64_t len)
{
    d->len += pl_round_up(len, 8);
    d->count++;
}

/* Gives the entry at p, of `len` bytes, the extra data that it lacks; the bytes that it has then.
 */
static uint64_t complete(uint8_t *p, uint64_t len, const struct qcow2_snapshot *s,
                         struct qcow2_snapshot_entry *entry)
{
    const uint32_t have = entry->extra_data_size;
    uint8_t *extra = p + QCOW2_SNAPSHOT_ENTRY_BYTES;

    if (have >= QCOW2_SNAPSHOT_EXTRA_BYTES)
        return len;
    memmove(extra + QCOW2_SNAPSHOT_EXTRA_BYTES, extra + have,
            len - QCOW2_SNAPSHOT_ENTRY_BYTES - have);
    entry->extra_data_size = QCOW2_SNAPSHOT_EXTRA_BYTES;
    entry->vm_state_size_large = s->shown.vm_state_size;
    entry->disk_size = s->shown.disk_size;
    entry->icount = s->shown.icount;
    pl_fields_encode(qcow2_snapshot_entry_fields, entry, p, FIXED_BYTES);
    return len + QCOW2_SNAPSHOT_EXTRA_BYTES - have;
}

/* The same with another name, which is at its end. */
static uint64_t rename_entry(uint8_t *p, uint64_t len, const char *name,
                             struct qcow2_snapshot_entry *entry)
{
    const uint64_t at = len - entry->name_size, name_len = strlen(name);

    entry->name_size = (uint16_t)name_len;
    pl_fields_encode(qcow2_snapshot_entry_fields, entry, p, FIXED_BYTES);
    memset(p + at, 0, len - at);
    memcpy(p + at, name, name_len);
    return at + name_len;
}

int qcow2_draft_keep(struct qcow2 *q, struct qcow2_snapshot_draft *d,
                     const struct qcow2_snapshot *s, const char *new_name, struct pl_err *e)
{
    uint8_t *p = d->raw + d->len;
    struct qcow2_snapshot_entry entry = { 0 };
    uint64_t len = s->len;

    if (pl_storage_read(q->file, s->at, p, len, e) < 0)
        return pl_within(e, "snapshot table");
    pl_fields_decode(qcow2_snapshot_entry_fields, p, QCOW2_SNAPSHOT_ENTRY_BYTES, &entry);
    len = complete(p, len, s, &entry);
    pl_fields_decode(qcow2_snapshot_entry_fields, p, FIXED_BYTES, &entry);
    if (new_name)
        len = rename_entry(p, len, new_name, &entry);
    end_entry(d, len);
    return 0;
}

void qcow2_draft_add(struct qcow2_snapshot_draft *d, const struct pl_snapshot *facts,
                     uint64_t l1_table_offset, uint32_t l1_size)
{
    const size_t id_len = strlen(facts->id), name_len = strlen(facts->name);
    uint8_t *p = d->raw + d->len;
    const struct qcow2_snapshot_entry entry = {
        .l1_table_offset = l1_table_offset,
        .l1_size = l1_size,
        .id_str_size = (uint16_t)id_len,
        .name_size = (uint16_t)name_len,
        .date_sec = facts->date_sec,
        .date_nsec = facts->date_nsec,
        .vm_clock_nsec = facts->vm_clock_nsec,
        .vm_state_size = (uint32_t)(facts->vm_state_size > UINT32_MAX ? 0 : facts->vm_state_size),
        .extra_data_size = QCOW2_SNAPSHOT_EXTRA_BYTES,
        .vm_state_size_large = facts->vm_state_size,
        .disk_size = facts->disk_size,
        .icount = facts->icount,
    };

    pl_fields_encode(qcow2_snapshot_entry_fields, &entry, p, FIXED_BYTES);
    memcpy(p + FIXED_BYTES, facts->id, id_len);
    memcpy(p + FIXED_BYTES + id_len, facts->name, name_len);
    end_entry(d, FIXED_BYTES + id_len + name_len);
}

int qcow2_draft_write(struct qcow2 *q, const struct qcow2_snapshot_draft *d,
                      struct qcow2_header *header, struct pl_err *e)
{
    header->nb_snapshots = d->count;
    header->snapshots_offset = 0;
    if (d->count > QCOW2_SNAPSHOTS_MAX || d->len > QCOW2_SNAPSHOT_TABLE_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "%" PRIu32 " snapshots in a table of %" PRIu64 " bytes are too many",
                       d->count, d->len);
    if (!d->count)
        return 0;
    if (qcow2_shadow_allocate(q, pl_div_up(d->len, q->cluster_size), &header->snapshots_offset, e) <
        0)
        return -1;
    if (pl_storage_write(q->file, header->snapshots_offset, d->raw, d->len, e) < 0)
        return pl_within(e, "snapshot table");
    return 0;
}
