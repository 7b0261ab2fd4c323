#include "cli/create_options.h"

#include <stdio.h>
#include <string.h>

static bool mentions_help(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");

        if ((len == 4 && !strncmp(text, "help", 4)) || (len == 1 && *text == '?'))
            return true;
        text += len + (text[len] == ',');
    }
    return false;
}

bool create_options_want_help(const struct text_list *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        if (mentions_help(texts->item[i]))
            return true;
    return false;
}

/* Options that every format has: the command itself reads them. */
static const struct pl_option_help common_help[] = {
    { "size", "size", "Virtual disk size" },
    { 0 },
};

static void print_rows(const struct pl_option_help *row, const struct pl_option_help *unless_in)
{
    char left[80];

    for (; row && row->name; row++) {
        const struct pl_option_help *other = unless_in;

        while (other && other->name && strcmp(other->name, row->name) != 0)
            other++;
        if (other && other->name)
            continue;
        snprintf(left, sizeof left, "%s=<%s>", row->name, row->type);
        printf("  %-22s - %s\n", left, row->help);
    }
}

int create_options_help(const char *format, struct pl_err *e)
{
    struct pl_format_info info;

    if (pl_format_find(format ? format : "raw", &info, e) < 0)
        return -1;
    printf("Supported %s options:\n", info.name);
    print_rows(info.create_options, NULL);
    print_rows(common_help, info.create_options);
    return 0;
}

int create_options_amend_help(const char *format, struct pl_err *e)
{
    struct pl_format_info info;

    if (pl_format_find(format, &info, e) < 0)
        return -1;
    if (!info.amend_options)
        return pl_fail(e, PL_E_UNSUPPORTED, "the format %s does not support amending options",
                       info.name);
    printf("Amend options for '%s':\n", info.name);
    print_rows(info.amend_options, NULL);
    return 0;
}

static int read_all(const struct text_list *texts, struct create_options *out, struct pl_err *e)
{
    const char *size;

    for (size_t i = 0; i < texts->count; i++)
        if (pl_options_add(out->format, texts->item[i], e) < 0)
            return -1;
    out->parent = pl_options_text(out->format, "backing_file");
    out->parent_format = pl_options_text(out->format, "backing_fmt");
    size = pl_options_text(out->format, "size");
    out->size.given = size;
    if (size && pl_parse_size(size, 1, &out->size.bytes, e) < 0)
        return pl_within(e, "option 'size'");
    return 0;
}

int create_options_read(const struct text_list *texts, struct create_options *out, struct pl_err *e)
{
    *out = (struct create_options){ .format = pl_options_new() };
    if (!out->format)
        return pl_fail(e, PL_E_NOMEM, "no memory for the options");
    if (read_all(texts, out, e) == 0)
        return 0;
    pl_options_free(out->format);
    return -1;
}
