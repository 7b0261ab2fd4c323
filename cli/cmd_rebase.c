/* cmd_rebase.c - gives an image another backing file, or none. */
#include <stdio.h>

#include "cli/image_open.h"
#include "cli/message.h"
#include "cli/output.h"
#include "cli/progress.h"

struct rebase_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    const char *parent, *parent_format;
    unsigned target_cache, workers;
    bool unsafe, force;
};

static const struct pl_opt rebase_opts[] = {
    OPT_FORMAT(struct rebase_args, "the image's format; without it, its content tells"),
    { "cache", 't', OPT_CHOICE, offsetof(struct rebase_args, target_cache), .metavar = "MODE",
      .help = "accepted for qemu-img's sake, without effect", .choices = cache_choices },
    OPT_SOURCE_CACHE(struct rebase_args),
    { "backing-file", 'b', OPT_TEXT, offsetof(struct rebase_args, parent), .metavar = "FILE",
      .help = "the new backing file, seen from the image's folder; \"\" for none: the image then "
              "has all of the disk" },
    { "backing-format", 'F', OPT_TEXT, offsetof(struct rebase_args, parent_format),
      .metavar = "FORMAT", .help = "its format; without it, its content tells" },
    { "unsafe", 'u', OPT_FLAG, offsetof(struct rebase_args, unsafe),
      .help =
          "change the name alone: right for a backing file that was moved or renamed, or for one "
          "with the very same content" },
    { "force", 0, OPT_FLAG, offsetof(struct rebase_args, force),
      .help = "rebase although internal snapshots read from the backing file, too" },
    OPT_FORCE_SHARE(struct rebase_args),
    OPT_WORKERS(struct rebase_args),
    OPT_PROGRESS(struct rebase_args),
    OPT_ALLOW_DIR(struct rebase_args),
    OPT_COMMON(struct rebase_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static json_t *result_json(const struct rebase_args *a, const char *path,
                           const struct pl_rebase_result *r)
{
    json_t *result = json_object();

    json_object_set_new(result, "filename", output_json_text(path));
    if (*a->parent)
        json_object_set_new(result, "backing-filename", output_json_text(a->parent));
    if (*r->parent_format)
        json_object_set_new(result, "backing-filename-format", output_json_text(r->parent_format));
    json_object_set_new(result, "unsafe", json_boolean(a->unsafe));
    json_object_set_new(result, "copied", output_json_number(r->copied));
    json_object_set_new(result, "zero", output_json_number(r->zero));
    return result;
}

static int tell(const struct cli *cli, const struct rebase_args *a, const char *path,
                const struct pl_rebase_result *r, struct pl_err *e)
{
    char copied[32];

    if (cli->json)
        return output_json(result_json(a, path, r), e);
    if (cli->quiet)
        return 0;
    fputs(*a->parent ? "Image rebased onto " : "Image rebased: it has no backing file any more",
          stdout);
    message_text(stdout, a->parent);
    if (a->unsafe)
        puts("; nothing but the name was changed.");
    else
        printf("; %s copied into the image.\n", pl_format_size(r->copied, copied));
    return 0;
}

static int rebase(struct cli *cli, const struct rebase_args *a, struct pl_rebase_result *r,
                  struct pl_err *e)
{
    struct pl_rebase_options options = {
        .format = a->open.format,
        .parent = a->parent,
        .parent_format = a->parent_format,
        .unsafe = a->unsafe,
        .force_share = a->open.force_share,
        .force = a->force,
        .workers = a->workers,
        .allowed_dirs = a->open.allow_dirs.item,
    };
    struct progress progress;
    int result;

    if (progress_start(&progress, cli, &a->progress, false, e) < 0)
        return -1;
    options.report = &progress.report;
    result = pl_rebase(cli->operands.item[0], &options, r, e);
    progress_end(&progress, result == 0);
    return result;
}

static int run_rebase(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct rebase_args *a = args;
    struct pl_rebase_result r;

    if (!a->parent) {
        pl_fail(e, PL_E_INVALID, "rebase: the new backing file is missing (-b)");
        return pl_hint(e, "-b \"\" is for an image that shall have none");
    }
    if (image_check_format(a->parent_format, e) < 0 ||
        image_look(cli, &a->open, cli->operands.item[0], e) < 0)
        return -1;
    if (rebase(cli, a, &r, e) < 0)
        return -1;
    return tell(cli, a, cli->operands.item[0], &r, e);
}

const struct pl_command pl_cmd_rebase = {
    .name = "rebase",
    .operands = "IMAGE",
    .summary = "Give an image another backing file, or none",
    .opts = rebase_opts,
    .args_size = sizeof(struct rebase_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_rebase,
};
