/* cmd_chain.c - the images that an image stands on, as far as they lead, and what is wrong with
 * them.
 *
 * Exit status: 0 the whole chain is sound, 1 it could not be looked at, 2 it is broken. */
#include "cli/chain_show.h"
#include "cli/image_open.h"
#include "cli/output.h"

#define STATUS_UNKNOWN 1
#define STATUS_BROKEN 2

struct chain_args {
    struct common_args common;
    struct open_args open;
    struct text_list find, children;
};

static const struct pl_opt chain_opts[] = {
    OPT_FORMAT(struct chain_args, "the image's format; without it, its content tells"),
    { "find", 0, OPT_LIST, offsetof(struct chain_args, find), .metavar = "DIR",
      .help = "look for a parent that is missing in DIR and below, by its identity or, where the "
              "format has none, its name; may be repeated" },
    { "children", 0, OPT_LIST, offsetof(struct chain_args, children), .metavar = "DIR",
      .help = "list the images in DIR and below whose parent this image is; may be repeated" },
    OPT_FORCE_SHARE(struct chain_args),
    OPT_DISK(struct chain_args),
    OPT_ALLOW_DIR(struct chain_args),
    OPT_COMMON(struct chain_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

static int show(struct cli *cli, const struct chain_view *view, struct pl_err *e)
{
    if ((cli->json ? output_json(chain_json(view), e) : chain_print(view, e)) < 0)
        return -1;
    if (view->chain->sound)
        return 0;
    return view->chain->unknown ? STATUS_UNKNOWN : STATUS_BROKEN;
}

static int examine(struct cli *cli, const struct chain_args *a, struct pl_image *img,
                   struct pl_err *e)
{
    const struct pl_chain_options options = {
        .force_share = a->open.force_share,
        .allowed_dirs = a->open.allow_dirs.item,
        .find_dirs = a->find.item,
        .report = &cli->report,
    };
    struct pl_child *children = NULL;
    struct pl_chain *chain = NULL;
    size_t count = 0;
    int result = pl_chain_examine(img, &options, &chain, e);

    if (result == 0 && a->children.count)
        result = pl_children(img, a->children.item, &options, &children, &count, e);
    if (result == 0) {
        const struct chain_view view = { chain, a->children.count > 0, children, count };

        result = show(cli, &view, e);
    }
    pl_children_free(children, count);
    pl_chain_free(chain);
    return result;
}

static int run_chain(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct chain_args *a = args;
    SCOPED_IMAGE img = NULL;

    if (image_open(cli, &a->open, cli->operands.item[0],
                   (struct pl_open_options){ .no_parent = true }, &img, e) < 0)
        return -1;
    return examine(cli, a, img, e);
}

const struct pl_command pl_cmd_chain = {
    .name = "chain",
    .operands = "IMAGE",
    .summary = "Show the parents of an image, and where they are gone",
    .opts = chain_opts,
    .args_size = sizeof(struct chain_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_chain,
};
