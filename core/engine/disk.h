/* disk.h - one or more images, one behind the other, as one run of guest addresses: what the
 * engines read. */
#ifndef PL_CORE_ENGINE_DISK_H
#define PL_CORE_ENGINE_DISK_H

#include "core/graph/node.h"

struct pl_disk {
    struct pl_image *const *images;
    size_t count;
    uint64_t *start; /* guest address of each image; owned */
    uint64_t size;   /* of all together, or of the part that is looked at ... */
    uint64_t skip;   /* ... which begins at this address of all together ... */
    bool cut;        /* ... and ends before they do */
    bool has_holes;  /* a file is sparse inside: its clusters may be holes of the host */
};

/* Puts images together; they and the array stay the caller's.  PL_E_LIMIT when the sum is too big.
 */
int pl_disk_init(struct pl_disk *disk, struct pl_image *const *images, size_t count,
                 struct pl_err *e) PL_CHECK;

/* From now on only [skip, skip + limit) of it is there, as far as it goes. */
void pl_disk_cut(struct pl_disk *disk, uint64_t skip, uint64_t limit);

/* Frees what pl_disk_init made. */
void pl_disk_free(struct pl_disk *disk);

/* The first run at `at`: like pl_locate, but clusters that the host keeps as holes count as zeros.
 * *inside is the same address within the disk of the image that holds it. */
int pl_disk_locate(const struct pl_disk *disk, uint64_t at, uint64_t len,
                   struct pl_located *located, uint64_t *inside, struct pl_err *e) PL_CHECK;

/* Reads across images. */
int pl_disk_read(const struct pl_disk *disk, uint64_t at, void *buf, size_t len, struct pl_err *e)
    PL_CHECK;

/* The length of the run at `at` that reads as zeros without looking at data, 0 when none starts
 * there. Neighbours are merged, up to len. */
int pl_disk_zero_run(const struct pl_disk *disk, uint64_t at, uint64_t len, uint64_t *run,
                     struct pl_err *e) PL_CHECK;

#endif
