/* replace_header.c - a new header in place of another whose extensions and name lie elsewhere.
 *
 * A disk writes a sector as a whole or not at all, and nothing more.  So the header moves in two
 * steps, each of them one write of the first sector: first to a layout that uses no byte of the old
 * one but in that sector, then to the usual layout.  Layouts for the first step, the first that has
 * the room:
 *   1. all of it in the first sector, without the table of feature names;
 *   2. version 3: header_length points behind the old layout, extensions and name follow there;
 *   3. version 2: the name lies behind the old layout, the extensions in the first sector.
 * A crash between the steps leaves an image that says the new things.  What the second layout
 * leaves of header_length is taken back the next time. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/extensions.h"

/* A header under way. */
struct move {
    struct qcow2_header before;   /* as the file has it */
    uint8_t *old, *new, *between; /* cluster 0 as it is, as it will be, and after the first step */
    uint32_t new_used;
    uint32_t between_from, between_used; /* what the first step has behind the first sector */
};

/* The caller may have changed the version. */
static void decode_old(struct move *m)
{
    pl_fields_decode(qcow2_header_fields, m->old, QCOW2_HEADER_LENGTH, &m->before);
    if (m->before.version == 2)
        m->before.header_length = QCOW2_V2_HEADER_LENGTH;
}

/* Where the extensions of the old layout end, with their end mark. */
static uint32_t extensions_end(const uint8_t *raw, uint32_t at, uint32_t limit)
{
    while (at < limit && limit - at >= QCOW2_EXT_HEAD) {
        const uint32_t type = load_be32(raw + at), len = load_be32(raw + at + 4);

        at += QCOW2_EXT_HEAD;
        if (type == QCOW2_EXT_END)
            return at;
        at = (uint32_t)PL_MIN(pl_round_up((uint64_t)at + len, 8), limit);
    }
    return limit;
}

/* Whole sectors from which on nothing of the old layout or of the new one lies. */
static uint32_t free_from(const struct qcow2 *q, const struct move *m)
{
    const struct qcow2_header *h = &m->before;
    const uint64_t name_end =
        h->backing_file_size ? h->backing_file_offset + h->backing_file_size : 0;
    const uint64_t limit = h->backing_file_offset ? h->backing_file_offset : q->cluster_size;
    const uint64_t end =
        extensions_end(m->old, h->header_length, (uint32_t)PL_MIN(limit, q->cluster_size));

    return (uint32_t)pl_round_up(PL_MAX(PL_MAX(end, name_end), m->new_used), QCOW2_SECTOR);
}

/* header_length as a crash in the middle of layout 2 left it. */
static bool is_left_over(const struct qcow2 *q, const struct move *m)
{
    return q->header.header_length >= QCOW2_SECTOR &&
           pl_is_zero(m->old + QCOW2_HEADER_LENGTH, QCOW2_SECTOR - QCOW2_HEADER_LENGTH);
}

/* Whether the new layout has its first sector alone in common with the old one, which such a crash
 * has put aside. */
static bool is_apart(const struct move *m)
{
    return m->before.header_length >= pl_round_up(m->new_used, QCOW2_SECTOR);
}

static int lay_out_new(struct qcow2 *q, struct move *m, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (is_left_over(q, m))
        q->header.header_length = QCOW2_HEADER_LENGTH;
    memcpy(m->new, m->old, q->header.header_length);
    return qcow2_encode_header(q, 0, q->cluster_size, m->new, &m->new_used, e);
}

/* Layout 1.  False: there is no room. */
static bool fits_first_sector(struct qcow2 *q, struct move *m) PL_NEEDS(&q->lock)
{
    if (q->header.header_length >= QCOW2_SECTOR)
        return false;
    memcpy(m->between, m->old, q->header.header_length);
    m->between_from = QCOW2_SECTOR;
    return qcow2_encode_header(q, 0, QCOW2_SECTOR, m->between, &m->between_used, NULL) == 0;
}

/* Layouts 2 and 3. */
static int lay_out_behind(struct qcow2 *q, struct move *m, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const uint32_t length = q->header.header_length;
    const uint32_t from = free_from(q, m);
    int result;

    memset(m->between, 0, q->cluster_size);
    m->between_from = from;
    if (from >= q->cluster_size)
        return pl_fail(e, PL_E_LIMIT, "header: cluster 0 has no room to replace it safely");
    if (q->header.version == 2) {
        memcpy(m->between, m->old, length);
        return qcow2_encode_header(q, from, q->cluster_size, m->between, &m->between_used, e);
    }
    memcpy(m->between, m->old, PL_MIN(length, QCOW2_HEADER_LENGTH));
    q->header.header_length = from;
    result = qcow2_encode_header(q, 0, q->cluster_size, m->between, &m->between_used, e);
    q->header.header_length = length;
    return result;
}

/* Behind the first sector, then the first sector. */
static int step(struct qcow2 *q, const uint8_t *raw, uint32_t from, uint32_t used, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const uint32_t end = (uint32_t)pl_round_up(used, QCOW2_SECTOR);

    if (end > from &&
        (pl_storage_write(q->file, from, raw + from, end - from, e) < 0 || qcow2_sync(q, e) < 0))
        return -1;
    return pl_storage_write(q->file, 0, raw, QCOW2_SECTOR, e) < 0 ? -1 : qcow2_sync(q, e);
}

static int move_header(struct qcow2 *q, const struct move *m, struct pl_err *e) PL_NEEDS(&q->lock)
{
    const uint32_t end = (uint32_t)pl_round_up(m->new_used, QCOW2_SECTOR);

    if (m->between_used && step(q, m->between, m->between_from, m->between_used, e) < 0)
        return -1;
    if (step(q, m->new, QCOW2_SECTOR, m->new_used, e) < 0)
        return -1;
    if (pl_is_zero(m->old + end, q->cluster_size - end) && m->between_used <= end)
        return 0;
    return pl_storage_zero(q->file, end, q->cluster_size - end, e);
}

/* Whether the new layout needs a change of no other sector but the first. */
static bool is_one_sector(const struct move *m)
{
    const uint32_t end = (uint32_t)pl_round_up(m->new_used, QCOW2_SECTOR);

    return end == QCOW2_SECTOR ||
           memcmp(m->old + QCOW2_SECTOR, m->new + QCOW2_SECTOR, end - QCOW2_SECTOR) == 0;
}

int qcow2_replace_header(struct qcow2 *q, struct pl_err *e)
{
    PL_FREE uint8_t *old = calloc(1, q->cluster_size);
    PL_FREE uint8_t *new = calloc(1, q->cluster_size);
    PL_FREE uint8_t *between = calloc(1, q->cluster_size);
    struct move m = { .old = old, .new = new, .between = between };
    const struct qcow2_header wanted = q->header;
    struct qcow2_header after;
    int result;

    if (!old || !new || !between)
        return pl_fail(e, PL_E_NOMEM, "header: no memory for a cluster");
    if (pl_storage_read_padded(q->file, 0, old, q->cluster_size, e) < 0)
        return -1;
    decode_old(&m);
    result = lay_out_new(q, &m, e);
    after = q->header;
    if (result == 0 && !is_one_sector(&m) && !is_apart(&m) && !fits_first_sector(q, &m))
        result = lay_out_behind(q, &m, e);
    q->header = result < 0 ? wanted : after;
    if (result < 0)
        return -1;
    if (move_header(q, &m, e) == 0)
        return 0;
    q->broken = true; /* nobody knows which header the disk has */
    return pl_within(e, "header");
}
