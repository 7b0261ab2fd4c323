/* main.c - finds the command, reads its options, runs it, reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/command.h"
#include "cli/message.h"
#include "cli/output.h"
#include "cli/suggest.h"
#include "cli/usage.h"
#include "core/base/scope.h"

const struct pl_command *const pl_commands[] = {
    // clang-format off: one a line
    &pl_cmd_info,
    &pl_cmd_create,
    &pl_cmd_convert,
    &pl_cmd_dd,
    &pl_cmd_map,
    &pl_cmd_compare,
    &pl_cmd_check,
    &pl_cmd_chain,
    &pl_cmd_snapshot,
    &pl_cmd_commit,
    &pl_cmd_rebase,
    &pl_cmd_measure,
    &pl_cmd_resize,
    &pl_cmd_compact,
    &pl_cmd_amend,
    &pl_cmd_bitmap,
    &pl_cmd_bench,
    &pl_cmd_formats,
    NULL,
    // clang-format on
};

const char *const output_choices[] = { "human", "json", NULL };

const struct pl_command *pl_command_find(const char *name)
{
    for (unsigned i = 0; pl_commands[i]; i++)
        if (!strcmp(pl_commands[i]->name, name))
            return pl_commands[i];
    return NULL;
}

/* An error in the options must come in the form that they ask for, so that is looked up first. */
static bool wants_json(char *const *argv)
{
    for (; *argv && strcmp(*argv, "--") != 0; argv++)
        if (!strcmp(*argv, "--output=json") ||
            (!strcmp(*argv, "--output") && argv[1] && !strcmp(argv[1], "json")))
            return true;
    return false;
}

static bool is_cancelled(void *ctx)
{
    struct cli *cli = ctx;

    return interrupt_pending(&cli->interrupt);
}

/* What stopped the work is the signal, wherever in the work that was. */
static void name_signal(struct cli *cli, struct pl_err *e)
{
    int number = interrupt_signal(&cli->interrupt);

    if (e->kind != PL_E_CANCELLED || !number)
        return;
    if (number == SIGINT)
        pl_fail(e, PL_E_CANCELLED, "interrupted");
    else
        pl_fail(e, PL_E_CANCELLED, "stopped by signal SIG%s", sigabbrev_np(number));
}

static int report_failure(struct cli *cli, struct pl_err *e)
{
    name_signal(cli, e);
    message_error(cli, e);
    return cli->error_status;
}

static int run_parsed(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct common_args *common = args;
    int status;

    if (common->help) {
        usage_command(stdout, cli->command);
        return 0;
    }
    cli->json = common->output;
    cli->quiet = common->quiet;
    interrupt_start(&cli->interrupt);
    status = cli->command->run(cli, args, e);
    return status;
}

static int run_command(struct cli *cli, char *const *argv)
{
    const struct pl_command *command = cli->command;
    PL_FREE void *args = calloc(1, command->args_size);
    struct pl_err e = { 0 };
    int status = -1;

    cli->error_status = command->error_status;
    if (!args)
        pl_fail(&e, PL_E_NOMEM, "no memory for the options");
    else if (options_parse(command, argv, args, &cli->operands, &e) == 0)
        status = run_parsed(cli, args, &e);
    if (status >= 0 && output_finish(&e) < 0)
        status = -1;
    if (status < 0)
        status = report_failure(cli, &e);
    if (args)
        options_free(command, args, &cli->operands);
    return status;
}

static int unknown_command(struct cli *cli, const char *name)
{
    struct suggestion nearest = suggestion_for(name, strlen(name));
    struct pl_err e = { 0 };

    for (unsigned i = 0; pl_commands[i]; i++)
        suggestion_offer(&nearest, pl_commands[i]->name);
    pl_fail(&e, PL_E_INVALID, "there is no command '%s'", name);
    if (nearest.best)
        pl_hint(&e, "did you mean '%s'?", nearest.best);
    else
        pl_hint(&e, "'platter --help' lists the commands");
    message_error(cli, &e);
    return 1;
}

static int help(struct cli *cli, const char *name)
{
    if (!name) {
        usage_program(stdout);
        return 0;
    }
    cli->command = pl_command_find(name);
    if (!cli->command)
        return unknown_command(cli, name);
    usage_command(stdout, cli->command);
    return 0;
}

static int version(void)
{
    printf("platter %s\n", pl_version());
    return 0;
}

/* For the completion and the manual pages: dump-options FORM [COMMAND]. */
static int dump_options(struct cli *cli, char *const *argv)
{
    const struct pl_command *only = argv[0] && argv[1] ? pl_command_find(argv[1]) : NULL;
    struct pl_err e = { 0 };

    if (usage_dump(argv[0] ? argv[0] : "tsv", only, &e) == 0)
        return 0;
    message_error(cli, &e);
    return 1;
}

static int missing_command(struct cli *cli)
{
    struct pl_err e = { 0 };

    pl_fail(&e, PL_E_INVALID, "a command is missing");
    pl_hint(&e, "'platter --help' lists the commands");
    message_error(cli, &e);
    return 1;
}

static int dispatch(struct cli *cli, char *const *argv)
{
    const char *name = argv[0];

    if (!name)
        return missing_command(cli);
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
        return help(cli, argv[1]);
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        return version();
    if (!strcmp(name, "dump-options"))
        return dump_options(cli, argv + 1);
    cli->command = pl_command_find(name);
    if (!cli->command)
        return unknown_command(cli, name);
    return run_command(cli, argv + 1);
}

/* A disk may be split into a thousand files, each of them open; nothing here uses select(), for
 * whose sake the usual limit is low. */
static void allow_many_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct cli cli = { 0 };
    int status;

    /* A closed pipe or a file size limit is an error of the write that meets it. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    allow_many_files();
    cli.json = wants_json(argv);
    cli.report =
        (struct pl_report){ .ctx = &cli, .warn = message_warn_callback, .cancelled = is_cancelled };
    status = dispatch(&cli, argv + (argc > 0));
    if (fflush(stdout) != 0 && status == 0)
        status = 1;
    interrupt_stop(&cli.interrupt);
    return status;
}
