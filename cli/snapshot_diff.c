#include "cli/snapshot_diff.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/output.h"

struct writer {
    bool json;
    bool begun; /* what comes before the ranges was printed */
    bool any;   /* a range was */
    const char *path, *from, *to;
};

/* A JSON string, or null where there is no text. */
static int print_member(const char *name, const char *text, struct pl_err *e)
{
    json_t *value = text ? output_json_text(text) : json_null();

    if (!value)
        return pl_fail(e, PL_E_NOMEM, "no memory for the result");
    printf("\"%s\": ", name);
    json_dumpf(value, stdout, JSON_ENCODE_ANY);
    fputs(",\n", stdout);
    json_decref(value);
    return 0;
}

/* Printed when it is known that both states are there. */
static int begin(struct writer *w, struct pl_err *e)
{
    if (w->begun)
        return 0;
    w->begun = true;
    if (!w->json) {
        printf("%-18s%-18s%s\n", "Offset", "Length", "Now");
        return 0;
    }
    putchar('{');
    if (print_member("filename", w->path, e) < 0 || print_member("from", w->from, e) < 0 ||
        print_member("to", w->to, e) < 0)
        return -1;
    fputs("\"ranges\": [", stdout);
    return 0;
}

/* Lists can be long: each range is printed as it is found. */
static int print_run(void *ctx, const struct pl_changed_run *run, struct pl_err *e)
{
    struct writer *w = ctx;

    if (begin(w, e) < 0)
        return -1;
    if (w->json)
        printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"zero\": %s }",
               w->any ? ",\n" : "", run->at, run->len, run->zero ? "true" : "false");
    else
        printf("%#-18" PRIx64 "%#-18" PRIx64 "%s\n", run->at, run->len,
               run->zero ? "zeros" : "data");
    w->any = true;
    return 0;
}

static void print_sum(const struct pl_diff_result *r)
{
    char changed[32];

    if (r->from_size != r->to_size)
        printf("Size: %" PRIu64 " bytes before, %" PRIu64 " bytes now\n", r->from_size, r->to_size);
    printf("Changed: %s (%" PRIu64 " bytes) in %" PRIu64 " range%s\n",
           pl_format_size(r->changed, changed), r->changed, r->runs, r->runs == 1 ? "" : "s");
}

int snapshot_diff(struct cli *cli, const char *path, const char *from, const char *to,
                  const struct pl_state_options *options, struct pl_err *e)
{
    struct writer writer = { .json = cli->json, .path = path, .from = from, .to = to };
    const struct pl_diff_options how = { .common = *options, .run = print_run, .ctx = &writer };
    struct pl_diff_result r;

    if (pl_state_diff(path, from, to, &how, &r, e) < 0 || begin(&writer, e) < 0)
        return -1;
    if (cli->json)
        printf("],\n\"from-size\": %" PRIu64 ", \"to-size\": %" PRIu64 ", \"changed\": %" PRIu64
               ", \"count\": %" PRIu64 "}\n",
               r.from_size, r.to_size, r.changed, r.runs);
    else
        print_sum(&r);
    return 0;
}
