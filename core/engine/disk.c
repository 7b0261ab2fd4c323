#include "core/engine/disk.h"

#include <stdlib.h>

#include "core/base/checked.h"

/* A look for zeros asks for so many bytes first: finding out how far data goes costs time. */
#define FIRST_LOOK PL_MIB

int pl_disk_init(struct pl_disk *disk, struct pl_image *const *images, size_t count,
                 struct pl_err *e)
{
    *disk = (struct pl_disk){ .images = images, .count = count };
    disk->start = calloc(count ? count : 1, sizeof *disk->start);
    if (!disk->start)
        return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu images", count);
    for (size_t i = 0; i < count; i++) {
        disk->start[i] = disk->size;
        if (!pl_add(disk->size, pl_size(images[i]), &disk->size) || disk->size > PL_OFFSET_MAX) {
            pl_disk_free(disk);
            return pl_fail(e, PL_E_LIMIT, "%s: the disks together are too big", pl_path(images[i]));
        }
    }
    return 0;
}

void pl_disk_free(struct pl_disk *disk)
{
    free(disk->start);
    disk->start = NULL;
}

/* The image that holds `at`, which is inside the disk; images without a byte are passed over. */
static size_t image_index(const struct pl_disk *disk, uint64_t at)
{
    size_t i = disk->count - 1;

    while (i > 0 && disk->start[i] > at)
        i--;
    return i;
}

int pl_disk_locate(const struct pl_disk *disk, uint64_t at, uint64_t len,
                   struct pl_located *located, uint64_t *image_at, struct pl_err *e)
{
    const size_t i = image_index(disk, at);
    struct pl_image *img = disk->images[i];

    *image_at = at - disk->start[i];
    return pl_locate(img, *image_at, PL_MIN(len, pl_size(img) - *image_at), located, e);
}

int pl_disk_read(const struct pl_disk *disk, uint64_t at, void *buf, size_t len, struct pl_err *e)
{
    uint8_t *to = buf;

    while (len > 0) {
        const size_t i = image_index(disk, at);
        const uint64_t image_at = at - disk->start[i];
        const size_t piece = PL_MIN(len, pl_size(disk->images[i]) - image_at);

        if (pl_read(disk->images[i], image_at, to, piece, e) < 0)
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
    uint64_t image_at, ask = PL_MIN(len, FIRST_LOOK);

    for (*run = 0; *run < len; *run += located.extent.len, ask = len - *run) {
        if (pl_disk_locate(disk, at + *run, ask, &located, &image_at, e) < 0)
            return -1;
        if (located.extent.state != PL_ZERO)
            break;
    }
    return 0;
}
