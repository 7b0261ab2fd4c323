/* cmd_compare.c - whether two images show their guests the same bytes.
 *
 * Exit status: 0 equal, 1 different, 2 an image cannot be opened (or the options are wrong), 4
 * reading fails. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/image_open.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "core/base/checked.h"

#define STATUS_NOT_READ 4

struct compare_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    const char *second_format;
    bool strict;
    unsigned workers;
};

static const struct pl_opt compare_opts[] = {
    OPT_FORMAT(struct compare_args, "format of the first image; without it, its content tells"),
    { "second-format", 'F', OPT_TEXT, offsetof(struct compare_args, second_format),
      .metavar = "FORMAT", .help = "format of the second image" },
    { "strict", 's', OPT_FLAG, offsetof(struct compare_args, strict),
      .help = "sizes and allocation must be equal too" },
    OPT_FORCE_SHARE(struct compare_args),
    OPT_PROGRESS(struct compare_args),
    OPT_WORKERS(struct compare_args),
    OPT_SOURCE_CACHE(struct compare_args),
    OPT_DISK(struct compare_args),
    OPT_ALLOW_DIR(struct compare_args),
    OPT_COMMON(struct compare_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static void print_human(const struct pl_compare_result *r, bool strict, uint64_t smaller)
{
    if (strict && r->sizes_differ) {
        puts("Strict mode: Image size mismatch!");
        return;
    }
    if (r->sizes_differ && (r->equal || r->offset >= smaller))
        puts("Warning: Image size mismatch!");
    if (r->equal)
        puts("Images are identical.");
    else if (r->allocation_differs)
        printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", r->offset);
    else /* in sectors, as scripts know it from qemu-img; JSON has the byte */
        printf("Content mismatch at offset %" PRIu64 "!\n", pl_round_down(r->offset, 512));
}

static int print_json(const struct pl_compare_result *r, struct pl_err *e)
{
    json_t *result = json_object();

    json_object_set_new(result, "equal", json_boolean(r->equal));
    json_object_set_new(result, "sizes-differ", json_boolean(r->sizes_differ));
    if (!r->equal) {
        json_object_set_new(result, "allocation-differs", json_boolean(r->allocation_differs));
        json_object_set_new(result, "offset", output_json_number(r->offset));
    }
    return output_json(result, e);
}

static int compare(struct cli *cli, const struct compare_args *a, struct pl_image *first,
                   struct pl_image *second, struct pl_err *e)
{
    struct pl_compare_options options = { .strict = a->strict, .workers = a->workers };
    struct pl_compare_result r = { 0 };
    struct progress progress;
    int result;

    if (progress_start(&progress, cli, &a->progress, false, e) < 0)
        return -1;
    cli->error_status = STATUS_NOT_READ;
    options.report = &progress.report;
    result = pl_compare(first, second, &options, &r, e);
    progress_end(&progress, result == 0);
    if (result < 0)
        return -1;
    if (cli->json && print_json(&r, e) < 0)
        return -1;
    if (!cli->json && !cli->quiet)
        print_human(&r, a->strict, PL_MIN(pl_size(first), pl_size(second)));
    return r.equal ? 0 : 1;
}

static int run_compare(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct compare_args *a = args;
    struct open_args second_open = a->open;
    SCOPED_IMAGE first = NULL;
    SCOPED_IMAGE second = NULL;

    second_open.format = a->second_format;
    if (image_open(cli, &a->open, cli->operands.item[0], (struct pl_open_options){ 0 }, &first, e) <
            0 ||
        image_open(cli, &second_open, cli->operands.item[1], (struct pl_open_options){ 0 }, &second,
                   e) < 0)
        return -1;
    return compare(cli, a, first, second, e);
}

const struct pl_command pl_cmd_compare = {
    .name = "compare",
    .operands = "IMAGE1 IMAGE2",
    .summary = "Tell whether two images have the same content",
    .opts = compare_opts,
    .args_size = sizeof(struct compare_args),
    .min_operands = 2,
    .max_operands = 2,
    .operand_error = "expecting two images",
    .error_status = 2,
    .run = run_compare,
};
