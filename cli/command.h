/* command.h - what a command of the program is: a table of options and one function.
 *
 * The table gives parsing, --help, bash completion and the OPTIONS section of the manual page.  run
 * gets the parsed options and never sees argv. */
#ifndef PL_CLI_COMMAND_H
#define PL_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/interrupt.h"
#include "cli/options.h"
#include "include/platter.h"

/* What every command takes; the first member of each command's struct of options. */
struct common_args {
    bool help;
    bool quiet;
    unsigned output; /* 0: human, 1: json */
};

extern const char *const output_choices[];

/* Rows for struct common_args, whose place in `type` is the start. */
/* clang-format off */
#define OPT_COMMON(type)                                                                           \
    { "output", 0, OPT_CHOICE, offsetof(type, common.output), .metavar = "FORMAT",                 \
      .help = "write results and errors for people (human) or for programs (json)",                \
      .choices = output_choices },                                                                 \
    { "quiet", 'q', OPT_FLAG, offsetof(type, common.quiet),                                        \
      .help = "print nothing but errors and results that were asked for" },                        \
    { "help", 'h', OPT_FLAG, offsetof(type, common.help), .help = "print this help and exit" }
/* clang-format on */

/* One run of the program. */
struct cli {
    const struct pl_command *command; /* null until it is known */
    struct operands operands;
    bool json;        /* --output=json */
    bool quiet;       /* -q */
    int error_status; /* the exit status if run fails; run may change it as it goes on */
    struct interrupt interrupt;
    struct pl_report report; /* warnings to standard error, and "stop" on a signal; no progress */
};

struct pl_command {
    const char *name;
    const char *operands; /* as in the usage line */
    const char *summary;  /* one line */
    const struct pl_opt *opts;
    size_t args_size; /* of the struct that opts fill in */
    unsigned min_operands, max_operands;
    const char *operand_error; /* what is expected, when there are too few or too many */
    bool signed_operands;      /* "-1G" is an operand, not options */
    int error_status;
    /* The exit status, or -1 with *e filled in. */
    int (*run)(struct cli *cli, const void *args, struct pl_err *e);
};

/* The commands, in the order of the help; null-terminated. */
extern const struct pl_command *const pl_commands[];

/* Null: there is none of that name. */
const struct pl_command *pl_command_find(const char *name);

extern const struct pl_command pl_cmd_info;
extern const struct pl_command pl_cmd_create;
extern const struct pl_command pl_cmd_convert;
extern const struct pl_command pl_cmd_dd;
extern const struct pl_command pl_cmd_map;
extern const struct pl_command pl_cmd_compare;
extern const struct pl_command pl_cmd_check;
extern const struct pl_command pl_cmd_chain;
extern const struct pl_command pl_cmd_snapshot;
extern const struct pl_command pl_cmd_commit;
extern const struct pl_command pl_cmd_rebase;
extern const struct pl_command pl_cmd_measure;
extern const struct pl_command pl_cmd_resize;
extern const struct pl_command pl_cmd_compact;
extern const struct pl_command pl_cmd_amend;
extern const struct pl_command pl_cmd_bitmap;
extern const struct pl_command pl_cmd_bench;
extern const struct pl_command pl_cmd_formats;

#endif
