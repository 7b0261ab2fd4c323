/* snapshots.c - the snapshot table, and opening one of its snapshots.
 *
 * Specification: docs/interop/qcow2.rst, "Snapshots".  Entries have variable length and follow each
 * other, so the table is read from its start through a window; only what is shown of an entry is
 * copied. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/qcow2.h"
#include "formats/qcow2/tables.h"

#define FIELD(type, at, name) PL_FIELD(struct qcow2_snapshot_entry, type, at, name)

const struct pl_field qcow2_snapshot_entry_fields[] = {
    FIELD(PL_BE64, 0, l1_table_offset),
    FIELD(PL_BE32, 8, l1_size),
    FIELD(PL_BE16, 12, id_str_size),
    FIELD(PL_BE16, 14, name_size),
    FIELD(PL_BE32, 16, date_sec),
    FIELD(PL_BE32, 20, date_nsec),
    FIELD(PL_BE64, 24, vm_clock_nsec),
    FIELD(PL_BE32, 32, vm_state_size),
    FIELD(PL_BE32, 36, extra_data_size),
    FIELD(PL_BE64, 40, vm_state_size_large),
    FIELD(PL_BE64, 48, disk_size),
    FIELD(PL_BE64, 56, icount),
    { 0 },
};

/* A part of the file in memory, moved along the table. */
struct window {
    struct pl_storage *file;
    uint64_t at;  /* byte offset of bytes[0] */
    uint32_t len; /* bytes that are valid */
    uint8_t bytes[65536];
};

/* *p points at len (at most 4096) bytes of the file, valid until the next call. */
static int look(struct window *w, uint64_t at, uint32_t len, const uint8_t **p, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(w->file);

    if (!pl_inside(at, len, size))
        return pl_fail(e, PL_E_CORRUPT,
                       "snapshot table: the file (0x%" PRIx64 " bytes) ends inside it", size);
    if (at < w->at || !pl_inside(at - w->at, len, w->len)) {
        w->len = 0;
        if (pl_storage_read(w->file, at, w->bytes, PL_MIN(sizeof w->bytes, size - at), e) < 0)
            return pl_within(e, "snapshot table");
        w->at = at;
        w->len = (uint32_t)PL_MIN(sizeof w->bytes, size - at);
    }
    *p = w->bytes + (at - w->at);
    return 0;
}

/* Copies a text that is not null-terminated on disk, cut to the room there is. */
static int copy_text(struct window *w, uint64_t at, uint16_t len, char *text, size_t room,
                     struct pl_err *e)
{
    const uint32_t shown = (uint32_t)PL_MIN(len, room - 1);
    const uint8_t *p;

    if (look(w, at, shown, &p, e) < 0)
        return -1;
    memcpy(text, p, shown);
    text[shown] = '\0';
    return 0;
}

/* Decodes the numbers of the entry at `at`; extra data that is not there gives its defaults. */
static int read_entry(const struct qcow2 *q, struct window *w, uint64_t at,
                      struct qcow2_snapshot_entry *entry, struct pl_err *e)
{
    const uint8_t *p;
    uint32_t known;

    if (look(w, at, QCOW2_SNAPSHOT_ENTRY_BYTES, &p, e) < 0)
        return -1;
    pl_fields_decode(qcow2_snapshot_entry_fields, p, QCOW2_SNAPSHOT_ENTRY_BYTES, entry);
    if (entry->extra_data_size > QCOW2_SNAPSHOT_EXTRA_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "snapshot table: %" PRIu32 " bytes of extra data in the entry at 0x%" PRIx64
                       " (limit: %d)",
                       entry->extra_data_size, at, QCOW2_SNAPSHOT_EXTRA_MAX);
    known = PL_MIN(entry->extra_data_size, QCOW2_SNAPSHOT_EXTRA_BYTES);
    if (look(w, at, QCOW2_SNAPSHOT_ENTRY_BYTES + known, &p, e) < 0)
        return -1;
    pl_fields_decode(qcow2_snapshot_entry_fields, p, QCOW2_SNAPSHOT_ENTRY_BYTES + known, entry);
    if (known < 8)
        entry->vm_state_size_large = entry->vm_state_size;
    if (known < 16)
        entry->disk_size = q->header.size;
    if (known < 24)
        entry->icount = UINT64_MAX;
    return 0;
}

static int read_snapshot(const struct qcow2 *q, struct window *w, uint64_t at,
                         struct qcow2_snapshot *s, struct pl_err *e)
{
    struct qcow2_snapshot_entry entry;
    uint64_t id_at;

    if (read_entry(q, w, at, &entry, e) < 0)
        return -1;
    id_at = at + QCOW2_SNAPSHOT_ENTRY_BYTES + entry.extra_data_size;
    *s = (struct qcow2_snapshot){
        .at = at,
        .len = QCOW2_SNAPSHOT_ENTRY_BYTES + entry.extra_data_size + entry.id_str_size +
               entry.name_size,
        .l1_size = entry.l1_size,
        .l1_table_offset = entry.l1_table_offset,
        .shown = {
            .vm_state_size = entry.vm_state_size_large,
            .disk_size = entry.disk_size,
            .date_sec = entry.date_sec,
            .date_nsec = entry.date_nsec,
            .vm_clock_nsec = entry.vm_clock_nsec,
            .icount = entry.icount,
        },
    };
    if (copy_text(w, id_at, entry.id_str_size, s->shown.id, sizeof s->shown.id, e) < 0)
        return -1;
    return copy_text(w, id_at + entry.id_str_size, entry.name_size, s->shown.name,
                     sizeof s->shown.name, e);
}

static int read_all(const struct qcow2 *q, struct window *w, struct qcow2_snapshot *list,
                    uint64_t *bytes, struct pl_err *e)
{
    uint64_t at = q->header.snapshots_offset;

    for (uint32_t i = 0; i < q->header.nb_snapshots; i++) {
        if (read_snapshot(q, w, at, &list[i], e) < 0)
            return -1;
        at = pl_round_up(at + list[i].len, 8);
        if (at - q->header.snapshots_offset > QCOW2_SNAPSHOT_TABLE_BYTES_MAX)
            return pl_fail(e, PL_E_LIMIT, "snapshot table: it is longer than %" PRIu32 " bytes",
                           QCOW2_SNAPSHOT_TABLE_BYTES_MAX);
    }
    *bytes = at - q->header.snapshots_offset;
    return 0;
}

int qcow2_load_snapshots(struct qcow2 *q, struct qcow2_snapshot **list, size_t *count,
                         uint64_t *bytes, struct pl_err *e)
{
    const uint32_t n = q->header.nb_snapshots;
    PL_FREE struct qcow2_snapshot *all = NULL;
    PL_FREE struct window *w = NULL;
    uint64_t length = 0;

    *list = NULL;
    *count = 0;
    if (bytes)
        *bytes = 0;
    if (n == 0)
        return 0;
    /* n is at most QCOW2_SNAPSHOTS_MAX, and open has found that many entries to fit into the file
     */
    all = calloc(n, sizeof *all);
    w = malloc(sizeof *w);
    if (!all || !w)
        return pl_fail(e, PL_E_NOMEM, "snapshot table: no memory for %" PRIu32 " entries", n);
    w->file = q->file;
    w->at = 0;
    w->len = 0;
    if (read_all(q, w, all, &length, e) < 0)
        return -1;
    *list = pl_take(all);
    *count = n;
    if (bytes)
        *bytes = length;
    return 0;
}

int qcow2_snapshots(void *state, struct pl_snapshot **list, size_t *count, struct pl_err *e)
{
    PL_FREE struct qcow2_snapshot *all = NULL;
    struct pl_snapshot *shown;
    size_t n;

    *list = NULL;
    *count = 0;
    if (qcow2_load_snapshots(state, &all, &n, NULL, e) < 0)
        return -1;
    if (n == 0)
        return 0;
    shown = calloc(n, sizeof *shown);
    if (!shown)
        return pl_fail(e, PL_E_NOMEM, "no memory for %zu snapshots", n);
    for (size_t i = 0; i < n; i++)
        shown[i] = all[i].shown;
    *list = shown;
    *count = n;
    return 0;
}

const struct qcow2_snapshot *qcow2_find_snapshot(const struct qcow2_snapshot *list, size_t count,
                                                 const char *id_or_name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].shown.id, id_or_name) == 0)
            return &list[i];
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].shown.name, id_or_name) == 0)
            return &list[i];
    return NULL;
}

int qcow2_load_snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *s, uint64_t **l1,
                           struct pl_err *e)
{
    const struct qcow2_place table = { .off = s->l1_table_offset,
                                       .entries = s->l1_size,
                                       .bytes_max = QCOW2_L1_BYTES_MAX };
    const uint64_t per_table = (uint64_t)q->l2_entries << q->cluster_bits;

    if (s->shown.disk_size > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "its virtual size of %" PRIu64 " bytes is too big",
                       s->shown.disk_size);
    if (pl_div_up(s->shown.disk_size, per_table) > s->l1_size)
        return pl_fail(e, PL_E_CORRUPT,
                       "an L1 table of %" PRIu32 " entries is too small for a disk of %" PRIu64
                       " bytes",
                       s->l1_size, s->shown.disk_size);
    return qcow2_load_table(q, "L1 table", table, l1, e);
}

/* Replaces the active L1 table by that of the snapshot. */
static int show(struct qcow2 *q, const struct qcow2_snapshot *s, struct pl_err *e)
{
    uint64_t *l1;

    if (qcow2_load_snapshot_l1(q, s, &l1, e) < 0)
        return -1;
    free(q->l1);
    q->l1 = l1;
    q->l1_size = s->l1_size;
    q->header.size = s->shown.disk_size;
    q->snapshot_view = true;
    return 0;
}

int qcow2_select_snapshot(struct qcow2 *q, const char *id_or_name, struct pl_err *e)
{
    PL_FREE struct qcow2_snapshot *list = NULL;
    const struct qcow2_snapshot *s;
    size_t count;

    if (qcow2_load_snapshots(q, &list, &count, NULL, e) < 0)
        return -1;
    s = qcow2_find_snapshot(list, count, id_or_name);
    if (!s)
        return pl_fail(e, PL_E_NOT_FOUND, "there is no snapshot '%s' in it", id_or_name);
    if (show(q, s, e) < 0)
        return pl_within(e, "snapshot '%s'", id_or_name);
    return 0;
}
