/* cmd_bench.c - how fast an image reads or writes; words and options are those of qemu-img. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "cli/image_open.h"
#include "cli/output.h"

struct bench_args {
    struct common_args common;
    struct open_args open;
    const char *count, *depth, *pattern, *flush_interval;
    struct opt_size offset, size, step;
    unsigned cache, aio;
    bool native, no_drain, write;
};

static const char *const aio_choices[] = { "threads", "native", "io_uring", NULL };

static const struct pl_opt bench_opts[] = {
    OPT_FORMAT(struct bench_args, "the image's format; without it, its content tells"),
    { "count", 'c', OPT_TEXT, offsetof(struct bench_args, count), .metavar = "N",
      .help = "number of requests (75000)" },
    { "depth", 'd', OPT_TEXT, offsetof(struct bench_args, depth), .metavar = "N",
      .help = "requests at once, each from a thread of its own (64)" },
    { "write", 'w', OPT_FLAG, offsetof(struct bench_args, write),
      .help = "write, which overwrites what the image has; without it, read" },
    { "offset", 'o', OPT_SIZE, offsetof(struct bench_args, offset), .metavar = "SIZE",
      .help = "where the first request is (0)" },
    { "buffer-size", 's', OPT_SIZE, offsetof(struct bench_args, size), .metavar = "SIZE",
      .help = "bytes of each request (4k)" },
    { "step-size", 'S', OPT_SIZE, offsetof(struct bench_args, step), .metavar = "SIZE",
      .help = "from one request to the next (the buffer size)" },
    { "pattern", 0, OPT_TEXT, offsetof(struct bench_args, pattern), .metavar = "BYTE",
      .help = "what is written: a number from 0 to 255 (0)" },
    { "flush-interval", 0, OPT_TEXT, offsetof(struct bench_args, flush_interval), .metavar = "N",
      .help = "flush after so many writes, when those under way are over" },
    { "no-drain", 0, OPT_FLAG, offsetof(struct bench_args, no_drain),
      .help = "flush without waiting for the writes under way" },
    { "cache", 't', OPT_CHOICE, offsetof(struct bench_args, cache), .metavar = "MODE",
      .help = "accepted for qemu-img's sake, without effect", .choices = cache_choices },
    { "aio", 'i', OPT_CHOICE, offsetof(struct bench_args, aio), .metavar = "MODE",
      .help = "accepted for qemu-img's sake, without effect", .choices = aio_choices },
    { "native", 'n', OPT_FLAG, offsetof(struct bench_args, native),
      .help = "accepted for qemu-img's sake, without effect" },
    OPT_FORCE_SHARE(struct bench_args),
    OPT_ALLOW_DIR(struct bench_args),
    OPT_COMMON(struct bench_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* A number in text, `otherwise` where there is none. */
static int read_number(const char *text, const char *what, const uint64_t range[2],
                       uint64_t otherwise, uint64_t *n, struct pl_err *e)
{
    *n = otherwise;
    if (!text || pl_parse_number(text, range[0], range[1], n, NULL) == 0)
        return 0;
    return pl_fail(e, PL_E_INVALID,
                   "Invalid %s specified: '%s' is not a number from %" PRIu64 " to %" PRIu64, what,
                   text, range[0], range[1]);
}

static int read_sizes(const struct bench_args *a, struct pl_bench_options *o, struct pl_err *e)
{
    const uint64_t size = a->size.given ? a->size.bytes : 4096;

    if (size < 1 || size > INT_MAX)
        return pl_fail(e, PL_E_INVALID, "Invalid buffer size specified: it must be from 1 to %d",
                       INT_MAX);
    o->size = (uint32_t)size;
    o->offset = a->offset.bytes;
    o->step = a->step.bytes ? a->step.bytes : size;
    return 0;
}

static int read_options(const struct cli *cli, const struct bench_args *a,
                        struct pl_bench_options *o, struct pl_err *e)
{
    static const uint64_t counts[] = { 0, INT_MAX }, depths[] = { 1, PL_BENCH_DEPTH_MAX },
                          bytes[] = { 0, 255 };
    uint64_t depth, pattern;

    *o = (struct pl_bench_options){ .write = a->write,
                                    .no_drain = a->no_drain,
                                    .report = &cli->report };
    if (read_number(a->count, "request count", counts, 75000, &o->count, e) < 0 ||
        read_number(a->depth, "queue depth", depths, 64, &depth, e) < 0 ||
        read_number(a->pattern, "pattern byte", bytes, 0, &pattern, e) < 0 ||
        read_number(a->flush_interval, "flush interval", counts, 0, &o->flush_interval, e) < 0)
        return -1;
    o->depth = (unsigned)depth;
    o->pattern = (uint8_t)pattern;
    return read_sizes(a, o, e);
}

static void announce(const struct pl_bench_options *o)
{
    printf("Sending %" PRIu64 " %s requests, %u bytes each, %u in parallel "
           "(starting at offset %" PRIu64 ", step size %" PRIu64 ")\n",
           o->count, o->write ? "write" : "read", o->size, o->depth, o->offset, o->step);
    if (o->flush_interval)
        printf("Sending flush every %" PRIu64 " requests\n", o->flush_interval);
    fflush(stdout);
}

static int print_json(const struct pl_image *img, const struct pl_bench_options *o, double seconds,
                      struct pl_err *e)
{
    const double rate = seconds > 0 ? (double)o->count / seconds : 0;
    json_t *result = json_object();

    json_object_set_new(result, "filename", output_json_text(pl_path(img)));
    json_object_set_new(result, "format", json_string(pl_format(img)));
    json_object_set_new(result, "operation", json_string(o->write ? "write" : "read"));
    json_object_set_new(result, "requests", output_json_number(o->count));
    json_object_set_new(result, "depth", output_json_number(o->depth));
    json_object_set_new(result, "buffer-size", output_json_number(o->size));
    json_object_set_new(result, "offset", output_json_number(o->offset));
    json_object_set_new(result, "step-size", output_json_number(o->step));
    if (o->flush_interval)
        json_object_set_new(result, "flush-interval", output_json_number(o->flush_interval));
    json_object_set_new(result, "seconds", json_real(seconds));
    json_object_set_new(result, "requests-per-second", json_real(rate));
    json_object_set_new(result, "bytes-per-second", json_real(rate * o->size));
    return output_json(result, e);
}

/* What was flushed is part of the time; closing is not. */
static int bench(const struct cli *cli, struct pl_image *img, const struct pl_bench_options *o,
                 struct pl_err *e)
{
    double seconds;

    if (pl_bench_check(img, o, e) < 0)
        return -1;
    if (!cli->json && !cli->quiet)
        announce(o);
    if (pl_bench(img, o, &seconds, e) < 0)
        return -1;
    if (cli->json)
        return print_json(img, o, seconds, e);
    printf("Run completed in %3.3f seconds.\n", seconds);
    return 0;
}

static int run_bench(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct bench_args *a = args;
    const struct pl_open_options options = { .writable = a->write };
    struct pl_bench_options o;
    struct pl_image *img;
    int result;

    if (read_options(cli, a, &o, e) < 0 ||
        image_open(cli, &a->open, cli->operands.item[0], options, &img, e) < 0)
        return -1;
    result = bench(cli, img, &o, e);
    return pl_close(img, result < 0 ? NULL : e) < 0 ? -1 : result;
}

const struct pl_command pl_cmd_bench = {
    .name = "bench",
    .operands = "IMAGE",
    .summary = "Measure how fast an image reads or writes",
    .opts = bench_opts,
    .args_size = sizeof(struct bench_args),
    .min_operands = 1,
    .max_operands = 1,
    .operand_error = "Expecting one image file name",
    .error_status = 1,
    .run = run_bench,
};
