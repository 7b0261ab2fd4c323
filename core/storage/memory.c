#include "core/storage/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/lock.h"
#include "core/storage/change.h"

struct memory {
    struct pl_storage base;
    struct pl_lock lock; /* guards the rest: growing moves the bytes */
    uint8_t *bytes;
    size_t size, room, limit; /* room: allocated, all zeros past size */
};

static struct memory *memory_of(struct pl_storage *st)
{
    return (struct memory *)st;
}

/* Makes room for `size` bytes and zeros the new ones. */
static int grow(struct memory *m, uint64_t size, struct pl_err *e) PL_NEEDS(&m->lock);
static int grow(struct memory *m, uint64_t size, struct pl_err *e)
{
    if (size <= m->size)
        return 0;
    if (size > m->limit)
        return pl_fail(e, PL_E_NO_SPACE, "%s: 0x%" PRIx64 " bytes exceed its limit of 0x%zx",
                       m->base.name, size, m->limit);
    if (size > m->room) {
        const size_t room = PL_MIN(PL_MAX((size_t)size, m->room * 2), m->limit);
        uint8_t *bytes = realloc(m->bytes, room);

        if (!bytes)
            return pl_fail(e, PL_E_NOMEM, "%s: no memory for 0x%zx bytes", m->base.name, room);
        memset(bytes + m->room, 0, room - m->room);
        m->bytes = bytes;
        m->room = room;
    }
    m->size = (size_t)size;
    return 0;
}

static int memory_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    struct memory *m = memory_of(st);

    PL_LOCKED(&m->lock);
    if (!pl_inside(off, len, m->size))
        return pl_past_end(st, off, len, m->size, e);
    memcpy(buf, m->bytes + off, len);
    return 0;
}

static int memory_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                        struct pl_err *e)
{
    struct memory *m = memory_of(st);

    PL_LOCKED(&m->lock);
    if (grow(m, off + len, e) < 0)
        return -1;
    memcpy(m->bytes + off, buf, len);
    return 0;
}

static int memory_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct memory *m = memory_of(st);

    PL_LOCKED(&m->lock);
    if (grow(m, off + len, e) < 0)
        return -1;
    memset(m->bytes + off, 0, (size_t)len);
    return 0;
}

static int memory_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    struct memory *m = memory_of(st);

    PL_LOCKED(&m->lock);
    if (size < m->size) {
        memset(m->bytes + size, 0, m->size - (size_t)size);
        m->size = (size_t)size;
    }
    return grow(m, size, e);
}

static int memory_reserve(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct memory *m = memory_of(st);

    PL_LOCKED(&m->lock);
    return grow(m, off + len, e);
}

static uint64_t memory_size(struct pl_storage *st)
{
    struct memory *m = memory_of(st);

    PL_LOCKED(&m->lock);
    return m->size;
}

static int memory_close(struct pl_storage *st, struct pl_err *e)
{
    struct memory *m = memory_of(st);

    (void)e;
    pl_lock_destroy(&m->lock);
    free(m->bytes);
    free(st->name);
    free(m);
    return 0;
}

static int memory_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                          struct pl_err *e)
{
    *done = memory_write(st, 0, bytes, len, e) == 0 && memory_resize(st, len, e) == 0;
    return *done ? 0 : -1;
}

static const struct pl_storage_ops memory_ops = {
    .kind = "memory",
    .read = memory_read,
    .write = memory_write,
    .zero = memory_zero,
    .resize = memory_resize,
    .reserve = memory_reserve,
    .replace = memory_replace,
    .size = memory_size,
    .close = memory_close,
};

static int fill(struct memory *m, const void *bytes, size_t len, struct pl_err *e)
{
    PL_LOCKED(&m->lock);
    if (grow(m, len, e) < 0)
        return -1;
    if (bytes && len > 0)
        memcpy(m->bytes, bytes, len);
    return 0;
}

int pl_memory_storage(const void *bytes, size_t len, size_t limit, struct pl_storage **out,
                      struct pl_err *e)
{
    struct memory *m = calloc(1, sizeof *m);
    char *name = strdup("memory");

    if (!m || !name) {
        free(m);
        free(name);
        return pl_fail(e, PL_E_NOMEM, "no memory for a storage in memory");
    }
    m->base =
        (struct pl_storage){ .ops = &memory_ops, .name = name, .block = 512, .writable = true };
    m->limit = limit;
    pl_lock_init(&m->lock);
    if (fill(m, bytes, len, e) < 0) {
        memory_close(&m->base, NULL);
        return -1;
    }
    *out = &m->base;
    return 0;
}
