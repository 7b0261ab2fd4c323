/* flaky.c - see flaky.h.  Running out of memory ends the test. */
#include "tests/support/flaky.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/lock.h"

#define SECTOR 512
#define GARBAGE 0xd5

enum kind { WRITE, ZERO, DISCARD, RESIZE, FLUSH, REPLACE, FAILED };

struct operation {
    enum kind kind;
    uint64_t off, len; /* RESIZE: the size is len */
    uint8_t *data;     /* WRITE, REPLACE */
};

/* A file's content. */
struct content {
    uint8_t *bytes;
    size_t size, room; /* zeros between size and room */
};

struct failure {
    uint64_t at;
    int error;
    bool for_ever;
};

struct flaky {
    struct pl_storage base;
    size_t limit;
    struct pl_lock lock; /* guards the rest */
    struct content now;
    struct content stable; /* as it was before operation `first` */
    uint64_t first;        /* operations before this one are stable and their data forgotten */
    struct operation *log;
    uint64_t count, room;
    uint64_t reads;
    struct failure change_failure, read_failure;
    struct flaky *partner; /* constant once operations begin; null: none */
};

static struct flaky *flaky_of(struct pl_storage *st)
{
    return (struct flaky *)st;
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* ---- contents ---- */

static void content_grow(struct content *c, uint64_t size)
{
    if (size > c->room) {
        const size_t room = PL_MAX((size_t)size, c->room * 2);

        c->bytes = must(realloc(c->bytes, room));
        memset(c->bytes + c->room, 0, room - c->room);
        c->room = room;
    }
    c->size = PL_MAX(c->size, (size_t)size);
}

static struct content content_copy(const struct content *from)
{
    struct content c = { 0 };

    content_grow(&c, from->size);
    if (from->size > 0)
        memcpy(c.bytes, from->bytes, from->size);
    return c;
}

static void content_resize(struct content *c, uint64_t size)
{
    if (size < c->size) {
        memset(c->bytes + size, 0, c->size - (size_t)size);
        c->size = (size_t)size;
    }
    content_grow(c, size);
}

/* The part of a write or a zero that lies in [from, to), relative to its start. */
static void apply_part(struct content *c, const struct operation *op, uint64_t from, uint64_t to)
{
    if (from >= to)
        return;
    content_grow(c, op->off + to);
    if (op->kind == WRITE)
        memcpy(c->bytes + op->off + from, op->data + from, (size_t)(to - from));
    else
        memset(c->bytes + op->off + from, 0, (size_t)(to - from));
}

static void apply(struct content *c, const struct operation *op)
{
    switch (op->kind) {
    case WRITE:
    case ZERO:
        apply_part(c, op, 0, op->len);
        break;
    case DISCARD:
        if (op->off < c->size)
            memset(c->bytes + op->off, GARBAGE, (size_t)PL_MIN(op->len, c->size - op->off));
        break;
    case RESIZE:
        content_resize(c, op->len);
        break;
    case REPLACE:
        content_resize(c, 0);
        content_grow(c, op->len);
        memcpy(c->bytes, op->data, (size_t)op->len);
        break;
    default:
        break;
    }
}

/* ---- crashes ---- */

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Each sector of the operation's range with a chance of one half. */
static void apply_torn(struct content *c, const struct operation *op, uint64_t *random)
{
    const uint64_t end = op->off + op->len;

    for (uint64_t at = op->off; at < end;) {
        const uint64_t next = PL_MIN(pl_round_down(at, SECTOR) + SECTOR, end);

        if (random_next(random) & 1)
            apply_part(c, op, at - op->off, next - op->off);
        at = next;
    }
}

static void apply_perhaps(struct content *c, const struct operation *op, uint64_t *random)
{
    switch (random_next(random) % 3) {
    case 0:
        break;
    case 1:
        apply(c, op);
        break;
    default:
        if (op->kind == WRITE || op->kind == ZERO)
            apply_torn(c, op, random);
    }
}

/* Applies operations [from, to) as the seed says. */
static void apply_unstable(struct content *c, const struct operation *log, uint64_t from,
                           uint64_t to, uint64_t seed)
{
    const uint64_t count = to - from;
    uint64_t random = seed;
    uint64_t *order;

    if (count == 0)
        return;
    order = must(malloc(count * sizeof *order));
    for (uint64_t i = 0; i < count; i++)
        order[i] = from + i;
    for (uint64_t i = count - 1; seed % 4 == 3 && i > 0; i--) {
        const uint64_t other = random_next(&random) % (i + 1);
        const uint64_t kept = order[i];

        order[i] = order[other];
        order[other] = kept;
    }
    for (uint64_t i = 0; i < count; i++)
        apply_perhaps(c, &log[order[i]], &random);
    free(order);
}

/* Whether all until now is on stable storage. */
static bool is_sync(const struct operation *op)
{
    return op->kind == FLUSH || op->kind == REPLACE;
}

static struct content cut(struct flaky *f, uint64_t n, uint64_t seed) PL_NEEDS(&f->lock);
static struct content cut(struct flaky *f, uint64_t n, uint64_t seed)
{
    struct content c = content_copy(&f->stable);
    uint64_t stable;

    n = PL_MIN(n, f->count);
    stable = n;
    while (seed != 0 && stable > f->first && !is_sync(&f->log[stable - 1]))
        stable--;
    for (uint64_t i = f->first; i < stable; i++)
        apply(&c, &f->log[i]);
    if (seed > 1 && stable < n)
        apply_unstable(&c, f->log, stable, n, seed);
    return c;
}

void pl_flaky_cut(struct pl_storage *st, uint64_t n, uint64_t seed, uint8_t **bytes, size_t *len)
{
    struct flaky *f = flaky_of(st);
    struct content c;

    PL_LOCKED(&f->lock);
    c = cut(f, n, seed);
    *bytes = c.bytes ? c.bytes : must(malloc(1));
    *len = c.size;
}

static void log_forget(struct flaky *f) PL_NEEDS(&f->lock);
static void log_forget(struct flaky *f)
{
    for (uint64_t i = f->first; i < f->count; i++) {
        free(f->log[i].data);
        f->log[i].data = NULL;
    }
    f->first = f->count;
}

void pl_flaky_lose_power(struct pl_storage *st, uint64_t seed)
{
    struct flaky *f = flaky_of(st);
    struct content left;

    PL_LOCKED(&f->lock);
    left = cut(f, f->count, seed);
    free(f->now.bytes);
    free(f->stable.bytes);
    f->now = left;
    f->stable = content_copy(&left);
    log_forget(f);
}

/* ---- counting and failing ---- */

static bool hits(const struct failure *failure, uint64_t n)
{
    return failure->error && (failure->for_ever ? n >= failure->at : n == failure->at);
}

void pl_flaky_fail_at(struct pl_storage *st, uint64_t n, int error, bool for_ever)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    f->change_failure = (struct failure){ n, error, for_ever };
}

void pl_flaky_fail_read_at(struct pl_storage *st, uint64_t n, int error, bool for_ever)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    f->read_failure = (struct failure){ n, error, for_ever };
}

uint64_t pl_flaky_operation_count(struct pl_storage *st)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    return f->count;
}

uint64_t pl_flaky_read_count(struct pl_storage *st)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    return f->reads;
}

bool pl_flaky_is_flush(struct pl_storage *st, uint64_t n)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    return n < f->count && f->log[n].kind == FLUSH;
}

static void append(struct flaky *f, struct operation op) PL_NEEDS(&f->lock);
static void append(struct flaky *f, struct operation op)
{
    if (f->count == f->room) {
        f->room = f->room ? f->room * 2 : 64;
        f->log = must(realloc(f->log, f->room * sizeof *f->log));
    }
    f->log[f->count++] = op;
}

void pl_flaky_pair(struct pl_storage *a, struct pl_storage *b)
{
    flaky_of(a)->partner = flaky_of(b);
    flaky_of(b)->partner = flaky_of(a);
}

/* The partner does something: nothing happens here under that number. */
static void skip_number(struct flaky *f)
{
    PL_LOCKED(&f->lock);
    append(f, (struct operation){ .kind = FAILED });
}

/* Logs an operation and carries it out, or as much of it as the failure lets through. */
static int perform_here(struct flaky *f, struct operation op, const void *data, struct pl_err *e)
{
    static const char *const verb[] = { "writing",  "zeroing", "discarding",
                                        "resizing", "syncing", "replacing" };
    const enum kind kind = op.kind;

    PL_LOCKED(&f->lock);
    const bool fails = hits(&f->change_failure, f->count);

    if (fails && kind == WRITE)
        op.len = pl_round_down(op.len / 2, SECTOR);
    else if (fails)
        op.kind = FAILED;
    if (kind == WRITE || op.kind == REPLACE) {
        op.data = must(malloc(op.len ? op.len : 1));
        memcpy(op.data, data, op.len);
    }
    apply(&f->now, &op);
    append(f, op);
    if (!fails)
        return 0;
    return pl_fail_sys(e, f->change_failure.error, "%s: %s at 0x%" PRIx64, f->base.name, verb[kind],
                       op.off);
}

static int perform(struct flaky *f, struct operation op, const void *data, struct pl_err *e)
{
    if (f->partner)
        skip_number(f->partner);
    return perform_here(f, op, data, e);
}

/* ---- the storage ---- */

static int flaky_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    if (hits(&f->read_failure, f->reads++))
        return pl_fail_sys(e, f->read_failure.error, "%s: reading at 0x%" PRIx64, st->name, off);
    if (!pl_inside(off, len, f->now.size))
        return pl_fail(e, PL_E_CORRUPT,
                       "%s: [0x%" PRIx64 ", +0x%zx) is past the end of the file (0x%zx)", st->name,
                       off, len, f->now.size);
    memcpy(buf, f->now.bytes + off, len);
    return 0;
}

static int check_limit(struct flaky *f, uint64_t end, struct pl_err *e)
{
    if (end <= f->limit)
        return 0;
    return pl_fail(e, PL_E_NO_SPACE, "%s: 0x%" PRIx64 " bytes exceed its limit of 0x%zx",
                   f->base.name, end, f->limit);
}

static int flaky_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                       struct pl_err *e)
{
    if (check_limit(flaky_of(st), off + len, e) < 0)
        return -1;
    return perform(flaky_of(st), (struct operation){ WRITE, off, len, NULL }, buf, e);
}

static int flaky_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    if (check_limit(flaky_of(st), off + len, e) < 0)
        return -1;
    return perform(flaky_of(st), (struct operation){ ZERO, off, len, NULL }, NULL, e);
}

static int flaky_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    return perform(flaky_of(st), (struct operation){ DISCARD, off, len, NULL }, NULL, e);
}

static int flaky_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    if (check_limit(flaky_of(st), size, e) < 0)
        return -1;
    return perform(flaky_of(st), (struct operation){ RESIZE, 0, size, NULL }, NULL, e);
}

static int flaky_flush(struct pl_storage *st, struct pl_err *e)
{
    return perform(flaky_of(st), (struct operation){ FLUSH, 0, 0, NULL }, NULL, e);
}

static int flaky_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                         struct pl_err *e)
{
    if (check_limit(flaky_of(st), len, e) < 0)
        return -1;
    *done = perform(flaky_of(st), (struct operation){ REPLACE, 0, len, NULL }, bytes, e) == 0;
    return *done ? 0 : -1;
}

static uint64_t flaky_size(struct pl_storage *st)
{
    struct flaky *f = flaky_of(st);

    PL_LOCKED(&f->lock);
    return f->now.size;
}

static void free_contents(struct flaky *f)
{
    PL_LOCKED(&f->lock);
    log_forget(f);
    free(f->log);
    free(f->now.bytes);
    free(f->stable.bytes);
}

static int flaky_close(struct pl_storage *st, struct pl_err *e)
{
    struct flaky *f = flaky_of(st);

    (void)e;
    free_contents(f);
    pl_lock_destroy(&f->lock);
    free(st->name);
    free(f);
    return 0;
}

static const struct pl_storage_ops flaky_ops = {
    .kind = "flaky",
    .read = flaky_read,
    .write = flaky_write,
    .zero = flaky_zero,
    .discard = flaky_discard,
    .resize = flaky_resize,
    .flush = flaky_flush,
    .replace = flaky_replace,
    .size = flaky_size,
    .close = flaky_close,
};

int pl_flaky_storage(const void *bytes, size_t len, size_t limit, struct pl_storage **out,
                     struct pl_err *e)
{
    struct flaky *f;

    if (len > limit)
        return pl_fail(e, PL_E_NO_SPACE, "flaky: 0x%zx bytes exceed its limit of 0x%zx", len,
                       limit);
    f = must(calloc(1, sizeof *f));
    f->base = (struct pl_storage){
        .ops = &flaky_ops, .name = must(strdup("flaky")), .block = SECTOR, .writable = true
    };
    f->limit = limit;
    pl_lock_init(&f->lock);
    content_grow(&f->now, len);
    if (bytes && len > 0)
        memcpy(f->now.bytes, bytes, len);
    f->stable = content_copy(&f->now);
    *out = &f->base;
    return 0;
}
