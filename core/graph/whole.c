/* whole.c - questions and changes that concern a whole image: size, check, bitmaps, facts. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/graph/node.h"

uint64_t pl_size(const struct pl_image *img)
{
    return img->layer.size;
}

const char *pl_format(const struct pl_image *img)
{
    return img->driver->name;
}

bool pl_format_guessed(const struct pl_image *img)
{
    return img->guessed;
}

const char *pl_format_perhaps(const struct pl_image *img)
{
    return img->perhaps ? img->perhaps->name : NULL;
}

const char *pl_path(const struct pl_image *img)
{
    return img->path;
}

struct pl_image *pl_parent(const struct pl_image *img)
{
    return img->parent;
}

const char *pl_parent_name(const struct pl_image *img)
{
    return img->layer.parent_name;
}

const char *pl_parent_format(const struct pl_image *img)
{
    return img->layer.parent_format;
}

uint32_t pl_cluster_size(const struct pl_image *img)
{
    return img->layer.cluster_size;
}

uint64_t pl_disk_usage(const struct pl_image *img)
{
    return img->driver->disk_usage ? img->driver->disk_usage(img->layer.state)
                                   : pl_storage_disk_usage(img->file);
}

uint64_t pl_file_size(const struct pl_image *img)
{
    return pl_storage_size(img->file);
}

struct pl_image_flags pl_flags(const struct pl_image *img)
{
    struct pl_image_flags flags = { 0 };

    if (img->driver->flags)
        img->driver->flags(img->layer.state, &flags);
    return flags;
}

int pl_format_facts(struct pl_image *img, struct pl_fact **facts, struct pl_err *e)
{
    struct pl_fact *root = pl_facts_new();

    if (!root)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for what is known of it", img->path);
    if (img->driver->info && img->driver->info(img->layer.state, root, e) < 0) {
        pl_facts_free(root);
        return pl_within(e, "%s", img->path);
    }
    *facts = root;
    return 0;
}

/* The guest is about to see what the file had in the rest of the last cluster, and what a longer
 * parent has behind the old end. */
static int clear_new_space(struct pl_image *img, uint64_t old_size, struct pl_err *e)
{
    const uint64_t unit = PL_MAX(img->layer.cluster_size, img->layer.granule);
    const uint64_t parent_size = img->parent ? img->parent->layer.size : 0;
    const uint64_t shown = PL_MAX(pl_round_up(old_size, unit), parent_size);
    const uint64_t end = PL_MIN(shown, img->layer.size);

    return end > old_size ? pl_zero(img, old_size, end - old_size, false, e) : 0;
}

int pl_resize(struct pl_image *img, uint64_t size, bool shrink, unsigned prealloc, struct pl_err *e)
{
    const uint64_t old_size = img->layer.size;

    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    if (!img->driver->resize)
        return pl_no_slot(img, "resizing", e);
    if (size < old_size && !shrink) {
        pl_fail(e, PL_E_INVALID, "%s: %" PRIu64 " bytes are less than the %" PRIu64 " it has",
                img->path, size, old_size);
        return pl_hint(e, "--shrink permits it; what lies beyond the new end is lost");
    }
    if (img->driver->resize(img->layer.state, size, shrink, (enum pl_prealloc)prealloc, e) < 0)
        return pl_within(e, "%s: resizing", img->path);
    img->layer.size = size;
    if (size <= old_size || clear_new_space(img, old_size, e) == 0)
        return 0;
    img->broken = true; /* no flush may show the new size over what the parent has there */
    return -1;
}

int pl_check(struct pl_image *img, enum pl_repair repair, const struct pl_report *report,
             struct pl_check_result *result, struct pl_err *e)
{
    *result = (struct pl_check_result){ 0 };
    if (!img->driver->check)
        return pl_no_slot(img, "checking", e);
    if (repair != PL_REPAIR_NONE && !img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    return img->driver->check(img->layer.state, repair, report, result, e) < 0
               ? pl_within(e, "%s", img->path)
               : 0;
}

int pl_bitmaps(struct pl_image *img, struct pl_bitmap **list, size_t *count, struct pl_err *e)
{
    *list = NULL;
    *count = 0;
    if (!img->driver->bitmaps)
        return 0;
    return img->driver->bitmaps(img->layer.state, list, count, e) < 0
               ? pl_within(e, "%s", img->path)
               : 0;
}
