#include "cli/new_image_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/image_open.h"
#include "cli/message.h"
#include "cli/output.h"

/* What is shown of a new image, in this order; `fact` is its name among the format's facts. */
static const struct shown {
    const char *option;
    const char *fact;      /* null: shown only when it was given */
    const char *otherwise; /* when there is no such fact */
} shown[] = {
    { "cluster_size", NULL, NULL },
    { "extended_l2", "extended-l2", "off" },
    { "preallocation", NULL, NULL },
    { "compression_type", "compression-type", "zlib" },
    { "size", NULL, NULL },
    { "backing_file", NULL, NULL },
    { "backing_fmt", NULL, NULL },
    { "compat", NULL, NULL },
    { "data_file", NULL, NULL },
    { "data_file_raw", NULL, NULL },
    { "lazy_refcounts", "lazy-refcounts", "off" },
    { "refcount_bits", "refcount-bits", "16" },
};

struct new_image {
    const struct pl_create_options *request;
    struct pl_format_info format;
    struct pl_image *img; /* what came of it */
    struct pl_fact *facts;
};

static bool format_has(const struct new_image *n, const char *option)
{
    const struct pl_option_help *row = n->format.create_options;

    while (row && row->name && strcmp(row->name, option) != 0)
        row++;
    return row && row->name;
}

static void print_text(const char *option, const char *value)
{
    if (!value)
        return;
    printf(" %s=", option);
    message_text(stdout, value);
}

static void print_fact(const struct new_image *n, const struct shown *s)
{
    const struct pl_fact *fact = n->facts->child;

    while (fact && strcmp(fact->name, s->fact) != 0)
        fact = fact->next;
    if (fact && fact->type == PL_FACT_NUMBER)
        printf(" %s=%" PRIu64, s->option, fact->number);
    else if (fact && fact->type == PL_FACT_BOOL)
        printf(" %s=%s", s->option, fact->number ? "on" : "off");
    else
        print_text(s->option, fact && fact->type == PL_FACT_TEXT ? fact->text : s->otherwise);
}

static void print_shown(const struct new_image *n, const struct shown *s)
{
    if (!strcmp(s->option, "size"))
        printf(" size=%" PRIu64, n->request->size_given ? n->request->size : pl_size(n->img));
    else if (!strcmp(s->option, "backing_file"))
        print_text(s->option, n->request->parent);
    else if (!strcmp(s->option, "backing_fmt"))
        print_text(s->option, n->request->parent ? pl_parent_format(n->img) : NULL);
    else if (!strcmp(s->option, "cluster_size") && format_has(n, s->option))
        printf(" %s=%" PRIu32, s->option, pl_cluster_size(n->img));
    else if (s->fact && format_has(n, s->option))
        print_fact(n, s);
    else
        print_text(s->option, pl_options_text(n->request->options, s->option));
}

static bool is_shown(const char *option)
{
    for (unsigned i = 0; i < sizeof shown / sizeof *shown; i++)
        if (!strcmp(shown[i].option, option))
            return true;
    return false;
}

static void print_formatting(const struct new_image *n)
{
    const struct pl_option_help *row = n->format.create_options;

    fputs("Formatting '", stdout);
    message_text(stdout, pl_path(n->img));
    printf("', fmt=%s", n->format.name);
    for (unsigned i = 0; i < sizeof shown / sizeof *shown; i++)
        print_shown(n, &shown[i]);
    for (; row && row->name; row++)
        if (!is_shown(row->name))
            print_text(row->name, pl_options_text(n->request->options, row->name));
    putchar('\n');
}

static int print_json(const struct new_image *n, struct pl_err *e)
{
    json_t *result = json_object();

    json_object_set_new(result, "filename", output_json_text(pl_path(n->img)));
    json_object_set_new(result, "format", json_string(n->format.name));
    json_object_set_new(result, "virtual-size", output_json_number(pl_size(n->img)));
    return output_json(result, e);
}

int new_image_tell(struct cli *cli, const char *path, const struct pl_create_options *request,
                   struct pl_err *e)
{
    const struct open_args open = { .format = request->format ? request->format : "raw" };
    struct new_image n = { .request = request };
    SCOPED_IMAGE img = NULL;
    int result;

    if (cli->quiet && !cli->json)
        return 0;
    if (pl_format_find(open.format, &n.format, e) < 0 ||
        image_open(cli, &open, path, (struct pl_open_options){ .no_parent = true }, &img, e) < 0 ||
        pl_format_facts(img, &n.facts, e) < 0)
        return -1;
    n.img = img;
    result = 0;
    if (cli->json)
        result = print_json(&n, e);
    else
        print_formatting(&n);
    pl_facts_free(n.facts);
    return result;
}
