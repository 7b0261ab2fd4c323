#include "cli/check_undo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "core/base/scope.h"

int check_undo_args(const struct undo_args *args, bool repairs, bool force_share, struct pl_err *e)
{
    if (args->undo && repairs)
        return pl_fail(e, PL_E_INVALID, "--undo takes a repair back: not together with --repair");
    if (args->undo && force_share)
        return pl_fail(e, PL_E_INVALID, "--undo changes the image: not together with -U");
    if (args->none && (args->undo || args->file))
        return pl_fail(e, PL_E_INVALID, "--no-undo cannot be used with %s",
                       args->undo ? "--undo" : "--undo-file");
    if (args->force && !args->undo)
        return pl_fail(e, PL_E_INVALID, "--force is for --undo alone");
    if (args->file && !args->undo && !repairs)
        return pl_fail(e, PL_E_INVALID, "--undo-file is for --undo and --repair alone");
    return 0;
}

char *check_undo_path(const struct undo_args *args, const char *image)
{
    char *path;

    if (args->file)
        return strdup(args->file);
    return pl_undo_path(image, &path, NULL) < 0 ? NULL : path;
}

static void print_human(const struct pl_undo_result *r)
{
    char size[32];

    if (r->ranges)
        printf("The last repair was taken back: %s in %" PRIu64 " range%s of %u file%s.\n",
               pl_format_size(r->bytes, size), r->ranges, r->ranges == 1 ? "" : "s", r->files,
               r->files == 1 ? "" : "s");
    else
        puts("The last repair was taken back: it had changed nothing yet.");
    if (r->interrupted)
        puts("That repair had been interrupted.");
}

static int print_json(const char *image, const char *path, const struct pl_undo_result *r,
                      struct pl_err *e)
{
    json_t *result = json_object();

    json_object_set_new(result, "filename", output_json_text(image));
    json_object_set_new(result, "undo-file", output_json_text(path ? path : ""));
    json_object_set_new(result, "restored-bytes", output_json_number(r->bytes));
    json_object_set_new(result, "restored-ranges", output_json_number(r->ranges));
    json_object_set_new(result, "restored-files", output_json_number(r->files));
    json_object_set_new(result, "repair-interrupted", json_boolean(r->interrupted));
    return output_json(result, e);
}

int check_undo(struct cli *cli, const struct open_args *open, const struct undo_args *args,
               const char *image, struct pl_err *e)
{
    const struct pl_undo_options options = { .file = args->file,
                                             .force = args->force,
                                             .allowed_dirs = open->allow_dirs.item };
    PL_FREE char *path = check_undo_path(args, image);
    struct pl_undo_result result;

    if (pl_undo_repair(image, &options, &result, e) < 0)
        return -1;
    if (cli->json)
        return print_json(image, path, &result, e);
    if (!cli->quiet)
        print_human(&result);
    return 0;
}
