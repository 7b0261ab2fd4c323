/* programs.h - other programs that tests compare with. */
#ifndef TESTS_SUPPORT_PROGRAMS_H
#define TESTS_SUPPORT_PROGRAMS_H

#include <stdbool.h>

/* Runs a shell command; its output goes nowhere.  Its exit status. */
int run_quietly(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The first line that a shell command prints, without its newline; the caller frees it. */
char *run_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Whether that program is installed. */
bool has_program(const char *name);

#endif
