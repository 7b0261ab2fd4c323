/* cmd_map.c - where the bytes of a disk are: every run of guest addresses with its file and
 * offset. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/image_open.h"
#include "cli/message.h"
#include "cli/output.h"
#include "core/base/checked.h"

struct map_args {
    struct common_args common;
    struct open_args open;
    struct opt_size start, max_length;
};

static const struct pl_opt map_opts[] = {
    OPT_FORMAT(struct map_args, "the image's format; without it, its content tells"),
    { "start-offset", 's', OPT_SIZE, offsetof(struct map_args, start), .metavar = "OFFSET",
      .help = "begin at this guest address (0)" },
    { "max-length", 'l', OPT_SIZE, offsetof(struct map_args, max_length), .metavar = "LENGTH",
      .help = "end after so many bytes" },
    OPT_FORCE_SHARE(struct map_args),
    OPT_DISK(struct map_args),
    OPT_ALLOW_DIR(struct map_args),
    OPT_COMMON(struct map_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

struct map_writer {
    bool json;
    bool any; /* something was printed */
};

static int print_human(const struct pl_run *run, struct pl_err *e)
{
    if (!run->data)
        return 0;
    if (!run->has_offset) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "map: the bytes at guest address %" PRIu64 " are compressed, encrypted or in an "
                "external file: they have no offset to print",
                run->at);
        return pl_hint(e, "--output=json shows such runs too");
    }
    if (run->zero)
        return 0;
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64, run->at, run->len, run->offset);
    message_text(stdout, run->file);
    putchar('\n');
    return 0;
}

static const char *json_word(bool value)
{
    return value ? "true" : "false";
}

/* A line a run: maps can be long, so the list is never held in memory. */
static void print_json(struct map_writer *w, const struct pl_run *run)
{
    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, "
           "\"zero\": %s, \"data\": %s",
           w->any ? ",\n" : "", run->at, run->len, run->depth, json_word(run->present),
           json_word(run->zero), json_word(run->data));
    if (run->has_offset)
        printf(", \"offset\": %" PRIu64, run->offset);
    putchar('}');
    w->any = true;
}

static int print_run(struct map_writer *w, const struct pl_run *run, struct pl_err *e)
{
    if (!w->json)
        return print_human(run, e);
    print_json(w, run);
    return 0;
}

/* Whether `next` says of its range what `run` says of the one before it. */
static bool continues(const struct pl_run *run, const struct pl_run *next)
{
    if (run->depth != next->depth || run->present != next->present || run->zero != next->zero ||
        run->data != next->data || run->has_offset != next->has_offset)
        return false;
    return !run->has_offset ||
           (run->offset + run->len == next->offset && !strcmp(run->file, next->file));
}

static int print_runs(struct map_writer *w, struct cli *cli, struct pl_image *img, uint64_t at,
                      uint64_t end, struct pl_err *e)
{
    struct pl_run run = { 0 }, next;

    for (; at < end; at += next.len) {
        if (pl_check_cancelled(&cli->report, e) < 0 || pl_map(img, at, end - at, &next, e) < 0)
            return -1;
        if (run.len && continues(&run, &next)) {
            run.len += next.len;
            continue;
        }
        if (run.len && print_run(w, &run, e) < 0)
            return -1;
        run = next;
    }
    return run.len ? print_run(w, &run, e) : 0;
}

static int run_map(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct map_args *a = args;
    struct map_writer writer = { .json = cli->json };
    SCOPED_IMAGE img = NULL;
    uint64_t start, end;

    if (image_open(cli, &a->open, cli->operands.item[0], (struct pl_open_options){ 0 }, &img, e) <
        0)
        return -1;
    start = PL_MIN(a->start.bytes, pl_size(img));
    end = pl_size(img);
    if (a->max_length.given)
        end = start + PL_MIN(a->max_length.bytes, end - start);
    if (cli->json)
        putchar('[');
    else
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    if (print_runs(&writer, cli, img, start, end, e) < 0)
        return -1;
    if (cli->json)
        puts("]");
    return 0;
}

const struct pl_command pl_cmd_map = {
    .name = "map",
    .operands = "IMAGE",
    .summary = "Show where the bytes of a disk are, through its whole chain",
    .opts = map_opts,
    .args_size = sizeof(struct map_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_map,
};
