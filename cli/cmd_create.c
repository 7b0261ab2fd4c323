/* cmd_create.c - a new, empty image, or an overlay of another one. */
#include "cli/create_options.h"
#include "cli/image_open.h"
#include "cli/new_image_line.h"

struct create_args {
    struct common_args common;
    struct open_args open; /* .format is the new image's, the rest for its backing file */
    struct text_list options;
    const char *parent, *parent_format;
    bool unsafe_parent, reproducible;
};

static const struct pl_opt create_opts[] = {
    OPT_FORMAT(struct create_args, "format of the new image (raw)"),
    OPT_CREATE_OPTIONS(struct create_args),
    { "backing-file", 'b', OPT_TEXT, offsetof(struct create_args, parent), .metavar = "FILE",
      .help = "make an overlay of FILE, whose name is meant from the folder of the new image" },
    { "backing-format", 'F', OPT_TEXT, offsetof(struct create_args, parent_format),
      .metavar = "FORMAT", .help = "format of the backing file; without it, its content tells" },
    { "backing-unsafe", 'u', OPT_FLAG, offsetof(struct create_args, unsafe_parent),
      .help = "the backing file need not exist yet; a size is needed then" },
    { "reproducible", 0, OPT_FLAG, offsetof(struct create_args, reproducible),
      .help = "derive identifiers and times, so that equal requests give equal files" },
    OPT_ALLOW_DIR(struct create_args),
    OPT_COMMON(struct create_args),
    OPT_OBJECT,
    { 0 },
};

/* SIZE as an operand or as -o size; the operand wins. */
static int choose_size(const struct cli *cli, const struct create_options *options,
                       struct pl_create_options *request, struct pl_err *e)
{
    request->size_given = cli->operands.count == 2 || options->size.given;
    request->size = options->size.bytes;
    if (cli->operands.count == 2)
        return pl_parse_size(cli->operands.item[1], 1, &request->size, e);
    return 0;
}

static int check_request(const struct pl_create_options *request, struct pl_err *e)
{
    if (request->parent_format && !request->parent)
        return pl_fail(e, PL_E_INVALID, "a backing format is given, but no backing file");
    if (!request->size_given && (!request->parent || request->unsafe_parent)) {
        pl_fail(e, PL_E_INVALID, "the new image needs a size");
        return pl_hint(e, "usage: platter create [OPTION]... IMAGE SIZE");
    }
    if (image_check_format(request->format, e) < 0)
        return -1;
    return request->unsafe_parent ? 0 : image_check_format(request->parent_format, e);
}

static int create(struct cli *cli, const struct create_args *a, const struct create_options *o,
                  struct pl_err *e)
{
    struct pl_create_options request = {
        .format = a->open.format,
        .options = o->format,
        .parent = a->parent ? a->parent : o->parent,
        .parent_format = a->parent_format ? a->parent_format : o->parent_format,
        .unsafe_parent = a->unsafe_parent,
        .reproducible = a->reproducible,
        .allowed_dirs = a->open.allow_dirs.item,
        .report = &cli->report,
    };

    if (choose_size(cli, o, &request, e) < 0 || check_request(&request, e) < 0 ||
        pl_create(cli->operands.item[0], &request, e) < 0)
        return -1;
    return new_image_tell(cli, cli->operands.item[0], &request, e);
}

static int run_create(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct create_args *a = args;
    struct create_options options;
    int result;

    if (create_options_want_help(&a->options))
        return create_options_help(a->open.format, e);
    if (!cli->operands.count)
        return pl_fail(e, PL_E_INVALID, "create: expecting the name of the new image");
    if (create_options_read(&a->options, &options, e) < 0)
        return -1;
    result = create(cli, a, &options, e);
    pl_options_free(options.format);
    return result;
}

const struct pl_command pl_cmd_create = {
    .name = "create",
    .operands = "IMAGE [SIZE]",
    .summary = "Make a new, empty image, or an overlay of another one",
    .opts = create_opts,
    .args_size = sizeof(struct create_args),
    .min_operands = 0, /* with -o help there are none */
    .max_operands = 2,
    .operand_error = "expecting the name of the new image and its size",
    .error_status = 1,
    .run = run_create,
};
