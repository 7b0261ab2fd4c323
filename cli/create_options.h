/* create_options.h - the -o options of create, convert, measure and amend. */
#ifndef PL_CLI_CREATE_OPTIONS_H
#define PL_CLI_CREATE_OPTIONS_H

#include "cli/command.h"

/* clang-format off */
#define OPT_CREATE_OPTIONS(type)                                                                   \
    { "options", 'o', OPT_LIST, offsetof(type, options), .metavar = "NAME=VALUE,...",              \
      .help = "options of the new image's format; '-o help' lists them" }
/* clang-format on */

/* Whether one of the texts is a request for help: "help" or "?" as one of its names. */
bool create_options_want_help(const struct text_list *texts);

/* Prints the options of a format (null: raw).  PL_E_INVALID: there is no such format. */
int create_options_help(const char *format, struct pl_err *e) PL_CHECK;

/* The same for those that `amend` takes.  PL_E_UNSUPPORTED: none. */
int create_options_amend_help(const char *format, struct pl_err *e) PL_CHECK;

/* What -o says that is not for the format but for the command. */
struct create_options {
    struct pl_options *format;          /* to be freed with pl_options_free */
    const char *parent, *parent_format; /* null: not given; they live in `format` */
    struct opt_size size;
};

/* Reads the texts.  A failure leaves nothing to free. */
int create_options_read(const struct text_list *texts, struct create_options *out, struct pl_err *e)
    PL_CHECK;

#endif
