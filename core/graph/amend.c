/* amend.c - options of the format that change while the image exists. */
#include <string.h>

#include "core/graph/node.h"

/* The option is one of them, or of none at all. */
static const struct pl_option_help *find_row(const struct pl_option_help *row, const char *name)
{
    while (row && row->name && strcmp(row->name, name) != 0)
        row++;
    return row && row->name ? row : NULL;
}

static void mark_known(const struct pl_options *options, const struct pl_option_help *row)
{
    for (; row && row->name; row++)
        (void)pl_options_text(options, row->name);
}

/* PL_E_INVALID for what the format does not amend. */
static int check_keys(const struct pl_image *img, const struct pl_options *options,
                      struct pl_err *e)
{
    const struct pl_option_help *amends = img->driver->amend_options;

    mark_known(options, amends);
    for (const struct pl_option_help *row = img->driver->create_options; row && row->name; row++)
        if (!find_row(amends, row->name) && pl_options_text(options, row->name)) {
            pl_fail(e, PL_E_INVALID, "%s: option '%s' is for new images only", img->path,
                    row->name);
            return pl_hint(e, "convert the image to change it");
        }
    return pl_options_check_all_known(options, img->driver->name, e);
}

/* Of the option "size", which is the core's. */
static int read_size(struct pl_image *img, const struct pl_options *options, uint64_t *size,
                     struct pl_err *e)
{
    *size = img->layer.size;
    if (pl_options_size(options, "size", size, e) < 0)
        return -1;
    if (*size >= img->layer.size)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: amend makes no disk smaller", img->path);
    return pl_hint(e, "platter resize --shrink does; what lies beyond the new end is lost");
}

int pl_amend(struct pl_image *img, const struct pl_options *options, const struct pl_report *report,
             struct pl_err *e)
{
    uint64_t size;

    if (!img->driver->amend)
        return pl_no_slot(img, "amending options", e);
    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    if (check_keys(img, options, e) < 0 || read_size(img, options, &size, e) < 0)
        return -1;
    if (img->driver->amend(img->layer.state, options, report, e) < 0)
        return pl_within(e, "%s", img->path);
    return size > img->layer.size ? pl_resize(img, size, false, PL_PREALLOC_OFF, e) : 0;
}
