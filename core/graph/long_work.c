#include "core/graph/long_work.h"

#include "core/base/checked.h"
#include "core/storage/change.h"

/* Room is made in steps of this size. */
#define STEP (32 * PL_MIB)

/* Whether all room of the format's is written once it is handed out: else what is made ahead would
 * fill the holes that it leaves. */
static bool fills_its_room(const struct pl_image *img)
{
    return img->layer.granule >= img->layer.cluster_size && !pl_is_fixed(img->file);
}

void pl_long_work_begin(struct pl_image *img)
{
    img->settles = true;
    atomic_store(&img->room_end, 0);
}

void pl_make_room_ahead(struct pl_image *img, const struct pl_place *place)
{
    uint64_t known = atomic_load(&img->room_end), from;

    if (!img->settles || place->st != img->file || place->off + place->len <= known ||
        !fills_its_room(img) || place->off < pl_storage_size(img->file))
        return;
    from = PL_MAX(known, place->off);
    /* the thread that comes first makes it for those behind */
    if (atomic_compare_exchange_strong(&img->room_end, &known, from + STEP))
        pl_storage_reserve_ahead(img->file, from, STEP);
}

void pl_long_work_end(struct pl_image *img)
{
    img->settles = false;
    if (fills_its_room(img) &&
        pl_storage_resize(img->file, pl_storage_size(img->file), NULL) < 0)
        return; /* the next change of the size does it */
}
