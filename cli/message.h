/* message.h - errors and warnings on standard error, for people or as lines of JSON.
 *
 * Text for people has its control characters escaped: names inside an image are its author's, and
 * a terminal obeys what it is sent. */
#ifndef PL_CLI_MESSAGE_H
#define PL_CLI_MESSAGE_H

#include <stdio.h>

#include "cli/command.h"

/* "platter: MESSAGE" and a second line with the hint; JSON: {"error": {"kind", "message",
 * "hint"}}. */
void message_error(const struct cli *cli, const struct pl_err *e);

/* "platter: warning: MESSAGE"; JSON: {"warning": {"message"}}.  Nothing with -q. */
void message_warning(const struct cli *cli, const char *message);

/* The same as a callback of struct pl_report; ctx is the struct cli. */
void message_warn_callback(void *ctx, const char *message);

/* Writes text with control characters and broken UTF-8 as \xNN. */
void message_text(FILE *to, const char *text);

#endif
