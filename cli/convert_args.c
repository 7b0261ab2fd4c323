#include "cli/convert_args.h"

#include <string.h>
#include <unistd.h>

#include "core/base/checked.h"

#define SPARSE_MAX (16 * PL_MIB) /* the most that qemu-img takes */

const struct pl_opt convert_opts[] = {
    OPT_FORMAT(struct convert_args, "format of the sources; without it, their content tells"),
    { "target-format", 'O', OPT_TEXT, offsetof(struct convert_args, format), .metavar = "FORMAT",
      .help = "format of the target (raw)" },
    OPT_CREATE_OPTIONS(struct convert_args),
    { "compress", 'c', OPT_FLAG, offsetof(struct convert_args, compress),
      .help = "compress the target" },
    { "backing-file", 'B', OPT_TEXT, offsetof(struct convert_args, parent), .metavar = "FILE",
      .help = "make the target an overlay of FILE and leave out what both read alike" },
    { "backing-format", 'F', OPT_TEXT, offsetof(struct convert_args, parent_format),
      .metavar = "FORMAT", .help = "format of the backing file" },
    { "snapshot", 'l', OPT_TEXT, offsetof(struct convert_args, snapshot), .metavar = "SNAPSHOT",
      .help = "copy this internal snapshot: id, name, or snapshot.id=ID,snapshot.name=NAME" },
    { "no-create", 'n', OPT_FLAG, offsetof(struct convert_args, existing),
      .help = "the target exists: overwrite its content in place" },
    { "target-is-zero", 0, OPT_FLAG, offsetof(struct convert_args, target_is_zero),
      .help = "with -n: the target reads as zeros, so zeros need not be written" },
    { "sparse-size", 'S', OPT_SIZE, offsetof(struct convert_args, sparse), .metavar = "SIZE",
      .help = "zeros of at least SIZE stay sparse (4k); 0: allocate the whole target" },
    { "bitmaps", 0, OPT_FLAG, offsetof(struct convert_args, bitmaps),
      .help = "copy the persistent bitmaps too" },
    { "skip-broken-bitmaps", 0, OPT_FLAG, offsetof(struct convert_args, skip_broken_bitmaps),
      .help = "with --bitmaps: leave out those that were not closed cleanly" },
    { "salvage", 0, OPT_FLAG, offsetof(struct convert_args, salvage),
      .help = "read unreadable parts as zeros, with a warning, instead of giving up" },
    { "verify", 0, OPT_FLAG, offsetof(struct convert_args, verify),
      .help = "read the target again and compare" },
    { "checksum", 0, OPT_TEXT, offsetof(struct convert_args, checksum), .metavar = "ALGORITHM",
      .help = "print ALGORITHM:HEX of the disk's content; on standard error if the target is '-'" },
    { "reproducible", 0, OPT_FLAG, offsetof(struct convert_args, reproducible),
      .help = "derive identifiers and times, so that equal input gives equal files" },
    { "rate-limit", 'r', OPT_SIZE, offsetof(struct convert_args, rate), .metavar = "RATE",
      .help = "copy at most RATE bytes a second" },
    OPT_WORKERS(struct convert_args),
    { "parallel", 'm', OPT_COUNT, offsetof(struct convert_args, workers), .metavar = "N",
      .help = "the same as --workers, by qemu-img's name", .max = 16 },
    { "out-of-order", 'W', OPT_FLAG, offsetof(struct convert_args, out_of_order),
      .help = "accepted for qemu-img's sake: the order of writes never costs time" },
    { "copy-range", 'C', OPT_FLAG, offsetof(struct convert_args, share),
      .help = "accepted for qemu-img's sake: the host copies what it can anyway" },
    { "no-share", 0, OPT_FLAG, offsetof(struct convert_args, no_share),
      .help = "never share blocks of the host between source and target" },
    { "cache", 't', OPT_CHOICE, offsetof(struct convert_args, target_cache), .metavar = "MODE",
      .help = "'unsafe' leaves it to the host when the target reaches the disk; else it is synced",
      .choices = cache_choices },
    OPT_SOURCE_CACHE(struct convert_args),
    OPT_FORCE_SHARE(struct convert_args),
    OPT_DISK(struct convert_args),
    OPT_ALLOW_DIR(struct convert_args),
    OPT_PROGRESS(struct convert_args),
    OPT_COMMON(struct convert_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { "target-image-opts", 0, OPT_REFUSED_FLAG, 0,
      .help = "give the name of the target and its format with --target-format (-O)" },
    { 0 },
};

/* Combinations that contradict each other: the first row whose condition holds is the error. */
static int check_combinations(const struct convert_args *a, size_t sources, struct pl_err *e)
{
    const struct {
        bool wrong;
        const char *message;
    } rows[] = {
        { a->target_is_zero && !a->existing, "--target-is-zero needs --no-create (-n)" },
        { a->target_is_zero && a->parent,
          "--target-is-zero and --backing-file (-B) exclude each other" },
        { a->skip_broken_bitmaps && !a->bitmaps, "--skip-broken-bitmaps needs --bitmaps" },
        { a->bitmaps && sources > 1, "bitmaps can be copied from a single source only" },
        { a->parent && sources > 1, "a target made of several sources cannot be an overlay" },
        { a->snapshot && sources > 1, "a snapshot can be taken from a single source only" },
        { a->share && a->compress, "--copy-range (-C) and --compress (-c) exclude each other" },
        { a->share && a->sparse.given, "--copy-range (-C) and --sparse-size (-S) exclude each "
                                       "other" },
        { a->share && a->no_share, "--copy-range (-C) and --no-share exclude each other" },
        { a->sparse.bytes % 512 || a->sparse.bytes > SPARSE_MAX,
          "--sparse-size: valid sizes are multiples of 512 up to 16M, and 0" },
        { a->rate.given && !a->rate.bytes, "--rate-limit: 0 bytes a second would never end" },
    };

    for (unsigned i = 0; i < PL_COUNT(rows); i++)
        if (rows[i].wrong)
            return pl_fail(e, PL_E_INVALID, "convert: %s", rows[i].message);
    return 0;
}

/* Standard output takes what is written front to back, and not on a terminal. */
static int check_target(const struct convert_args *a, const char *target, struct pl_err *e)
{
    const char *format = a->format ? a->format : "raw";
    struct pl_format_info info;

    if (strcmp(target, "-") != 0)
        return 0;
    if (a->existing)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "convert: --no-create (-n): standard output is no image that exists");
    if (pl_format_find(format, &info, e) < 0)
        return -1;
    if (!info.can_stream) {
        pl_fail(e, PL_E_UNSUPPORTED, "convert: %s cannot be written to standard output", format);
        return pl_hint(e, "platter formats shows which formats can be streams");
    }
    if (!isatty(STDOUT_FILENO))
        return 0;
    pl_fail(e, PL_E_INVALID, "convert: a disk image is not written to a terminal");
    return pl_hint(e, "redirect standard output to a file or a pipe");
}

int convert_check(const struct convert_args *a, const struct create_options *o,
                  const struct operands *operands, struct pl_err *e)
{
    if (image_check_format(a->format, e) < 0 || image_check_format(a->parent_format, e) < 0 ||
        check_combinations(a, operands->count - 1, e) < 0 ||
        check_target(a, operands->item[operands->count - 1], e) < 0)
        return -1;
    if (a->parent_format && !a->parent && !o->parent)
        return pl_fail(e, PL_E_INVALID, "convert: a backing format is given, but no backing file");
    if (o->size.given)
        return pl_fail(e, PL_E_INVALID, "convert: the size is that of the sources");
    return 0;
}
