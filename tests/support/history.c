/* history.c - see history.h.  Running out of memory ends the test. */
#include "tests/support/history.h"

#include <stdlib.h>
#include <string.h>

struct version {
    uint64_t sequence, op, value;
};

struct cell {
    struct version *version;
    uint64_t count, room;
};

struct flush {
    uint64_t sequence, op;
};

struct history {
    uint64_t sectors, sequence;
    struct cell *cell;
    struct flush *flush;
    uint64_t flush_count, flush_room;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct history *history_new(uint64_t sectors)
{
    struct history *h = must(calloc(1, sizeof *h));

    h->sectors = sectors;
    h->cell = must(calloc(sectors, sizeof *h->cell));
    history_set(h, 0, sectors, 0, 0);
    history_flushed(h, history_mark(h), 0);
    return h;
}

void history_free(struct history *h)
{
    if (!h)
        return;
    for (uint64_t i = 0; i < h->sectors; i++)
        free(h->cell[i].version);
    free(h->cell);
    free(h->flush);
    free(h);
}

void history_fill(uint8_t *bytes, uint64_t sector, uint64_t value)
{
    memset(bytes, value ? (int)(value * 37 % 255) + 1 : 0, HISTORY_SECTOR);
    if (!value)
        return;
    memcpy(bytes, &value, sizeof value);
    memcpy(bytes + HISTORY_SECTOR - sizeof sector, &sector, sizeof sector);
}

bool history_holds(const uint8_t *bytes, uint64_t sector, uint64_t value)
{
    uint8_t wanted[HISTORY_SECTOR];

    history_fill(wanted, sector, value);
    return !memcmp(bytes, wanted, HISTORY_SECTOR);
}

void history_set(struct history *h, uint64_t sector, uint64_t count, uint64_t value, uint64_t op)
{
    h->sequence++;
    for (uint64_t i = sector; i < sector + count; i++) {
        struct cell *c = &h->cell[i];

        if (c->count == c->room) {
            c->room = 2 * c->room + 4;
            c->version = must(realloc(c->version, c->room * sizeof *c->version));
        }
        c->version[c->count++] = (struct version){ h->sequence, op, value };
    }
}

uint64_t history_now(const struct history *h, uint64_t sector)
{
    return h->cell[sector].version[h->cell[sector].count - 1].value;
}

uint64_t history_mark(const struct history *h)
{
    return h->sequence;
}

void history_flushed(struct history *h, uint64_t mark, uint64_t op)
{
    if (h->flush_count == h->flush_room) {
        h->flush_room = 2 * h->flush_room + 4;
        h->flush = must(realloc(h->flush, h->flush_room * sizeof *h->flush));
    }
    h->flush[h->flush_count++] = (struct flush){ mark, op };
}

/* The sequence number up to which everything was safe at time `op`. */
static uint64_t safe_sequence(const struct history *h, uint64_t op)
{
    uint64_t i = h->flush_count;

    while (i > 1 && h->flush[i - 1].op > op)
        i--;
    return h->flush[i - 1].sequence;
}

/* Calls `same` on the newest safe version and all later ones that had begun. */
static bool any_allowed(const struct history *h, uint64_t sector, uint64_t op,
                        bool (*same)(const void *ctx, uint64_t sector, uint64_t value),
                        const void *ctx)
{
    const struct cell *c = &h->cell[sector];
    uint64_t safe = safe_sequence(h, op);

    for (uint64_t i = c->count; i-- > 0;) {
        if (c->version[i].op <= op && same(ctx, sector, c->version[i].value))
            return true;
        if (c->version[i].sequence <= safe)
            return false;
    }
    return false;
}

static bool same_bytes(const void *ctx, uint64_t sector, uint64_t value)
{
    return history_holds(ctx, sector, value);
}

static bool same_value(const void *ctx, uint64_t sector, uint64_t value)
{
    (void)sector;
    return *(const uint64_t *)ctx == value;
}

bool history_allows(const struct history *h, uint64_t sector, const uint8_t *bytes, uint64_t op)
{
    return any_allowed(h, sector, op, same_bytes, bytes);
}

bool history_allows_value(const struct history *h, uint64_t sector, uint64_t value, uint64_t op)
{
    return any_allowed(h, sector, op, same_value, &value);
}
