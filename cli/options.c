#include "cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/suggest.h"

/* The state of one parse. */
struct parser {
    const struct pl_command *command;
    char *const *next; /* the argument to read next */
    size_t room;       /* arguments in all: the most operands or values there can be */
    void *args;
    struct operands *operands;
};

bool options_takes_value(const struct pl_opt *opt)
{
    return opt->kind != OPT_FLAG && opt->kind != OPT_STEP && opt->kind != OPT_REFUSED_FLAG;
}

static const struct pl_opt *find_name(const struct pl_opt *opts, const char *name, size_t len)
{
    for (; opts->name; opts++)
        if (strlen(opts->name) == len && !memcmp(opts->name, name, len))
            return opts;
    return NULL;
}

static const struct pl_opt *find_letter(const struct pl_opt *opts, char letter)
{
    for (; opts->name; opts++)
        if (opts->letter == letter)
            return opts;
    return NULL;
}

static int fail_unknown(const struct pl_command *command, const char *given, size_t len,
                        struct pl_err *e)
{
    struct suggestion nearest = suggestion_for(given, len);

    for (const struct pl_opt *o = command->opts; o->name; o++)
        suggestion_offer(&nearest, o->name);
    pl_fail(e, PL_E_INVALID, "%s: unknown option '--%.*s'", command->name, (int)len, given);
    if (nearest.best)
        return pl_hint(e, "did you mean '--%s'?", nearest.best);
    return pl_hint(e, "'platter %s --help' lists the options", command->name);
}

/* There are never more values than arguments. */
static int set_list(struct parser *p, struct text_list *list, const char *value, struct pl_err *e)
{
    if (!list->item)
        list->item = calloc(p->room + 1, sizeof *list->item);
    if (!list->item)
        return pl_fail(e, PL_E_NOMEM, "no memory for the options");
    list->item[list->count++] = value;
    return 0;
}

static int add_step(struct parser *p, struct step_list *list, const struct pl_opt *opt,
                    const char *value, struct pl_err *e)
{
    if (!list->item)
        list->item = calloc(p->room + 1, sizeof *list->item);
    if (!list->item)
        return pl_fail(e, PL_E_NOMEM, "no memory for the options");
    list->item[list->count++] = (struct step){ .name = opt->name, .value = value };
    return 0;
}

/* Joins the names with ", ", as far as they fit. */
static void join(const char *const *names, char *buf, size_t size)
{
    size_t used = 0;

    for (unsigned i = 0; names[i] && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", names[i]);
}

static int set_choice(const struct pl_opt *opt, unsigned *field, const char *value,
                      struct pl_err *e)
{
    char names[120] = "";

    for (unsigned i = 0; opt->choices[i]; i++)
        if (!strcmp(opt->choices[i], value)) {
            *field = i;
            return 0;
        }
    join(opt->choices, names, sizeof names);
    return pl_fail(e, PL_E_INVALID, "--%s: '%s' is not one of %s", opt->name, value, names);
}

static int set_count(const struct pl_opt *opt, unsigned *field, const char *value, struct pl_err *e)
{
    uint64_t n;

    if (pl_parse_number(value, 1, opt->max, &n, e) < 0)
        return pl_fail(e, PL_E_INVALID, "--%s: '%s' is not a number from 1 to %u", opt->name, value,
                       opt->max);
    *field = (unsigned)n;
    return 0;
}

static int set_size(const struct pl_opt *opt, struct opt_size *field, const char *value,
                    struct pl_err *e)
{
    if (pl_parse_size(value, 1, &field->bytes, e) < 0)
        return pl_within(e, "--%s", opt->name);
    field->given = true;
    return 0;
}

static int refuse(const struct parser *p, const struct pl_opt *opt, struct pl_err *e)
{
    pl_fail(e, PL_E_UNSUPPORTED, "%s: --%s is not supported", p->command->name, opt->name);
    return pl_hint(e, "%s", opt->help);
}

static int fail_without_value(const struct parser *p, const struct pl_opt *opt, struct pl_err *e)
{
    pl_fail(e, PL_E_INVALID, "%s: option '--%s' needs a value", p->command->name, opt->name);
    return pl_hint(e, "write --%s=%s", opt->name, opt->metavar ? opt->metavar : "VALUE");
}

/* value null: none was given. */
static int set(struct parser *p, const struct pl_opt *opt, const char *value, struct pl_err *e)
{
    void *field = (char *)p->args + opt->field;

    if (options_takes_value(opt) && !value)
        return fail_without_value(p, opt, e);
    switch (opt->kind) {
    case OPT_FLAG:
        *(bool *)field = true;
        return 0;
    case OPT_TEXT:
        *(const char **)field = value;
        return 0;
    case OPT_LIST:
        return set_list(p, field, value, e);
    case OPT_SIZE:
        return set_size(opt, field, value, e);
    case OPT_COUNT:
        return set_count(opt, field, value, e);
    case OPT_CHOICE:
        return set_choice(opt, field, value, e);
    case OPT_STEP:
    case OPT_STEP_TEXT:
        return add_step(p, field, opt, value, e);
    case OPT_REFUSED:
    case OPT_REFUSED_FLAG:
        break;
    }
    return refuse(p, opt, e);
}

/* The argument behind the option that was just read, whatever it looks like; null: there is none.
 */
static const char *next_argument(struct parser *p)
{
    return *p->next ? *p->next++ : NULL;
}

/* "--name", "--name=VALUE" or "--name VALUE"; `text` is what follows the dashes. */
static int parse_long(struct parser *p, const char *text, struct pl_err *e)
{
    size_t len = strcspn(text, "=");
    const struct pl_opt *opt = find_name(p->command->opts, text, len);
    const char *value = text[len] ? text + len + 1 : NULL;

    if (!opt)
        return fail_unknown(p->command, text, len, e);
    if (value && !options_takes_value(opt))
        return pl_fail(e, PL_E_INVALID, "%s: option '--%s' takes no value", p->command->name,
                       opt->name);
    if (!value && options_takes_value(opt))
        value = next_argument(p);
    return set(p, opt, value, e);
}

/* "-xyz": flags, the last of which may take a value, joined or as the next argument. */
static int parse_letters(struct parser *p, const char *letters, struct pl_err *e)
{
    for (; *letters; letters++) {
        const struct pl_opt *opt = find_letter(p->command->opts, *letters);
        const char *value = letters[1] ? letters + 1 : NULL;

        if (!opt) {
            pl_fail(e, PL_E_INVALID, "%s: unknown option '-%c'", p->command->name, *letters);
            return pl_hint(e, "'platter %s --help' lists the options", p->command->name);
        }
        if (!options_takes_value(opt)) {
            if (set(p, opt, NULL, e) < 0)
                return -1;
            continue;
        }
        return set(p, opt, value ? value : next_argument(p), e);
    }
    return 0;
}

static bool is_operand(const struct parser *p, const char *arg)
{
    if (arg[0] != '-' || !arg[1])
        return true;
    return p->command->signed_operands && strchr("0123456789.", arg[1]);
}

static int check_operands(const struct pl_command *command, const struct operands *operands,
                          struct pl_err *e)
{
    if (operands->count >= command->min_operands && operands->count <= command->max_operands)
        return 0;
    pl_fail(e, PL_E_INVALID, "%s: %s", command->name, command->operand_error);
    return pl_hint(e, "usage: platter %s [OPTION]... %s", command->name, command->operands);
}

int options_parse(const struct pl_command *command, char *const *argv, void *args,
                  struct operands *operands, struct pl_err *e)
{
    struct parser p = { .command = command, .next = argv, .args = args, .operands = operands };
    bool options_end = false;

    while (argv[p.room])
        p.room++;
    operands->item = calloc(p.room + 1, sizeof *operands->item);
    if (!operands->item)
        return pl_fail(e, PL_E_NOMEM, "no memory for the options");
    while (*p.next) {
        char *arg = *p.next++;
        int result = 0;

        if (options_end || is_operand(&p, arg))
            operands->item[operands->count++] = arg;
        else if (!strcmp(arg, "--"))
            options_end = true;
        else
            result = arg[1] == '-' ? parse_long(&p, arg + 2, e) : parse_letters(&p, arg + 1, e);
        if (result < 0)
            return -1;
        if (((struct common_args *)args)->help)
            return 0; /* whatever else is wrong with the line */
    }
    return check_operands(command, operands, e);
}

void options_free(const struct pl_command *command, void *args, struct operands *operands)
{
    for (const struct pl_opt *opt = command->opts; opt->name; opt++) {
        void *field = (char *)args + opt->field;

        if (opt->kind == OPT_LIST) {
            struct text_list *list = field;

            free(list->item);
            *list = (struct text_list){ 0 };
        } else if (opt->kind == OPT_STEP || opt->kind == OPT_STEP_TEXT) {
            struct step_list *list = field;

            free(list->item); /* rows that share a list find it empty */
            *list = (struct step_list){ 0 };
        }
    }
    free(operands->item);
    *operands = (struct operands){ 0 };
}
