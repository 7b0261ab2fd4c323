#include "cli/usage.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 30
#define WIDTH 80

static const char intro[] = "usage: platter COMMAND [OPTION]... [OPERAND]...\n"
                            "       platter --help | --version\n\n"
                            "Reads, makes, converts and checks disk images of virtual machines.\n\n"
                            "Commands:\n";

static const char outro[] =
    "\n'platter COMMAND --help' lists the options of a command.\n"
    "Sizes are bytes, or numbers with k, M, G, T, P or E (powers of 1024): 512M, 1.5G.\n";

void usage_program(FILE *to)
{
    fputs(intro, to);
    for (unsigned i = 0; pl_commands[i]; i++)
        fprintf(to, "  %-10s %s\n", pl_commands[i]->name, pl_commands[i]->summary);
    fprintf(to, "  %-10s %s\n", "help", "print the help of a command");
    fputs(outro, to);
}

/* Prints words from `column` on, breaking lines at WIDTH; the cursor stands at `cursor`. */
static void print_wrapped(FILE *to, const char *text, int cursor, int column)
{
    bool line_is_empty = true;

    if (cursor >= column) { /* at least a space between the two */
        fputc('\n', to);
        cursor = 0;
    }
    fprintf(to, "%*s", column - cursor, "");
    cursor = column;
    while (*text) {
        int len = (int)strcspn(text, " ");

        if (!line_is_empty && cursor + 1 + len > WIDTH) {
            fprintf(to, "\n%*s", column, "");
            cursor = column;
            line_is_empty = true;
        }
        cursor += fprintf(to, "%s%.*s", line_is_empty ? "" : " ", len, text);
        line_is_empty = false;
        text += len + (text[len] == ' ');
    }
    fputc('\n', to);
}

static const char *metavar_of(const struct pl_opt *opt)
{
    return opt->metavar ? opt->metavar : "VALUE";
}

static void print_option(FILE *to, const struct pl_opt *opt)
{
    char letter[] = "-x, ";
    int cursor;

    letter[1] = opt->letter;
    cursor = fprintf(to, "  %s--%s", opt->letter ? letter : "    ", opt->name);
    if (options_takes_value(opt))
        cursor += fprintf(to, "=%s", metavar_of(opt));
    print_wrapped(to, opt->help, cursor, HELP_COLUMN);
}

static bool is_refused(const struct pl_opt *opt)
{
    return opt->kind == OPT_REFUSED || opt->kind == OPT_REFUSED_FLAG;
}

void usage_command(FILE *to, const struct pl_command *command)
{
    bool any_refused = false;

    fprintf(to, "usage: platter %s [OPTION]...%s%s\n\n%s.\n\nOptions:\n", command->name,
            *command->operands ? " " : "", command->operands, command->summary);
    for (const struct pl_opt *opt = command->opts; opt->name; opt++) {
        if (!is_refused(opt))
            print_option(to, opt);
        any_refused = any_refused || is_refused(opt);
    }
    if (!any_refused)
        return;
    fputs("\nOptions of qemu-img that are refused:\n", to);
    for (const struct pl_opt *opt = command->opts; opt->name; opt++)
        if (is_refused(opt))
            print_option(to, opt);
}

/* Dashes, quotes and backslashes as they are typed, not as typography would have them. */
static void print_roff(const char *text)
{
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '\'')
            fputs("\\(aq", stdout);
        else
            putchar(*text);
    }
}

static void dump_man(const struct pl_opt *opt)
{
    const char first[] = { (char)toupper((unsigned char)*opt->help), '\0' };

    fputs(".TP\n", stdout);
    if (opt->letter)
        printf("\\fB\\-%c\\fR, ", opt->letter);
    fputs("\\fB\\-\\-", stdout);
    print_roff(opt->name);
    fputs("\\fR", stdout);
    if (options_takes_value(opt))
        printf("=\\fI%s\\fR", metavar_of(opt));
    fputc('\n', stdout);
    print_roff(is_refused(opt) ? "Refused: " : first);
    print_roff(is_refused(opt) ? opt->help : opt->help + 1);
    fputs(".\n", stdout);
}

static void dump_tsv(const struct pl_command *command, const struct pl_opt *opt)
{
    char letter[] = { opt->letter ? opt->letter : '-', '\0' };

    printf("%s\t%s\t%s\t%s\t", command->name, opt->name, letter,
           options_takes_value(opt) ? metavar_of(opt) : "-");
    for (unsigned i = 0; opt->choices && opt->choices[i]; i++)
        printf("%s%s", i ? " " : "", opt->choices[i]);
    fputc('\n', stdout);
}

int usage_dump(const char *form, const struct pl_command *only, struct pl_err *e)
{
    bool man = !strcmp(form, "man");

    if (!man && strcmp(form, "tsv") != 0)
        return pl_fail(e, PL_E_INVALID, "dump-options: '%s' is neither tsv nor man", form);
    for (unsigned i = 0; pl_commands[i]; i++)
        for (const struct pl_opt *opt = pl_commands[i]->opts; opt->name; opt++) {
            if (only && only != pl_commands[i])
                continue;
            if (man)
                dump_man(opt);
            else
                dump_tsv(pl_commands[i], opt);
        }
    return 0;
}
