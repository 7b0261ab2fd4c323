/* cmd_formats.c - what formats there are and what each can do. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/output.h"
#include "core/base/checked.h"

struct formats_args {
    struct common_args common;
};

static const struct pl_opt formats_opts[] = { OPT_COMMON(struct formats_args), { 0 } };

/* The abilities, a column each; "convert" is making one by convert -O, "stream" doing that
 * into a pipe. */
static const struct ability {
    const char *name;
    size_t field; /* a bool in struct pl_format_info */
} abilities[] = {
    { "write", offsetof(struct pl_format_info, can_write) },
    { "convert", offsetof(struct pl_format_info, can_convert_to) },
    { "create", offsetof(struct pl_format_info, can_create) },
    { "resize", offsetof(struct pl_format_info, can_resize) },
    { "check", offsetof(struct pl_format_info, can_check) },
    { "snapshots", offsetof(struct pl_format_info, has_snapshots) },
    { "stream", offsetof(struct pl_format_info, can_stream) },
};

static bool can(const struct pl_format_info *info, const struct ability *ability)
{
    return *(const bool *)((const char *)info + ability->field);
}

static void print_human(void)
{
    struct pl_format_info info;

    printf("%-8s %-5s", "FORMAT", "read");
    for (unsigned i = 0; i < PL_COUNT(abilities); i++)
        printf(" %-9s", abilities[i].name);
    puts(" SPECIFICATION");
    for (size_t f = 0; pl_format_at(f, &info); f++) {
        printf("%-8s %-5s", info.name, "yes");
        for (unsigned i = 0; i < PL_COUNT(abilities); i++)
            printf(" %-9s", can(&info, &abilities[i]) ? "yes" : "-");
        printf(" %s\n", info.spec ? info.spec : "");
    }
}

static json_t *options_json(const struct pl_option_help *row)
{
    json_t *list = json_array();

    for (; row && row->name; row++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", row->name, "type",
                                              row->type, "help", row->help));
    return list;
}

static json_t *format_json(const struct pl_format_info *info)
{
    json_t *format = json_object();

    json_object_set_new(format, "name", json_string(info->name));
    json_object_set_new(format, "specification", json_string(info->spec ? info->spec : ""));
    json_object_set_new(format, "read", json_true());
    for (unsigned i = 0; i < PL_COUNT(abilities); i++)
        json_object_set_new(format, abilities[i].name, json_boolean(can(info, &abilities[i])));
    json_object_set_new(format, "options", options_json(info->create_options));
    return format;
}

static int run_formats(struct cli *cli, const void *args, struct pl_err *e)
{
    struct pl_format_info info;
    json_t *list;

    (void)args;
    if (!cli->json) {
        print_human();
        return 0;
    }
    list = json_array();
    for (size_t f = 0; pl_format_at(f, &info); f++)
        json_array_append_new(list, format_json(&info));
    return output_json(list, e);
}

const struct pl_command pl_cmd_formats = {
    .name = "formats",
    .operands = "",
    .summary = "List the formats and what can be done with each",
    .opts = formats_opts,
    .args_size = sizeof(struct formats_args),
    .max_operands = 0,
    .operand_error = "no operands are expected",
    .error_status = 1,
    .run = run_formats,
};
