/* cmd_amend.c - changes options of an image's format in place. */
#include <stdio.h>

#include "cli/create_options.h"
#include "cli/image_open.h"
#include "cli/output.h"
#include "cli/progress.h"

struct amend_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    struct text_list options;
    unsigned cache;
    bool force;
};

static const struct pl_opt amend_opts[] = {
    OPT_FORMAT(struct amend_args, "the image's format; without it, its content tells"),
    { "options", 'o', OPT_LIST, offsetof(struct amend_args, options), .metavar = "NAME=VALUE,...",
      .help = "what the options shall be; '-o help' lists those that can be changed" },
    OPT_PROGRESS(struct amend_args),
    { "cache", 't', OPT_CHOICE, offsetof(struct amend_args, cache), .metavar = "MODE",
      .help = "accepted for qemu-img's sake, without effect", .choices = cache_choices },
    { "force", 0, OPT_FLAG, offsetof(struct amend_args, force),
      .help = "accepted for qemu-img's sake, without effect" },
    OPT_ALLOW_DIR(struct amend_args),
    OPT_COMMON(struct amend_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static int tell(const struct cli *cli, struct pl_image *img, struct pl_err *e)
{
    json_t *result;

    if (!cli->json)
        return 0;
    result = json_object();
    json_object_set_new(result, "filename", output_json_text(pl_path(img)));
    json_object_set_new(result, "format", json_string(pl_format(img)));
    json_object_set_new(result, "virtual-size", output_json_number(pl_size(img)));
    return output_json(result, e);
}

static int amend(struct cli *cli, const struct amend_args *a, const struct pl_options *options,
                 struct pl_image *img, struct pl_err *e)
{
    struct progress progress;
    int result;

    if (progress_start(&progress, cli, &a->progress, false, e) < 0)
        return -1;
    result = pl_amend(img, options, &progress.report, e);
    if (result == 0)
        result = pl_flush(img, e);
    progress_end(&progress, result == 0);
    return result < 0 ? -1 : tell(cli, img, e);
}

/* The parent is needed where the disk grows over it. */
static int open_and_amend(struct cli *cli, const struct amend_args *a,
                          const struct create_options *o, struct pl_err *e)
{
    const struct pl_open_options options = { .writable = true, .no_parent = !o->size.given };
    struct pl_image *img;
    int result;

    if (image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    result = amend(cli, a, o->format, img, e);
    if (pl_close(img, result < 0 ? NULL : e) < 0)
        return -1;
    return result;
}

static int help(struct cli *cli, const struct amend_args *a, struct pl_err *e)
{
    const struct pl_open_options options = { .no_parent = true };
    SCOPED_IMAGE img = NULL;

    if (a->open.format || !cli->operands.count)
        return create_options_amend_help(a->open.format ? a->open.format : "qcow2", e);
    if (image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    return create_options_amend_help(pl_format(img), e);
}

static int run_amend(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct amend_args *a = args;
    struct create_options options;
    int result;

    if (create_options_want_help(&a->options))
        return help(cli, a, e);
    if (!cli->operands.count)
        return pl_fail(e, PL_E_INVALID, "amend: expecting one image");
    if (!a->options.count) {
        pl_fail(e, PL_E_INVALID, "amend: nothing is to be changed");
        return pl_hint(e, "say what with -o NAME=VALUE; '-o help' lists the options");
    }
    if (create_options_read(&a->options, &options, e) < 0)
        return -1;
    result = open_and_amend(cli, a, &options, e);
    pl_options_free(options.format);
    return result;
}

const struct pl_command pl_cmd_amend = {
    .name = "amend",
    .operands = "IMAGE",
    .summary = "Change options of an image's format",
    .opts = amend_opts,
    .args_size = sizeof(struct amend_args),
    .min_operands = 0,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_amend,
};
