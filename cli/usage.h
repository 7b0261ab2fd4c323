/* usage.h - the help texts, made from the tables of the commands. */
#ifndef PL_CLI_USAGE_H
#define PL_CLI_USAGE_H

#include <stdio.h>

#include "cli/command.h"

/* What `platter --help` prints: the commands. */
void usage_program(FILE *to);

/* What `platter COMMAND --help` prints: usage line and options. */
void usage_command(FILE *to, const struct pl_command *command);

/* The options of a command (null: of all) for other programs.  "tsv": command, name, letter,
 * metavar, choices; "man": the lines of the OPTIONS section of its manual page.  PL_E_INVALID for
 * another form. */
int usage_dump(const char *form, const struct pl_command *command, struct pl_err *e) PL_CHECK;

#endif
