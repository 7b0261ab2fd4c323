/* cmd_compact.c - gives the room of zeros back. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/image_open.h"
#include "cli/output.h"
#include "cli/progress.h"

struct compact_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
};

static const struct pl_opt compact_opts[] = {
    OPT_FORMAT(struct compact_args, "the image's format; without it, its content tells"),
    OPT_PROGRESS(struct compact_args),
    OPT_ALLOW_DIR(struct compact_args),
    OPT_COMMON(struct compact_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static int tell(const struct cli *cli, const struct pl_image *img,
                const struct pl_compact_result *r, struct pl_err *e)
{
    char zeros[32], usage[32];
    json_t *result;

    if (!cli->json) {
        if (!cli->quiet)
            printf("Image compacted: %s of zeros given back, %s of room freed.\n",
                   pl_format_size(r->zeros, zeros), pl_format_size(r->usage_freed, usage));
        return 0;
    }
    result = json_object();
    json_object_set_new(result, "filename", output_json_text(pl_path(img)));
    json_object_set_new(result, "format", json_string(pl_format(img)));
    json_object_set_new(result, "zeros", output_json_number(r->zeros));
    json_object_set_new(result, "file-size-freed", output_json_number(r->file_freed));
    json_object_set_new(result, "actual-size-freed", output_json_number(r->usage_freed));
    return output_json(result, e);
}

static int compact(struct cli *cli, const struct compact_args *a, struct pl_image *img,
                   struct pl_err *e)
{
    struct pl_compact_result r;
    struct progress progress;
    int result;

    if (progress_start(&progress, cli, &a->progress, false, e) < 0)
        return -1;
    result = pl_compact(img, &progress.report, &r, e);
    progress_end(&progress, result == 0);
    return result < 0 ? -1 : tell(cli, img, &r, e);
}

static int run_compact(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct compact_args *a = args;
    const struct pl_open_options options = { .writable = true };
    struct pl_image *img;
    int result;

    if (image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    result = compact(cli, a, img, e);
    if (pl_close(img, result < 0 ? NULL : e) < 0)
        return -1;
    return result;
}

const struct pl_command pl_cmd_compact = {
    .name = "compact",
    .operands = "IMAGE",
    .summary = "Give back the room of zeros in an image",
    .opts = compact_opts,
    .args_size = sizeof(struct compact_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_compact,
};
