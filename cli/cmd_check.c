/* cmd_check.c - looks for defects of an image's own tables, and mends them if asked.
 *
 * Exit status: 0 sound (now), 1 the check could not be completed, 2 corrupt, 3 leaked space only,
 * 63 the format has no checks. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/check_undo.h"
#include "cli/message.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "core/base/scope.h"

enum check_status { SOUND = 0, INCOMPLETE = 1, CORRUPT = 2, LEAKS = 3, NO_CHECKS = 63 };

struct check_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    struct undo_args undo;
    unsigned repair; /* enum pl_repair */
};

static const char *const repair_choices[] = { "none", "leaks", "all", NULL }; /* enum pl_repair */

static const struct pl_opt check_opts[] = {
    OPT_FORMAT(struct check_args, "the image's format; without it, its content tells"),
    { "repair", 'r', OPT_CHOICE, offsetof(struct check_args, repair), .metavar = "WHAT",
      .help = "mend what is found: leaks (lost space, always safe) or all",
      .choices = repair_choices },
    OPT_UNDO(struct check_args),
    OPT_FORCE_SHARE(struct check_args),
    OPT_PROGRESS(struct check_args),
    OPT_SOURCE_CACHE(struct check_args),
    OPT_ALLOW_DIR(struct check_args),
    OPT_COMMON(struct check_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* What there is to print. */
struct outcome {
    const char *image, *format;
    const char *undo_file; /* null: nothing was changed, or nothing kept */
    struct pl_check_result result;
};

static double percent(uint64_t part, uint64_t whole)
{
    return 100.0 * (double)part / (double)whole;
}

static void print_defects(const struct pl_check_result *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors)
        puts("No errors were found on the image.");
    if (r->corruptions)
        printf("\n%" PRIu64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               r->corruptions);
    if (r->leaks)
        printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               r->leaks);
    if (r->check_errors)
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n", r->check_errors);
}

static void print_human(const struct pl_check_result *r)
{
    print_defects(r);
    if (r->has_allocation && r->total_clusters && r->allocated_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, "
               "%.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               percent(r->allocated_clusters, r->total_clusters),
               percent(r->fragmented_clusters, r->allocated_clusters),
               percent(r->compressed_clusters, r->allocated_clusters));
    if (r->image_end_offset)
        printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
}

static void print_repaired(const struct pl_check_result *r)
{
    printf("The following inconsistencies were found and repaired:\n\n"
           "    %" PRIu64 " leaked clusters\n    %" PRIu64 " corruptions\n\n"
           "Double checking the fixed image now...\n",
           r->leaks_fixed, r->corruptions_fixed);
}

static void add(json_t *object, const char *name, uint64_t n)
{
    if (n)
        json_object_set_new(object, name, output_json_number(n));
}

/* As qemu-img: a count of zero is left out, but for check-errors. */
static int print_json(const struct outcome *o, struct pl_err *e)
{
    const struct pl_check_result *r = &o->result;
    json_t *result = json_object();

    add(result, "image-end-offset", r->image_end_offset);
    add(result, "compressed-clusters", r->compressed_clusters);
    add(result, "total-clusters", r->total_clusters);
    add(result, "corruptions", r->corruptions);
    add(result, "corruptions-fixed", r->corruptions_fixed);
    add(result, "leaks", r->leaks);
    add(result, "leaks-fixed", r->leaks_fixed);
    json_object_set_new(result, "check-errors", output_json_number(r->check_errors));
    add(result, "allocated-clusters", r->allocated_clusters);
    json_object_set_new(result, "filename", output_json_text(o->image));
    json_object_set_new(result, "format", json_string(o->format));
    add(result, "fragmented-clusters", r->fragmented_clusters);
    if (o->undo_file)
        json_object_set_new(result, "undo-file", output_json_text(o->undo_file));
    return output_json(result, e);
}

/* Findings are the result of a check, not warnings about it. */
static void print_finding(void *ctx, const char *message)
{
    const struct progress *p = ctx;

    if (p->cli->json) {
        message_warning(p->cli, message);
        return;
    }
    fflush(stdout);
    message_text(stderr, message);
    fputc('\n', stderr);
}

static enum check_status status_of(const struct pl_check_result *r)
{
    if (r->check_errors)
        return INCOMPLETE;
    if (r->corruptions)
        return CORRUPT;
    return r->leaks ? LEAKS : SOUND;
}

static int check(struct cli *cli, const struct check_args *a, struct pl_image *img,
                 const struct pl_report *report, struct pl_check_result *r, struct pl_err *e)
{
    struct pl_check_result again = { 0 };

    if (pl_check(img, (enum pl_repair)a->repair, report, r, e) < 0)
        return -1;
    if (!r->leaks_fixed && !r->corruptions_fixed)
        return 0;
    if (!cli->json && !cli->quiet)
        print_repaired(r);
    if (pl_check(img, PL_REPAIR_NONE, report, &again, e) < 0)
        return -1;
    again.leaks_fixed = r->leaks_fixed;
    again.corruptions_fixed = r->corruptions_fixed;
    *r = again;
    return 0;
}

static int check_image(struct cli *cli, const struct check_args *a, struct pl_image *img,
                       struct pl_check_result *r, struct pl_err *e)
{
    struct progress progress;
    int result;

    if (progress_start(&progress, cli, &a->progress, false, e) < 0)
        return -1;
    progress.report.warn = print_finding;
    result = check(cli, a, img, &progress.report, r, e);
    progress_end(&progress, result == 0);
    if (result < 0)
        cli->error_status = e->kind == PL_E_UNSUPPORTED ? NO_CHECKS : INCOMPLETE;
    return result;
}

static int tell(const struct cli *cli, const struct outcome *o, struct pl_err *e)
{
    if (cli->json)
        return print_json(o, e);
    if (cli->quiet)
        return 0;
    print_human(&o->result);
    if (o->undo_file) {
        fputs("The state before the repair is kept in ", stdout);
        message_text(stdout, o->undo_file);
        puts(" (check --undo takes it back).");
    }
    return 0;
}

/* Opens, checks and closes: only then is it known what was changed. */
static int run_on_image(struct cli *cli, const struct check_args *a, struct outcome *o,
                        struct pl_keep_undo *keep, struct pl_err *e)
{
    const struct pl_open_options options = { .writable = a->repair != PL_REPAIR_NONE,
                                             .check_only = true,
                                             .no_parent = true,
                                             .undo = a->undo.none || !a->repair ? NULL : keep };
    struct pl_image *img;
    int result;

    if (image_open(cli, &a->open, o->image, options, &img, e) < 0)
        return -1;
    o->format = pl_format(img);
    result = check_image(cli, a, img, &o->result, e);
    return pl_close(img, result < 0 ? NULL : e) < 0 ? -1 : result;
}

static int run_check(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct check_args *a = args;
    struct outcome o = { .image = cli->operands.item[0] };
    struct pl_keep_undo keep = { .file = a->undo.file };
    PL_FREE char *path = NULL;
    int result;

    if (check_undo_args(&a->undo, a->repair != PL_REPAIR_NONE, a->open.force_share, e) < 0)
        return -1;
    if (a->undo.undo)
        return check_undo(cli, &a->open, &a->undo, o.image, e);
    result = run_on_image(cli, a, &o, &keep, e);
    if (keep.kept)
        o.undo_file = path = check_undo_path(&a->undo, o.image);
    if (result < 0 && keep.kept)
        pl_warn(&cli->report, "%s: what was changed until then can be taken back by check --undo",
                o.image);
    return result < 0 || tell(cli, &o, e) < 0 ? -1 : (int)status_of(&o.result);
}

const struct pl_command pl_cmd_check = {
    .name = "check",
    .operands = "IMAGE",
    .summary = "Look for defects of an image, and mend them if asked",
    .opts = check_opts,
    .args_size = sizeof(struct check_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "expecting one image",
    .error_status = 1,
    .run = run_check,
};
