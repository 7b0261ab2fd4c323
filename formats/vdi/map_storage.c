/* map_storage.c - the block map as a storage of its own: see vdi_map_storage. */
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

struct map_storage {
    struct pl_storage base;
    struct pl_storage *file;
    uint64_t off, len; /* the entries; off + len does not wrap */
};

static struct map_storage *map_of(struct pl_storage *st)
{
    return (struct map_storage *)st;
}

/* How many of the bytes belong to entries. */
static size_t real_part(const struct map_storage *m, uint64_t off, size_t len)
{
    return off < m->len ? (size_t)PL_MIN(len, m->len - off) : 0;
}

static int map_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    const struct map_storage *m = map_of(st);
    const size_t real = real_part(m, off, len);

    memset((uint8_t *)buf + real, 0, len - real);
    return pl_storage_read(m->file, m->off + off, buf, real, e) < 0 ? pl_within(e, "block map") : 0;
}

static int map_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                     struct pl_err *e)
{
    const struct map_storage *m = map_of(st);

    return pl_storage_write(m->file, m->off + off, buf, real_part(m, off, len), e) < 0
               ? pl_within(e, "block map")
               : 0;
}

static uint64_t map_size(struct pl_storage *st)
{
    return pl_round_up(map_of(st)->len, VDI_SLICE_MAX);
}

static int map_close(struct pl_storage *st, struct pl_err *e)
{
    (void)e;
    free(st->name);
    free(st);
    return 0;
}

static const struct pl_storage_ops map_ops = {
    .kind = "block map",
    .read = map_read,
    .write = map_write,
    .size = map_size,
    .close = map_close,
};

int vdi_map_storage(struct pl_storage *file, uint64_t off, uint64_t count, struct pl_storage **out,
                    struct pl_err *e)
{
    struct map_storage *m = calloc(1, sizeof *m);
    char *name = strdup(file->name);

    if (!m || !name) {
        free(m);
        free(name);
        return pl_fail(e, PL_E_NOMEM, "no memory for the block map");
    }
    *m = (struct map_storage){
        .base = { .ops = &map_ops, .name = name, .block = 512, .writable = file->writable },
        .file = file,
        .off = off,
        .len = 4 * count,
    };
    *out = &m->base;
    return 0;
}
