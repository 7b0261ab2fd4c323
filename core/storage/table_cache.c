/* table_cache.c - a hash of slices, and two lists through them: the clean ones by age, the dirty
 * ones.
 *
 * Invariants: every slice in the hash is in exactly one of the lists; at most `slots` slices
 * exist; slices that hold nothing wait in `spare`. */
#include "core/storage/table_cache.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"

/* The most bytes joined to one write. */
#define WRITE_PIECE (1u << 20)

struct slice {
    struct slice *next_in_bucket;
    struct slice *newer, *older; /* neighbours in the list; the list's head is between its ends */
    uint64_t off;
    bool dirty;
    uint8_t *bytes; /* behind the struct, in the same allocation */
};

struct pl_table_cache {
    struct pl_storage *st;
    uint32_t slice, slots;
    uint32_t made;         /* slices that exist */
    uint32_t bucket_count; /* a power of two */
    struct slice **bucket;
    struct slice clean, dirty; /* heads: .older is the newest, .newer the oldest */
    struct slice *spare;       /* linked by next_in_bucket */
    uint32_t dirty_count;
    uint64_t epoch;
};

/* ---- lists and hash ---- */

static void list_init(struct slice *head)
{
    head->newer = head->older = head;
}

static void list_remove(struct slice *s)
{
    s->newer->older = s->older;
    s->older->newer = s->newer;
}

static void list_add_newest(struct slice *head, struct slice *s)
{
    s->newer = head;
    s->older = head->older;
    s->older->newer = s;
    head->older = s;
}

static struct slice **bucket_of(struct pl_table_cache *tc, uint64_t off)
{
    /* multiplicative hashing: the high bits of the product depend on all bits of the number */
    const uint64_t hash = off / tc->slice * UINT64_C(0x9e3779b97f4a7c15);

    return &tc->bucket[(hash >> 32) & (tc->bucket_count - 1)];
}

static struct slice *find(struct pl_table_cache *tc, uint64_t off)
{
    struct slice *s = *bucket_of(tc, off);

    while (s && s->off != off)
        s = s->next_in_bucket;
    return s;
}

static void hash_remove(struct pl_table_cache *tc, struct slice *s)
{
    struct slice **at = bucket_of(tc, s->off);

    while (*at != s)
        at = &(*at)->next_in_bucket;
    *at = s->next_in_bucket;
}

/* Takes a slice out of the cache, dirty or not; it holds nothing then. */
static void forget(struct pl_table_cache *tc, struct slice *s)
{
    tc->dirty_count -= s->dirty;
    hash_remove(tc, s);
    list_remove(s);
    s->next_in_bucket = tc->spare;
    tc->spare = s;
}

/* Puts a slice that holds nothing in the cache as the newest clean one. */
static void enter(struct pl_table_cache *tc, struct slice *s, uint64_t off)
{
    struct slice **at = bucket_of(tc, off);

    s->off = off;
    s->dirty = false;
    s->next_in_bucket = *at;
    *at = s;
    list_add_newest(&tc->clean, s);
}

static void mark_dirty(struct pl_table_cache *tc, struct slice *s)
{
    tc->epoch++;
    if (s->dirty)
        return;
    s->dirty = true;
    tc->dirty_count++;
    list_remove(s);
    list_add_newest(&tc->dirty, s);
}

static void mark_clean(struct pl_table_cache *tc, struct slice *s)
{
    s->dirty = false;
    tc->dirty_count--;
    list_remove(s);
    list_add_newest(&tc->clean, s);
}

/* A slice that holds nothing: spare, new, or the oldest clean one.  Null: all are dirty, or
 * there is no memory for the first. */
static struct slice *vacate(struct pl_table_cache *tc)
{
    struct slice *s;

    if (!tc->spare && tc->made < tc->slots) {
        s = malloc(sizeof *s + tc->slice);
        if (s) {
            s->bytes = (uint8_t *)(s + 1);
            tc->made++;
            return s;
        }
    }
    if (!tc->spare && tc->clean.newer != &tc->clean)
        forget(tc, tc->clean.newer);
    s = tc->spare;
    if (s)
        tc->spare = s->next_in_bucket;
    return s;
}

/* ---- the interface ---- */

int pl_table_cache_create(struct pl_storage *st, uint32_t slice, uint32_t slots,
                          struct pl_table_cache **out, struct pl_err *e)
{
    struct pl_table_cache *tc;

    if (!pl_is_pow2(slice) || slice < 512 || slice > 65536 || slots == 0 || slots > 1u << 30)
        return pl_fail(e, PL_E_INVALID, "table cache: %" PRIu32 " slices of %" PRIu32 " bytes",
                       slots, slice);
    tc = calloc(1, sizeof *tc);
    if (!tc)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a table cache", st->name);
    *tc = (struct pl_table_cache){ .st = st, .slice = slice, .slots = slots, .bucket_count = 1 };
    while (tc->bucket_count < slots)
        tc->bucket_count *= 2;
    tc->bucket = calloc(tc->bucket_count, sizeof *tc->bucket);
    if (!tc->bucket) {
        free(tc);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a table cache", st->name);
    }
    list_init(&tc->clean);
    list_init(&tc->dirty);
    *out = tc;
    return 0;
}

static void free_list(struct slice *head)
{
    while (head->newer != head) {
        struct slice *s = head->newer;

        list_remove(s);
        free(s);
    }
}

void pl_table_cache_free(struct pl_table_cache *tc)
{
    if (!tc)
        return;
    free_list(&tc->clean);
    free_list(&tc->dirty);
    while (tc->spare) {
        struct slice *s = tc->spare;

        tc->spare = s->next_in_bucket;
        free(s);
    }
    free(tc->bucket);
    free(tc);
}

/* The slice at `off` if it is here, as the newest; else an empty one that is not yet in the cache
 * (*fresh).  1: every slot is dirty. */
static int take_slice(struct pl_table_cache *tc, uint64_t off, struct slice **out, bool *fresh,
                      struct pl_err *e)
{
    struct slice *s = find(tc, off);

    *fresh = !s;
    if (s && !s->dirty) {
        list_remove(s);
        list_add_newest(&tc->clean, s);
    }
    if (!s)
        s = vacate(tc);
    *out = s;
    if (s)
        return 0;
    return tc->dirty_count ? 1 : pl_fail(e, PL_E_NOMEM, "%s: no memory for tables", tc->st->name);
}

int pl_table_cache_get(struct pl_table_cache *tc, uint64_t off, uint8_t **bytes, struct pl_err *e)
{
    const uint64_t at = pl_round_down(off, tc->slice);
    struct slice *s;
    bool fresh;
    const int result = take_slice(tc, at, &s, &fresh, e);

    if (result != 0)
        return result;
    if (fresh) {
        if (pl_storage_read_padded(tc->st, at, s->bytes, tc->slice, e) < 0) {
            s->next_in_bucket = tc->spare;
            tc->spare = s;
            return -1;
        }
        enter(tc, s, at);
    }
    *bytes = s->bytes;
    return 0;
}

int pl_table_cache_get_new(struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                           struct pl_err *e)
{
    const uint64_t at = pl_round_down(off, tc->slice);
    struct slice *s;
    bool fresh;
    const int result = take_slice(tc, at, &s, &fresh, e);

    if (result != 0)
        return result;
    if (fresh)
        enter(tc, s, at);
    memset(s->bytes, 0, tc->slice);
    mark_dirty(tc, s);
    *bytes = s->bytes;
    return 0;
}

uint8_t *pl_table_cache_peek(struct pl_table_cache *tc, uint64_t off)
{
    struct slice *s = find(tc, pl_round_down(off, tc->slice));

    if (s && !s->dirty) {
        list_remove(s);
        list_add_newest(&tc->clean, s);
    }
    return s ? s->bytes : NULL;
}

void pl_table_cache_insert(struct pl_table_cache *tc, uint64_t off, const uint8_t *bytes,
                           uint64_t epoch)
{
    const uint64_t at = pl_round_down(off, tc->slice);
    struct slice *s;

    if (epoch != tc->epoch || find(tc, at))
        return;
    s = vacate(tc);
    if (!s)
        return;
    memcpy(s->bytes, bytes, tc->slice);
    enter(tc, s, at);
}

uint64_t pl_table_cache_epoch(const struct pl_table_cache *tc)
{
    return tc->epoch;
}

void pl_table_cache_dirty(struct pl_table_cache *tc, uint64_t off)
{
    struct slice *s = find(tc, pl_round_down(off, tc->slice));

    assert(s);
    if (s)
        mark_dirty(tc, s);
}

/* Forgets the slices of one list inside a range: cheaper than asking for each of a large
 * table's. */
static void drop_from(struct pl_table_cache *tc, struct slice *head, uint64_t from, uint64_t to)
{
    for (struct slice *s = head->newer; s != head;) {
        struct slice *next = s->newer;

        if (s->off >= from && s->off < to)
            forget(tc, s);
        s = next;
    }
}

void pl_table_cache_drop(struct pl_table_cache *tc, uint64_t off, uint64_t len)
{
    const uint64_t from = pl_round_down(off, tc->slice);
    const uint64_t count = len ? pl_div_up(off - from + len, tc->slice) : 0;

    /* Also when nothing is here: somebody may be reading the old bytes for
     * pl_table_cache_insert. */
    tc->epoch++;
    if (count > tc->made) {
        drop_from(tc, &tc->clean, from, from + count * tc->slice);
        drop_from(tc, &tc->dirty, from, from + count * tc->slice);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct slice *s = find(tc, from + i * tc->slice);

        if (s)
            forget(tc, s);
    }
}

bool pl_table_cache_is_dirty(const struct pl_table_cache *tc)
{
    return tc->dirty_count > 0;
}

/* ---- writing back ---- */

static int by_offset(const void *a, const void *b)
{
    const struct slice *x = *(struct slice *const *)a, *y = *(struct slice *const *)b;

    return (x->off > y->off) - (x->off < y->off);
}

/* How many of `count` sorted slices follow each other in the file, as far as one write goes. */
static uint32_t run_length(const struct pl_table_cache *tc, struct slice *const *s, uint32_t count)
{
    const uint32_t most = PL_MIN(count, WRITE_PIECE / tc->slice);
    uint32_t n = 1;

    while (n < most && s[n]->off == s[0]->off + (uint64_t)n * tc->slice)
        n++;
    return n;
}

static int write_run(struct pl_table_cache *tc, struct slice *const *s, uint32_t n, uint8_t *buf,
                     struct pl_err *e)
{
    const uint8_t *bytes = s[0]->bytes;

    if (n > 1) {
        for (uint32_t i = 0; i < n; i++)
            memcpy(buf + (size_t)i * tc->slice, s[i]->bytes, tc->slice);
        bytes = buf;
    }
    if (pl_storage_write(tc->st, s[0]->off, bytes, (size_t)n * tc->slice, e) < 0)
        return -1;
    tc->epoch++;
    for (uint32_t i = 0; i < n; i++)
        mark_clean(tc, s[i]);
    return 0;
}

int pl_table_cache_write_back(struct pl_table_cache *tc, struct pl_err *e)
{
    const uint32_t count = tc->dirty_count;
    PL_FREE struct slice **sorted = NULL;
    PL_FREE uint8_t *buf = NULL;
    uint32_t filled = 0;

    if (count == 0)
        return 0;
    sorted = malloc(count * sizeof(struct slice *));
    buf = pl_buffer(PL_MIN((uint64_t)count * tc->slice, WRITE_PIECE));
    if (!sorted || !buf)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to write tables", tc->st->name);
    for (struct slice *s = tc->dirty.newer; s != &tc->dirty; s = s->newer)
        sorted[filled++] = s;
    qsort(sorted, count, sizeof(struct slice *), by_offset);
    for (uint32_t i = 0; i < count;) {
        const uint32_t n = run_length(tc, sorted + i, count - i);

        if (write_run(tc, sorted + i, n, buf, e) < 0)
            return -1;
        i += n;
    }
    return 0;
}
