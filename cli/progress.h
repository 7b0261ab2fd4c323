/* progress.h - how far long work is: for people, and as lines of JSON for programs.
 *
 * With -p: qemu-img's "    (12.00/100%)" on standard output, rewritten in place; on a terminal
 * with rate and time left behind it.  Without -p: the same on standard error, once the work has
 * taken a while and if that is a terminal.  -q: nothing.  --progress-fd: a JSON object a line,
 * whatever the rest. */
#ifndef PL_CLI_PROGRESS_H
#define PL_CLI_PROGRESS_H

#include <stdio.h>
#include <time.h>

#include "cli/command.h"

struct progress_args {
    bool shown;     /* -p */
    const char *fd; /* --progress-fd */
};

/* clang-format off */
#define OPT_PROGRESS(type)                                                                         \
    { "progress", 'p', OPT_FLAG, offsetof(type, progress.shown),                                   \
      .help = "show progress on standard output, on a terminal with rate and time left" },         \
    { "progress-fd", 0, OPT_TEXT, offsetof(type, progress.fd), .metavar = "N",                     \
      .help = "write progress to file descriptor N, a JSON object a line: done, total, rate, eta" }
/* clang-format on */

struct progress {
    struct cli *cli;
    FILE *to;       /* the line for people; null: none */
    bool asked;     /* -p: from the start, else only after a while */
    bool terminal;  /* of `to` */
    bool line_open; /* something stands on the line */
    int json_fd;    /* -1: none */
    uint64_t done, total;
    double percent; /* as last shown */
    struct timespec start, shown_at, json_at;
    struct pl_report report; /* for the work: progress, and warnings that do not garble the line */
};

/* `data_on_stdout` keeps the line off standard output.  The
 * report in *p is valid until progress_end.  PL_E_INVALID: not an open descriptor. */
int progress_start(struct progress *p, struct cli *cli, const struct progress_args *args,
                   bool data_on_stdout, struct pl_err *e) PL_CHECK;

/* Ends the line; `finished`: with 100 per cent. */
void progress_end(struct progress *p, bool finished);

#endif
