/* cmd_info.c - what an image is.
 *
 * One image is described without its parents, so that a broken chain can be looked at; --backing-
 * chain opens them all, under the policy for names inside images. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/image_open.h"
#include "cli/message.h"
#include "cli/output.h"
#include "cli/snapshot_table.h"
#include "core/base/scope.h"

struct info_args {
    struct common_args common;
    struct open_args open;
    bool backing_chain;
};

static const struct pl_opt info_opts[] = {
    OPT_FORMAT(struct info_args, "the image's format; without it, its content tells"),
    OPT_FORCE_SHARE(struct info_args),
    { "backing-chain", 0, OPT_FLAG, offsetof(struct info_args, backing_chain),
      .help = "describe every image of the chain, the youngest first" },
    OPT_DISK(struct info_args),
    OPT_ALLOW_DIR(struct info_args),
    OPT_COMMON(struct info_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* What is asked of an image before anything is printed. */
struct description {
    struct pl_image *img;
    char *parent_path; /* as seen from here; null: no parent */
    struct pl_snapshot *snapshots;
    size_t snapshot_count;
    struct pl_fact *facts;
};

static void forget(struct description *d)
{
    free(d->parent_path);
    free(d->snapshots);
    pl_facts_free(d->facts);
}

/* A relative name is meant from the folder of the image that says it. */
static char *path_of_parent(const struct pl_image *img)
{
    const char *name = pl_parent_name(img), *slash = strrchr(pl_path(img), '/');
    char *joined;

    if (*name == '/' || !slash)
        return strdup(name);
    return asprintf(&joined, "%.*s/%s", (int)(slash - pl_path(img)), pl_path(img), name) < 0
               ? NULL
               : joined;
}

static int describe(struct pl_image *img, struct description *d, struct pl_err *e)
{
    *d = (struct description){ .img = img };
    if (pl_parent_name(img)) {
        d->parent_path = path_of_parent(img);
        if (!d->parent_path)
            return pl_fail(e, PL_E_NOMEM, "%s: no memory", pl_path(img));
    }
    if (pl_snapshots(img, &d->snapshots, &d->snapshot_count, e) < 0)
        return -1;
    return pl_format_facts(img, &d->facts, e);
}

static void print_line(const char *name, const char *text)
{
    printf("%s: ", name);
    message_text(stdout, text);
    putchar('\n');
}

static void print_sizes(const struct pl_image *img)
{
    char text[32];

    printf("virtual size: %s (%" PRIu64 " bytes)\n", pl_format_size(pl_size(img), text),
           pl_size(img));
    printf("disk size: %s\n", pl_format_size(pl_disk_usage(img), text));
}

static void print_parent(const struct description *d)
{
    const char *name = pl_parent_name(d->img), *format = pl_parent_format(d->img);

    if (!name)
        return;
    fputs("backing file: ", stdout);
    message_text(stdout, name);
    if (strcmp(name, d->parent_path) != 0) {
        fputs(" (actual path: ", stdout);
        message_text(stdout, d->parent_path);
        putchar(')');
    }
    putchar('\n');
    if (format)
        print_line("backing file format", format);
}

static void print_human(const struct description *d)
{
    struct pl_image_flags flags = pl_flags(d->img);

    print_line("image", pl_path(d->img));
    print_line("file format", pl_format(d->img));
    print_sizes(d->img);
    if (flags.encrypted)
        puts("encrypted: yes");
    if (pl_cluster_size(d->img))
        printf("cluster_size: %" PRIu32 "\n", pl_cluster_size(d->img));
    if (flags.dirty)
        puts("cleanly shut down: no");
    print_parent(d);
    if (d->snapshot_count) {
        puts("Snapshot list:");
        snapshot_table_print(d->snapshots, d->snapshot_count);
    }
    if (d->facts && d->facts->child) {
        puts("Format specific information:");
        output_facts(d->facts, 4);
    }
}

static void add_parent(json_t *info, const struct description *d)
{
    if (!pl_parent_name(d->img))
        return;
    json_object_set_new(info, "full-backing-filename", output_json_text(d->parent_path));
    json_object_set_new(info, "backing-filename", output_json_text(pl_parent_name(d->img)));
}

static json_t *format_specific(const struct description *d)
{
    json_t *specific = json_object();

    json_object_set_new(specific, "type", json_string(pl_format(d->img)));
    json_object_set_new(specific, "data", output_json_facts(d->facts));
    return specific;
}

static json_t *to_json(const struct description *d)
{
    struct pl_image_flags flags = pl_flags(d->img);
    json_t *info = json_object();

    if (d->snapshot_count)
        json_object_set_new(info, "snapshots",
                            snapshot_table_json(d->snapshots, d->snapshot_count));
    if (pl_parent_format(d->img))
        json_object_set_new(info, "backing-filename-format",
                            output_json_text(pl_parent_format(d->img)));
    json_object_set_new(info, "virtual-size", output_json_number(pl_size(d->img)));
    json_object_set_new(info, "filename", output_json_text(pl_path(d->img)));
    if (pl_cluster_size(d->img))
        json_object_set_new(info, "cluster-size", output_json_number(pl_cluster_size(d->img)));
    json_object_set_new(info, "format", json_string(pl_format(d->img)));
    json_object_set_new(info, "actual-size", output_json_number(pl_disk_usage(d->img)));
    if (flags.compressed)
        json_object_set_new(info, "compressed", json_true());
    if (d->facts && d->facts->child)
        json_object_set_new(info, "format-specific", format_specific(d));
    if (flags.encrypted)
        json_object_set_new(info, "encrypted", json_true());
    add_parent(info, d);
    json_object_set_new(info, "dirty-flag", json_boolean(flags.dirty));
    return info;
}

/* Prints one image, or appends it to `list` if that is not null. */
static int show(struct pl_image *img, bool first, json_t *list, struct pl_err *e)
{
    struct description d;
    int result = describe(img, &d, e);

    if (result == 0 && list) {
        json_array_append_new(list, to_json(&d));
    } else if (result == 0) {
        if (!first)
            putchar('\n');
        print_human(&d);
    }
    forget(&d);
    return result;
}

static int show_all(struct pl_image *top, bool chain, json_t *list, struct pl_err *e)
{
    for (struct pl_image *img = top; img; img = chain ? pl_parent(img) : NULL)
        if (show(img, img == top, list, e) < 0)
            return -1;
    return 0;
}

/* An appliance as a whole. */
static int show_package(struct cli *cli, const char *path, const char *format,
                        const struct pl_fact *facts, struct pl_err *e)
{
    json_t *info;

    if (!cli->json) {
        print_line("package", path);
        print_line("package format", format);
        output_facts(facts, 0);
        return 0;
    }
    info = json_object();
    json_object_set_new(info, "filename", output_json_text(path));
    json_object_set_new(info, "format", json_string(format));
    json_object_set_new(info, "package", output_json_facts(facts));
    return output_json(info, e);
}

/* 1: it is none, or one of its disks is asked for. */
static int try_package(struct cli *cli, const struct info_args *a, struct pl_err *e)
{
    const char *path = cli->operands.item[0];
    const struct pl_open_options options = {
        .format = a->open.format,
        .authorities = a->open.authorities,
        .force_share = a->open.force_share,
        .allowed_dirs = a->open.allow_dirs.item,
        .report = &cli->report,
    };
    struct pl_fact *facts;
    const char *format;
    int result;

    if (a->open.disk || !strcmp(path, "-"))
        return 1;
    result = pl_package_facts(path, &options, &format, &facts, e);
    if (result == 0)
        result = show_package(cli, path, format, facts, e);
    pl_facts_free(facts);
    return result;
}

static int run_info(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct info_args *a = args;
    const struct pl_open_options options = { .no_parent = !a->backing_chain,
                                             .describe_only = true };
    json_t *list = NULL;
    SCOPED_IMAGE img = NULL;
    int result = try_package(cli, a, e);

    if (result != 1)
        return result;
    if (image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    if (cli->json)
        list = json_array();
    result = show_all(img, a->backing_chain, list, e);
    if (result == 0 && list)
        result = output_json(
            a->backing_chain ? json_incref(list) : json_incref(json_array_get(list, 0)), e);
    json_decref(list);
    return result;
}

const struct pl_command pl_cmd_info = {
    .name = "info",
    .operands = "IMAGE",
    .summary = "Show what an image is: format, sizes, parent, snapshots",
    .opts = info_opts,
    .args_size = sizeof(struct info_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_info,
};
