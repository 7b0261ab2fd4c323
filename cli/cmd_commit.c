/* cmd_commit.c - brings what a child says into an image that it builds on. */
#include <stdio.h>

#include "cli/image_open.h"
#include "cli/message.h"
#include "cli/output.h"
#include "cli/progress.h"

struct commit_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    const char *base;
    struct opt_size rate;
    unsigned target_cache, workers;
    bool keep, force;
};

static const struct pl_opt commit_opts[] = {
    OPT_FORMAT(struct commit_args, "the child's format; without it, its content tells"),
    { "cache", 't', OPT_CHOICE, offsetof(struct commit_args, target_cache), .metavar = "MODE",
      .help = "accepted for qemu-img's sake, without effect", .choices = cache_choices },
    { "base", 'b', OPT_TEXT, offsetof(struct commit_args, base), .metavar = "FILE",
      .help = "commit into this image of the chain, with all that lies in between, instead of into "
              "the nearest; implies -d" },
    { "keep", 'd', OPT_FLAG, offsetof(struct commit_args, keep),
      .help = "leave the child as it is instead of emptying it, for it is not needed any more" },
    { "rate-limit", 'r', OPT_SIZE, offsetof(struct commit_args, rate), .metavar = "RATE",
      .help = "copy at most RATE bytes a second" },
    { "force", 0, OPT_FLAG, offsetof(struct commit_args, force),
      .help = "commit although other images or snapshots build on what changes" },
    OPT_WORKERS(struct commit_args),
    OPT_PROGRESS(struct commit_args),
    OPT_ALLOW_DIR(struct commit_args),
    OPT_COMMON(struct commit_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static json_t *result_json(const char *path, const struct pl_commit_result *r)
{
    json_t *result = json_object();

    json_object_set_new(result, "filename", output_json_text(path));
    json_object_set_new(result, "base", output_json_text(r->base));
    json_object_set_new(result, "base-format", json_string(r->format));
    json_object_set_new(result, "virtual-size", output_json_number(r->size));
    json_object_set_new(result, "grown", json_boolean(r->grown));
    json_object_set_new(result, "copied", output_json_number(r->copied));
    json_object_set_new(result, "zero", output_json_number(r->zero));
    json_object_set_new(result, "emptied", json_boolean(r->emptied));
    return result;
}

static int tell(const struct cli *cli, const char *path, const struct pl_commit_result *r,
                struct pl_err *e)
{
    char copied[32], size[32];

    if (cli->json)
        return output_json(result_json(path, r), e);
    if (cli->quiet)
        return 0;
    puts("Image committed.");
    message_text(stdout, r->base); /* the child's word */
    printf(": %s written", pl_format_size(r->copied, copied));
    if (r->grown)
        printf(", grown to %s", pl_format_size(r->size, size));
    fputs(r->emptied ? "; now empty: " : "; unchanged: ", stdout);
    message_text(stdout, path);
    putchar('\n');
    return 0;
}

static int commit(struct cli *cli, const struct commit_args *a, struct pl_commit_result *r,
                  struct pl_err *e)
{
    struct pl_commit_options options = {
        .format = a->open.format,
        .base = a->base,
        .keep = a->keep,
        .force = a->force,
        .workers = a->workers,
        .rate_limit = a->rate.bytes,
        .allowed_dirs = a->open.allow_dirs.item,
    };
    struct progress progress;
    int result;

    if (progress_start(&progress, cli, &a->progress, false, e) < 0)
        return -1;
    options.report = &progress.report;
    result = pl_commit(cli->operands.item[0], &options, r, e);
    progress_end(&progress, result == 0);
    return result;
}

static int run_commit(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct commit_args *a = args;
    struct pl_commit_result r;
    int result;

    if (a->rate.given && !a->rate.bytes)
        return pl_fail(e, PL_E_INVALID, "--rate-limit: 0 bytes a second would never end");
    if (image_look(cli, &a->open, cli->operands.item[0], e) < 0 || commit(cli, a, &r, e) < 0)
        return -1;
    result = tell(cli, cli->operands.item[0], &r, e);
    free(r.base);
    return result;
}

const struct pl_command pl_cmd_commit = {
    .name = "commit",
    .operands = "IMAGE",
    .summary = "Bring the content of an overlay into its backing file",
    .opts = commit_opts,
    .args_size = sizeof(struct commit_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_commit,
};
