/* cmd_bitmap.c - changes the persistent bitmaps of an image, one step after the other. */
#include <stdio.h>
#include <string.h>

#include "cli/image_open.h"
#include "cli/output.h"
#include "core/base/checked.h"

struct bitmap_args {
    struct common_args common;
    struct open_args open;
    struct step_list steps;
    const char *source_file, *source_format;
    struct opt_size granularity;
};

static const struct pl_opt bitmap_opts[] = {
    { "add", 0, OPT_STEP, offsetof(struct bitmap_args, steps),
      .help = "make the bitmap, with no bit set; it records writes" },
    { "remove", 0, OPT_STEP, offsetof(struct bitmap_args, steps),
      .help = "remove the bitmap, also an inconsistent one" },
    { "clear", 0, OPT_STEP, offsetof(struct bitmap_args, steps), .help = "unset all its bits" },
    { "enable", 0, OPT_STEP, offsetof(struct bitmap_args, steps),
      .help = "it records writes from now on" },
    { "disable", 0, OPT_STEP, offsetof(struct bitmap_args, steps),
      .help = "it stays as it is, whatever is written" },
    { "merge", 0, OPT_STEP_TEXT, offsetof(struct bitmap_args, steps), .metavar = "SOURCE",
      .help = "set in it what is set in the bitmap SOURCE" },
    { "source-file", 'b', OPT_TEXT, offsetof(struct bitmap_args, source_file), .metavar = "FILE",
      .help = "the image that has the bitmaps named by --merge (the image itself)" },
    { "source-format", 'F', OPT_TEXT, offsetof(struct bitmap_args, source_format),
      .metavar = "FORMAT", .help = "the format of that image; without it, its content tells" },
    { "granularity", 'g', OPT_SIZE, offsetof(struct bitmap_args, granularity), .metavar = "SIZE",
      .help = "bytes for each bit of what --add makes (the cluster size, from 4k to 64k)" },
    OPT_FORMAT(struct bitmap_args, "the image's format; without it, its content tells"),
    OPT_ALLOW_DIR(struct bitmap_args),
    OPT_COMMON(struct bitmap_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* ---- the command line ---- */

static bool has_step(const struct bitmap_args *a, const char *name)
{
    for (size_t i = 0; i < a->steps.count; i++)
        if (!strcmp(a->steps.item[i].name, name))
            return true;
    return false;
}

static int check_args(const struct bitmap_args *a, struct pl_err *e)
{
    if (!a->steps.count)
        return pl_fail(e, PL_E_INVALID,
                       "bitmap: need at least one of --add, --remove, --clear, --enable, "
                       "--disable and --merge");
    if (a->granularity.given && !has_step(a, "add"))
        return pl_fail(e, PL_E_INVALID, "bitmap: --granularity goes with --add only");
    if (a->source_file && !has_step(a, "merge"))
        return pl_fail(e, PL_E_INVALID, "bitmap: --source-file goes with --merge only");
    if (a->source_format && !a->source_file)
        return pl_fail(e, PL_E_INVALID, "bitmap: --source-format goes with --source-file only");
    return image_check_format(a->source_format, e);
}

/* ---- the steps ---- */

/* The images and the bitmap that all steps are about. */
struct work {
    struct pl_image *img, *source;
    const char *bitmap;
    uint64_t granularity;
};

static int add(const struct work *w, const struct step *step, struct pl_err *e)
{
    (void)step;
    return pl_bitmap_add(w->img, w->bitmap, w->granularity, e);
}

static int take_away(const struct work *w, const struct step *step, struct pl_err *e)
{
    (void)step;
    return pl_bitmap_remove(w->img, w->bitmap, e);
}

static int clear(const struct work *w, const struct step *step, struct pl_err *e)
{
    (void)step;
    return pl_bitmap_clear(w->img, w->bitmap, e);
}

static int enable(const struct work *w, const struct step *step, struct pl_err *e)
{
    return pl_bitmap_enable(w->img, w->bitmap, !strcmp(step->name, "enable"), e);
}

static int merge(const struct work *w, const struct step *step, struct pl_err *e)
{
    return pl_bitmap_merge(w->img, w->bitmap, w->source, step->value, e);
}

static int take_step(const struct work *w, const struct step *step, struct pl_err *e)
{
    static const struct {
        const char *name;
        int (*run)(const struct work *w, const struct step *step, struct pl_err *e);
    } kinds[] = { { "add", add },       { "remove", take_away }, { "clear", clear },
                  { "enable", enable }, { "disable", enable },   { "merge", merge } };

    for (size_t i = 0; i < PL_COUNT(kinds); i++)
        if (!strcmp(kinds[i].name, step->name))
            return kinds[i].run(w, step, e);
    return pl_fail(e, PL_E_INVALID, "bitmap: unknown step --%s", step->name);
}

static int take_steps(const struct bitmap_args *a, const struct work *w, struct pl_err *e)
{
    for (size_t i = 0; i < a->steps.count; i++)
        if (take_step(w, &a->steps.item[i], e) < 0)
            return pl_within(e, "bitmap '%s', --%s", w->bitmap, a->steps.item[i].name);
    return pl_flush(w->img, e);
}

/* ---- the command ---- */

static int tell(const struct cli *cli, const struct bitmap_args *a, const struct work *w,
                struct pl_err *e)
{
    json_t *result, *steps;

    if (!cli->json)
        return 0;
    result = json_object();
    steps = json_array();
    for (size_t i = 0; i < a->steps.count; i++)
        json_array_append_new(steps, json_string(a->steps.item[i].name));
    json_object_set_new(result, "filename", output_json_text(pl_path(w->img)));
    json_object_set_new(result, "bitmap", output_json_text(w->bitmap));
    json_object_set_new(result, "done", steps);
    return output_json(result, e);
}

static int open_source(struct cli *cli, const struct bitmap_args *a, struct pl_image **out,
                       struct pl_err *e)
{
    const struct pl_open_options options = { .no_parent = true };
    struct open_args open = a->open;

    *out = NULL;
    if (!a->source_file)
        return 0;
    open.format = a->source_format;
    return image_open(cli, &open, a->source_file, options, out, e);
}

static int change(struct cli *cli, const struct bitmap_args *a, struct pl_image *img,
                  struct pl_err *e)
{
    struct work w = { .img = img,
                      .bitmap = cli->operands.item[1],
                      .granularity = a->granularity.bytes };
    SCOPED_IMAGE source = NULL;

    if (open_source(cli, a, &source, e) < 0)
        return -1;
    w.source = source ? source : img;
    return take_steps(a, &w, e) < 0 ? -1 : tell(cli, a, &w, e);
}

static int run_bitmap(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct bitmap_args *a = args;
    const struct pl_open_options options = { .writable = true, .no_parent = true };
    struct pl_image *img;
    int result;

    if (check_args(a, e) < 0 ||
        image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    result = change(cli, a, img, e);
    if (pl_close(img, result < 0 ? NULL : e) < 0)
        return -1;
    return result;
}

const struct pl_command pl_cmd_bitmap = {
    .name = "bitmap",
    .operands = "IMAGE BITMAP",
    .summary = "Add, remove and change persistent bitmaps",
    .opts = bitmap_opts,
    .args_size = sizeof(struct bitmap_args),
    .min_operands = 2,
    .max_operands = 2,
    .operand_error = "expecting one image and the name of a bitmap",
    .error_status = 1,
    .run = run_bitmap,
};
