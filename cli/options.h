/* options.h - reads a command line by a table of options.
 *
 * Spellings: -x, -xVALUE, -x VALUE, -xyz for flags, --name, --name=VALUE, --name VALUE; options and
 * operands in any order; "--" ends the options.  "-" alone is an operand. */
#ifndef PL_CLI_OPTIONS_H
#define PL_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum pl_opt_kind {
    OPT_FLAG,      /* bool: true when given */
    OPT_TEXT,      /* const char *: the last one given */
    OPT_LIST,      /* struct text_list: each one given */
    OPT_SIZE,      /* struct opt_size: bytes, with suffixes */
    OPT_COUNT,     /* unsigned: from 1 to .max */
    OPT_CHOICE,    /* unsigned: the index in .choices */
    OPT_STEP,      /* struct step_list: something to do, in the order of the line */
    OPT_STEP_TEXT, /* the same with a value */
    OPT_REFUSED,   /* known from qemu-img, takes a value, refused; .help says what to do instead */
    OPT_REFUSED_FLAG, /* the same without a value */
};

/* Values of an option that may be repeated; null-terminated once there is one. */
struct text_list {
    const char **item;
    size_t count;
};

/* Options that say what to do, one after the other. */
struct step {
    const char *name;  /* of the option */
    const char *value; /* null: it takes none */
};

struct step_list {
    struct step *item;
    size_t count;
};

struct opt_size {
    bool given;
    uint64_t bytes;
};

/* A row of a table; the last row has no name. */
struct pl_opt {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum pl_opt_kind kind;
    size_t field;        /* where the value goes in the struct of options */
    const char *metavar; /* of the value, for the help; null: none */
    const char *help;
    const char *const *choices; /* OPT_CHOICE: null-terminated */
    unsigned max;               /* OPT_COUNT */
};

struct operands {
    char **item; /* points into argv */
    size_t count;
};

struct pl_command;

/* Whether an option of that kind takes a value. */
bool options_takes_value(const struct pl_opt *opt);

/* Fills args (zeroed by the caller) and operands from argv, which holds only what follows the
 * command.  Both are to be freed by options_free, also after a failure.  PL_E_INVALID, PL_E_LIMIT,
 * PL_E_UNSUPPORTED (refused). */
int options_parse(const struct pl_command *command, char *const *argv, void *args,
                  struct operands *operands, struct pl_err *e) PL_CHECK;

/* Frees what options_parse allocated in args and operands. */
void options_free(const struct pl_command *command, void *args, struct operands *operands);

#endif
