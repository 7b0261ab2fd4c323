/* cmd_resize.c - gives a disk another size. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/image_open.h"
#include "cli/output.h"
#include "core/base/checked.h"

struct resize_args {
    struct common_args common;
    struct open_args open;
    unsigned preallocation;
    bool shrink;
};

/* In the order of pl_resize's preallocation modes. */
static const char *const preallocation_choices[] = { "off", "metadata", "falloc", "full", NULL };

static const struct pl_opt resize_opts[] = {
    OPT_FORMAT(struct resize_args, "the image's format; without it, its content tells"),
    { "preallocation", 0, OPT_CHOICE, offsetof(struct resize_args, preallocation),
      .metavar = "MODE",
      .help = "how room is made for what is added: off, metadata, falloc or full",
      .choices = preallocation_choices },
    { "shrink", 0, OPT_FLAG, offsetof(struct resize_args, shrink),
      .help = "the disk may become smaller; what lies behind its new end is lost" },
    OPT_ALLOW_DIR(struct resize_args),
    OPT_COMMON(struct resize_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* "SIZE", "+SIZE" or "-SIZE" for a disk of `old` bytes. */
static int parse_target(const char *text, uint64_t old, uint64_t *size, struct pl_err *e)
{
    bool relative = *text == '+' || *text == '-';

    if (pl_parse_size(text + relative, 1, size, e) < 0)
        return -1;
    if (*text == '-') {
        if (*size >= old)
            return pl_fail(e, PL_E_INVALID, "resize: the new size must be positive");
        *size = old - *size;
    } else if (*text == '+' && (!pl_add(old, *size, size) || *size > PL_OFFSET_MAX)) {
        return pl_fail(e, PL_E_LIMIT, "resize: the new size is too big");
    }
    if (!*size)
        return pl_fail(e, PL_E_INVALID, "resize: the new size must be positive");
    return 0;
}

static int refuse_shrinking(const struct pl_image *img, uint64_t size, struct pl_err *e)
{
    pl_fail(e, PL_E_INVALID,
            "%s: %" PRIu64 " bytes are less than the disk has (%" PRIu64
            "): what lies behind would be lost",
            pl_path(img), size, pl_size(img));
    return pl_hint(e, "make file systems and partitions smaller first, then add --shrink");
}

static int tell(const struct cli *cli, const struct pl_image *img, struct pl_err *e)
{
    json_t *result;

    if (!cli->json) {
        if (!cli->quiet)
            puts("Image resized.");
        return 0;
    }
    result = json_object();
    json_object_set_new(result, "filename", output_json_text(pl_path(img)));
    json_object_set_new(result, "virtual-size", output_json_number(pl_size(img)));
    return output_json(result, e);
}

static int resize(struct cli *cli, const struct resize_args *a, struct pl_image *img,
                  struct pl_err *e)
{
    uint64_t size;

    if (parse_target(cli->operands.item[1], pl_size(img), &size, e) < 0)
        return -1;
    if (size < pl_size(img) && !a->shrink)
        return refuse_shrinking(img, size, e);
    if (pl_resize(img, size, a->shrink, a->preallocation, e) < 0 || pl_flush(img, e) < 0)
        return -1;
    return tell(cli, img, e);
}

static int run_resize(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct resize_args *a = args;
    const struct pl_open_options options = { .writable = true };
    struct pl_image *img;
    int result;

    if (image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    result = resize(cli, a, img, e);
    if (pl_close(img, result < 0 ? NULL : e) < 0)
        return -1;
    return result;
}

const struct pl_command pl_cmd_resize = {
    .name = "resize",
    .operands = "IMAGE [+|-]SIZE",
    .summary = "Give a disk another size",
    .opts = resize_opts,
    .args_size = sizeof(struct resize_args),
    .min_operands = 2,
    .max_operands = 2,
    .operand_error = "expecting one image and the new size",
    .signed_operands = true,
    .error_status = 1,
    .run = run_resize,
};
