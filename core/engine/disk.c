#include "core/engine/disk.h"

#include <stdlib.h>

#include "core/base/checked.h"

/* A look for zeros asks for so many bytes first: finding out how far data goes costs time. */
#define FIRST_LOOK PL_MIB

/* Whether the host keeps clearly less than the file's length, as it does for images whose tables
 * were made ahead of their data. */
static bool is_sparse_inside(struct pl_image *img)
{
    for (; img; img = img->parent)
        if (img->layer.granule > 1 && pl_disk_usage(img) < pl_file_size(img) / 10 * 9)
            return true;
    return false;
}

int pl_disk_init(struct pl_disk *disk, struct pl_image *const *images, size_t count,
                 struct pl_err *e)
{
    *disk = (struct pl_disk){ .images = images, .count = count };
    disk->start = calloc(count ? count : 1, sizeof *disk->start);
    if (!disk->start)
        return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu images", count);
    for (size_t i = 0; i < count; i++) {
        disk->start[i] = disk->size;
        disk->has_holes = disk->has_holes || is_sparse_inside(images[i]);
        if (!pl_add(disk->size, pl_size(images[i]), &disk->size) || disk->size > PL_OFFSET_MAX) {
            pl_disk_free(disk);
            return pl_fail(e, PL_E_LIMIT, "%s: the disks together are too big", pl_path(images[i]));
        }
    }
    return 0;
}

void pl_disk_cut(struct pl_disk *disk, uint64_t skip, uint64_t limit)
{
    disk->skip = PL_MIN(skip, disk->size);
    disk->size -= disk->skip;
    disk->cut = limit < disk->size;
    disk->size = PL_MIN(limit, disk->size);
}

void pl_disk_free(struct pl_disk *disk)
{
    free(disk->start);
    disk->start = NULL;
}

/* The image that holds `at`, which is inside the disk, and the address in it; images without a byte
 * are passed over. */
static struct pl_image *image_at(const struct pl_disk *disk, uint64_t at, uint64_t *inside)
{
    size_t i = disk->count - 1;

    at += disk->skip;
    while (i > 0 && disk->start[i] > at)
        i--;
    *inside = at - disk->start[i];
    return disk->images[i];
}

/* Cuts data at the first border between a hole of its file and bytes; a hole reads as zeros. */
static int look_through(struct pl_extent *x, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(x->st);
    uint64_t len = x->len;
    bool hole = true;

    if (x->off < size) {
        len = PL_MIN(len, size - x->off);
        if (pl_storage_map(x->st, x->off, &len, &hole, e) < 0)
            return -1;
    }
    x->len = len;
    if (hole)
        x->state = PL_ZERO;
    return 0;
}

int pl_disk_locate(const struct pl_disk *disk, uint64_t at, uint64_t len,
                   struct pl_located *located, uint64_t *inside, struct pl_err *e)
{
    struct pl_image *img = image_at(disk, at, inside);

    if (pl_locate(img, *inside, PL_MIN(len, pl_size(img) - *inside), located, e) < 0)
        return -1;
    return disk->has_holes && located->extent.state == PL_DATA ? look_through(&located->extent, e)
                                                               : 0;
}

int pl_disk_read(const struct pl_disk *disk, uint64_t at, void *buf, size_t len, struct pl_err *e)
{
    uint8_t *to = buf;

    while (len > 0) {
        uint64_t inside;
        struct pl_image *img = image_at(disk, at, &inside);
        const size_t piece = PL_MIN(len, pl_size(img) - inside);

        if (pl_read(img, inside, to, piece, e) < 0)
            return -1;
        at += piece;
        to += piece;
        len -= piece;
    }
    return 0;
}

int pl_disk_zero_run(const struct pl_disk *disk, uint64_t at, uint64_t len, uint64_t *run,
                     struct pl_err *e)
{
    struct pl_located located;
    uint64_t inside, ask = PL_MIN(len, FIRST_LOOK);

    for (*run = 0; *run < len; *run += located.extent.len, ask = len - *run) {
        if (pl_disk_locate(disk, at + *run, ask, &located, &inside, e) < 0)
            return -1;
        if (located.extent.state != PL_ZERO)
            break;
    }
    return 0;
}
