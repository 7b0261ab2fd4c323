/* cmd_convert.c - copies the content of images into a new one, or onto an existing one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/convert_args.h"
#include "cli/output.h"
#include "core/base/scope.h"

/* The sources, open. */
struct sources {
    struct pl_image **item;
    size_t count;
};

static void close_sources(struct sources *s)
{
    for (size_t i = 0; i < s->count; i++)
        pl_close(s->item[i], NULL);
    free(s->item);
}

static int open_sources(struct cli *cli, const struct convert_args *a,
                        const struct pl_report *report, struct sources *s, struct pl_err *e)
{
    struct pl_open_options options = { .report = report };
    size_t wanted = cli->operands.count - 1;
    PL_FREE char *snapshot = NULL;

    *s = (struct sources){ .item = calloc(wanted, sizeof(struct pl_image *)) };
    if (!s->item)
        return pl_fail(e, PL_E_NOMEM, "no memory for the sources");
    if (a->snapshot &&
        image_find_snapshot(cli, &a->open, cli->operands.item[0], a->snapshot, &snapshot, e) < 0)
        return -1;
    options.snapshot = snapshot;
    for (; s->count < wanted; s->count++)
        if (image_open(cli, &a->open, cli->operands.item[s->count], options, &s->item[s->count],
                       e) < 0)
            return -1;
    return 0;
}

/* qemu-img writes raw where -n is given without -O, whatever the target holds. */
static const char *target_format(const struct convert_args *a)
{
    return a->format ? a->format : "raw";
}

static struct pl_convert_options make_request(const struct convert_args *a,
                                              const struct create_options *o,
                                              const struct pl_report *report)
{
    return (struct pl_convert_options){
        .format = target_format(a),
        .options = o->format,
        .compress = a->compress,
        .parent = a->parent ? a->parent : o->parent,
        .parent_format = a->parent_format ? a->parent_format : o->parent_format,
        .sparse = a->sparse.given ? a->sparse.bytes : PL_SPARSE_DEFAULT,
        .existing = a->existing,
        .target_format = target_format(a),
        .target_is_zero = a->target_is_zero,
        .salvage = a->salvage,
        .bitmaps = a->bitmaps,
        .skip_broken_bitmaps = a->skip_broken_bitmaps,
        .unsynced = strcmp(cache_choices[a->target_cache], "unsafe") == 0,
        .no_share = a->no_share,
        .verify = a->verify,
        .checksum = a->checksum,
        .reproducible = a->reproducible,
        .workers = a->workers,
        .rate_limit = a->rate.bytes,
        .allowed_dirs = a->open.allow_dirs.item,
        .report = report,
    };
}

static json_t *result_json(const struct convert_args *a, const char *target,
                           const struct pl_convert_result *r)
{
    json_t *result = json_object();

    json_object_set_new(result, "filename", output_json_text(target));
    json_object_set_new(result, "format", json_string(target_format(a)));
    json_object_set_new(result, "virtual-size", output_json_number(r->size));
    json_object_set_new(result, "copied", output_json_number(r->copied));
    json_object_set_new(result, "shared", output_json_number(r->shared));
    json_object_set_new(result, "passed", output_json_number(r->passed));
    json_object_set_new(result, "zero", output_json_number(r->zero));
    if (*r->checksum)
        json_object_set_new(result, "checksum", json_sprintf("%s:%s", a->checksum, r->checksum));
    return result;
}

/* Where the disk itself went to standard output, what is said about it goes to standard error. */
static int tell(const struct cli *cli, const struct convert_args *a, const char *target,
                const struct pl_convert_result *r, struct pl_err *e)
{
    bool to_stdout = strcmp(target, "-") != 0;

    if (cli->json && to_stdout)
        return output_json(result_json(a, target, r), e);
    if (*r->checksum)
        fprintf(to_stdout ? stdout : stderr, "%s:%s\n", a->checksum, r->checksum);
    return 0;
}

/* What an image has besides its disk and the target does not get.  A list that cannot be read is
 * no reason not to copy the disk. */
static void warn_of_what_stays(const struct convert_args *a, struct pl_image *img,
                               const struct pl_report *report)
{
    PL_FREE struct pl_snapshot *snapshots = NULL;
    PL_FREE struct pl_bitmap *bitmaps = NULL;
    size_t count;

    if (!a->snapshot && pl_snapshots(img, &snapshots, &count, NULL) == 0 && count)
        pl_warn(report, "%s: its internal snapshots (%zu) are not copied", pl_path(img), count);
    if (!a->bitmaps && pl_bitmaps(img, &bitmaps, &count, NULL) == 0 && count)
        pl_warn(report, "%s: its persistent bitmaps (%zu) are not copied without --bitmaps",
                pl_path(img), count);
}

static int copy(struct cli *cli, const struct convert_args *a, const struct create_options *o,
                struct pl_err *e)
{
    const char *target = cli->operands.item[cli->operands.count - 1];
    struct pl_convert_result r = { 0 };
    struct pl_convert_options request;
    struct progress progress;
    struct sources sources;
    int result;

    if (progress_start(&progress, cli, &a->progress, !strcmp(target, "-"), e) < 0)
        return -1;
    request = make_request(a, o, &progress.report);
    result = open_sources(cli, a, &progress.report, &sources, e);
    for (size_t i = 0; result == 0 && i < sources.count; i++)
        warn_of_what_stays(a, sources.item[i], &progress.report);
    if (result == 0)
        result = pl_convert(sources.item, sources.count, target, &request, &r, e);
    progress_end(&progress, result == 0);
    close_sources(&sources);
    return result < 0 ? -1 : tell(cli, a, target, &r, e);
}

/* What is said about a new target does nothing to one that exists. */
static void warn_of_no_effect(const struct cli *cli, const struct convert_args *a)
{
    if (a->existing && a->options.count)
        pl_warn(&cli->report, "-o has no effect on a target that exists");
    if (a->existing && a->parent)
        pl_warn(&cli->report, "--backing-file (-B) has no effect on a target that exists: "
                              "what the backing file has is written too");
}

static int run_convert(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct convert_args *a = args;
    struct create_options options;
    int result;

    if (create_options_want_help(&a->options))
        return create_options_help(a->format, e);
    if (cli->operands.count < 2) {
        pl_fail(e, PL_E_INVALID, "convert: expecting one or more images and the target");
        return pl_hint(e, "usage: platter convert [OPTION]... IMAGE... TARGET");
    }
    if (create_options_read(&a->options, &options, e) < 0)
        return -1;
    result = convert_check(a, &options, &cli->operands, e);
    if (result == 0) {
        warn_of_no_effect(cli, a);
        result = copy(cli, a, &options, e);
    }
    pl_options_free(options.format);
    return result;
}

const struct pl_command pl_cmd_convert = {
    .name = "convert",
    .operands = "IMAGE... TARGET",
    .summary = "Copy images, one behind the other, into a new one of any format",
    .opts = convert_opts,
    .args_size = sizeof(struct convert_args),
    .min_operands = 0, /* with -o help there are none */
    .max_operands = 4096,
    .operand_error = "expecting one or more images and the target",
    .error_status = 1,
    .run = run_convert,
};
