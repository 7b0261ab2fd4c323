/* cmd_dd.c - copies a part of an image into a new one.
 *
 * Operands are those of qemu-img: if=, of=, bs=, count=, skip=.  Unlike there, count= counts from
 * where skip= leads to, as the dd of every system does. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/image_open.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "core/base/checked.h"

struct dd_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    const char *format; /* -O */
};

static const struct pl_opt dd_opts[] = {
    OPT_FORMAT(struct dd_args, "the input's format; without it, its content tells"),
    { "target-format", 'O', OPT_TEXT, offsetof(struct dd_args, format), .metavar = "FORMAT",
      .help = "the output's format (raw)" },
    OPT_FORCE_SHARE(struct dd_args),
    OPT_PROGRESS(struct dd_args),
    OPT_ALLOW_DIR(struct dd_args),
    OPT_DISK(struct dd_args),
    OPT_COMMON(struct dd_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* What the operands say. */
struct copy {
    const char *input, *output;
    uint64_t block;       /* bytes */
    uint64_t count, skip; /* blocks */
};

/* One of the operands that are numbers. */
static int read_number(const char *name, const char *value, uint64_t *n, struct pl_err *e)
{
    struct pl_err why = { 0 };

    if (pl_parse_size(value, 1, n, &why) == 0)
        return 0;
    pl_fail(e, PL_E_INVALID, "Invalid %s specified: %s", name, why.msg);
    return pl_hint(e, "You may use k, M, G, T, P or E suffixes for kilobytes, megabytes, "
                      "gigabytes, terabytes, petabytes and exabytes.");
}

static int read_block(const char *value, uint64_t *block, struct pl_err *e)
{
    if (read_number("bs", value, block, e) < 0)
        return -1;
    if (*block < 1 || *block > INT_MAX)
        return pl_fail(e, PL_E_INVALID, "Invalid bs specified. Must be between 1 and %d.", INT_MAX);
    return 0;
}

static int read_operand(const char *operand, struct copy *copy, struct pl_err *e)
{
    const size_t name = strcspn(operand, "=");
    const char *value = operand + name + 1;

    if (!operand[name])
        return pl_fail(e, PL_E_INVALID, "unrecognized operand %s", operand);
    if (name == 2 && !memcmp(operand, "if", 2))
        copy->input = value;
    else if (name == 2 && !memcmp(operand, "of", 2))
        copy->output = value;
    else if (name == 2 && !memcmp(operand, "bs", 2))
        return read_block(value, &copy->block, e);
    else if (name == 5 && !memcmp(operand, "count", 5))
        return read_number("count", value, &copy->count, e);
    else if (name == 4 && !memcmp(operand, "skip", 4))
        return read_number("skip", value, &copy->skip, e);
    else
        return pl_fail(e, PL_E_INVALID, "unrecognized operand %.*s", (int)name, operand);
    return 0;
}

static int read_operands(const struct operands *operands, struct copy *copy, struct pl_err *e)
{
    *copy = (struct copy){ .block = 512, .count = UINT64_MAX };
    for (size_t i = 0; i < operands->count; i++)
        if (read_operand(operands->item[i], copy, e) < 0)
            return -1;
    if (!copy->input || !copy->output)
        return pl_fail(e, PL_E_INVALID, "Must specify both input and output files");
    return 0;
}

/* Blocks as bytes; more than any disk has is as much as there is. */
static uint64_t bytes_of(uint64_t blocks, uint64_t block)
{
    uint64_t bytes;

    return pl_mul(blocks, block, &bytes) ? bytes : UINT64_MAX;
}

static int tell(const struct cli *cli, const struct dd_args *a, const struct copy *copy,
                const struct pl_convert_result *r, struct pl_err *e)
{
    json_t *result;

    if (!cli->json || !strcmp(copy->output, "-"))
        return 0;
    result = json_object();
    json_object_set_new(result, "filename", output_json_text(copy->output));
    json_object_set_new(result, "format", json_string(a->format ? a->format : "raw"));
    json_object_set_new(result, "virtual-size", output_json_number(r->size));
    json_object_set_new(result, "copied", output_json_number(r->copied));
    json_object_set_new(result, "zero", output_json_number(r->zero));
    return output_json(result, e);
}

static int copy_part(struct cli *cli, const struct dd_args *a, const struct copy *copy,
                     const struct pl_report *report, struct pl_convert_result *r, struct pl_err *e)
{
    const struct pl_open_options options = { .report = report };
    const struct pl_part part = { .skip = bytes_of(copy->skip, copy->block),
                                  .len = bytes_of(copy->count, copy->block) };
    const struct pl_convert_options request = { .format = a->format,
                                                .sparse = PL_SPARSE_DEFAULT,
                                                .part = &part,
                                                .allowed_dirs = a->open.allow_dirs.item,
                                                .report = report };
    SCOPED_IMAGE img = NULL;

    if (image_open(cli, &a->open, copy->input, options, &img, e) < 0)
        return -1;
    if (part.skip > pl_size(img))
        pl_warn(report, "%s: cannot skip to specified offset", copy->input);
    return pl_convert(&img, 1, copy->output, &request, r, e);
}

static int run_dd(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct dd_args *a = args;
    struct pl_convert_result r = { 0 };
    struct progress progress;
    struct copy copy;
    int result;

    if (read_operands(&cli->operands, &copy, e) < 0 || image_check_format(a->format, e) < 0 ||
        progress_start(&progress, cli, &a->progress, !strcmp(copy.output, "-"), e) < 0)
        return -1;
    result = copy_part(cli, a, &copy, &progress.report, &r, e);
    progress_end(&progress, result == 0);
    return result < 0 ? -1 : tell(cli, a, &copy, &r, e);
}

const struct pl_command pl_cmd_dd = {
    .name = "dd",
    .operands = "[bs=N] [count=N] [skip=N] if=INPUT of=OUTPUT",
    .summary = "Copy a part of an image into a new one",
    .opts = dd_opts,
    .args_size = sizeof(struct dd_args),
    .min_operands = 0,
    .max_operands = 64,
    .operand_error = "expecting if=INPUT and of=OUTPUT",
    .error_status = 1,
    .run = run_dd,
};
