#include "core/storage/joined.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/storage/change.h"

/* Constant after it was made. */
struct joined {
    struct pl_storage base;
    struct pl_storage **parts;
    uint64_t *starts; /* of each part; starts[count] is the size */
    size_t count;
};

static struct joined *joined_of(struct pl_storage *st)
{
    return (struct joined *)st;
}

/* The part that holds the byte at off, which is below the size. */
static size_t part_at(const struct joined *j, uint64_t off)
{
    size_t low = 0, high = j->count;

    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;

        if (j->starts[middle] <= off)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int joined_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    const struct joined *j = joined_of(st);
    uint8_t *to = buf;

    if (!pl_inside(off, len, j->starts[j->count]))
        return pl_past_end(st, off, len, j->starts[j->count], e);
    while (len > 0) {
        const size_t i = part_at(j, off);
        const size_t piece = (size_t)PL_MIN(len, j->starts[i + 1] - off);

        if (pl_storage_read(j->parts[i], off - j->starts[i], to, piece, e) < 0)
            return -1;
        to += piece;
        off += piece;
        len -= piece;
    }
    return 0;
}

static int joined_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                      struct pl_err *e)
{
    const struct joined *j = joined_of(st);
    const size_t i = part_at(j, off);

    *len = PL_MIN(*len, j->starts[i + 1] - off);
    return pl_storage_map(j->parts[i], off - j->starts[i], len, hole, e);
}

static uint64_t joined_size(struct pl_storage *st)
{
    return joined_of(st)->starts[joined_of(st)->count];
}

static uint64_t joined_disk_usage(struct pl_storage *st)
{
    const struct joined *j = joined_of(st);
    uint64_t sum = 0;

    for (size_t i = 0; i < j->count; i++)
        sum += pl_storage_disk_usage(j->parts[i]);
    return sum;
}

static int joined_close(struct pl_storage *st, struct pl_err *e)
{
    struct joined *j = joined_of(st);
    int result = 0;

    for (size_t i = 0; i < j->count; i++)
        if (pl_storage_close(j->parts[i], e) < 0)
            result = -1;
    free(j->parts);
    free(j->starts);
    free(st->name);
    free(st);
    return result;
}

static const struct pl_storage_ops joined_ops = {
    .kind = "file in chunks",
    .read = joined_read,
    .map = joined_map,
    .size = joined_size,
    .disk_usage = joined_disk_usage,
    .close = joined_close,
};

static int find_starts(struct joined *j, struct pl_err *e)
{
    for (size_t i = 0; i < j->count; i++)
        if (!pl_add(j->starts[i], pl_storage_size(j->parts[i]), &j->starts[i + 1]) ||
            j->starts[i + 1] > PL_OFFSET_MAX)
            return pl_fail(e, PL_E_LIMIT, "%s: its %zu parts are too long together", j->base.name,
                           j->count);
    return 0;
}

int pl_joined_storage(struct pl_storage *const *parts, size_t count, const char *name,
                      struct pl_storage **out, struct pl_err *e)
{
    struct joined *j = calloc(1, sizeof *j);

    if (j) {
        j->base = (struct pl_storage){ .ops = &joined_ops, .name = strdup(name), .block = 512 };
        j->parts = calloc(count, sizeof(struct pl_storage *));
        j->starts = calloc(count + 1, sizeof *j->starts);
    }
    if (!j || !j->base.name || !j->parts || !j->starts) {
        for (size_t i = 0; i < count; i++)
            pl_storage_close(parts[i], NULL);
        if (j)
            joined_close(&j->base, NULL);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to join its %zu parts", name, count);
    }
    memcpy(j->parts, parts, count * sizeof(struct pl_storage *));
    j->count = count;
    if (find_starts(j, e) < 0) {
        joined_close(&j->base, NULL);
        return -1;
    }
    *out = &j->base;
    return 0;
}
