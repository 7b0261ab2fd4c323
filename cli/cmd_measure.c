/* cmd_measure.c - how long the file of a new image will be. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/create_options.h"
#include "cli/image_open.h"
#include "cli/output.h"
#include "core/base/scope.h"

struct measure_args {
    struct common_args common;
    struct open_args open;
    struct text_list options;
    const char *format, *snapshot;
    struct opt_size size;
};

static const struct pl_opt measure_opts[] = {
    OPT_FORMAT(struct measure_args, "the image's format; without it, its content tells"),
    { "target-format", 'O', OPT_TEXT, offsetof(struct measure_args, format), .metavar = "FORMAT",
      .help = "format of the new image (raw)" },
    OPT_CREATE_OPTIONS(struct measure_args),
    { "size", 's', OPT_SIZE, offsetof(struct measure_args, size), .metavar = "SIZE",
      .help = "measure a new, empty image of this virtual size instead of a copy of IMAGE" },
    { "snapshot", 'l', OPT_TEXT, offsetof(struct measure_args, snapshot), .metavar = "SNAPSHOT",
      .help = "measure a copy of this internal snapshot" },
    OPT_FORCE_SHARE(struct measure_args),
    OPT_DISK(struct measure_args),
    OPT_ALLOW_DIR(struct measure_args),
    OPT_COMMON(struct measure_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static int tell(const struct cli *cli, const struct pl_measure_result *r, struct pl_err *e)
{
    json_t *result;

    if (!cli->json) {
        printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", r->required,
               r->fully_allocated);
        if (r->has_bitmaps)
            printf("bitmaps size: %" PRIu64 "\n", r->bitmaps);
        return 0;
    }
    result = json_object();
    if (r->has_bitmaps)
        json_object_set_new(result, "bitmaps", output_json_number(r->bitmaps));
    json_object_set_new(result, "required", output_json_number(r->required));
    json_object_set_new(result, "fully-allocated", output_json_number(r->fully_allocated));
    return output_json(result, e);
}

static int open_source(struct cli *cli, const struct measure_args *a, struct pl_image **img,
                       struct pl_err *e)
{
    struct pl_open_options options = { 0 };
    const char *path = cli->operands.count ? cli->operands.item[0] : NULL;
    PL_FREE char *snapshot = NULL;

    if (!path)
        return 0;
    if (a->snapshot && image_find_snapshot(cli, &a->open, path, a->snapshot, &snapshot, e) < 0)
        return -1;
    options.snapshot = snapshot;
    return image_open(cli, &a->open, path, options, img, e);
}

static int measure(struct cli *cli, const struct measure_args *a, const struct create_options *o,
                   struct pl_err *e)
{
    struct opt_size size = a->size.given ? a->size : o->size;
    struct pl_measure_result r = { 0 };
    SCOPED_IMAGE img = NULL;

    if (size.given && cli->operands.count)
        return pl_fail(e, PL_E_INVALID, "measure: --size and an image exclude each other");
    if (!size.given && !cli->operands.count)
        return pl_fail(e, PL_E_INVALID, "measure: expecting an image or --size");
    if (image_check_format(a->format, e) < 0 || open_source(cli, a, &img, e) < 0 ||
        pl_measure(img, a->format ? a->format : "raw", size.bytes, o->format, &r, e) < 0)
        return -1;
    return tell(cli, &r, e);
}

static int run_measure(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct measure_args *a = args;
    struct create_options options;
    int result;

    if (create_options_want_help(&a->options))
        return create_options_help(a->format, e);
    if (create_options_read(&a->options, &options, e) < 0)
        return -1;
    result = measure(cli, a, &options, e);
    pl_options_free(options.format);
    return result;
}

const struct pl_command pl_cmd_measure = {
    .name = "measure",
    .operands = "IMAGE | --size=SIZE",
    .summary = "Tell how long the file of a new image will be",
    .opts = measure_opts,
    .args_size = sizeof(struct measure_args),
    .min_operands = 0,
    .max_operands = 1,
    .operand_error = "expecting at most one image",
    .error_status = 1,
    .run = run_measure,
};
