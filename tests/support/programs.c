/* programs.c - see programs.h. */
#include "tests/support/programs.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char *format(const char *fmt, va_list ap)
{
    char *text;

    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    return text;
}

int run_quietly(const char *fmt, ...)
{
    va_list ap;
    char *command, *quiet;
    int status;

    va_start(ap, fmt);
    command = format(fmt, ap);
    va_end(ap);
    if (asprintf(&quiet, "{ %s; } >/dev/null 2>&1", command) < 0)
        abort();
    status = system(quiet);
    free(command);
    free(quiet);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

char *run_line(const char *fmt, ...)
{
    va_list ap;
    char *command, *line = NULL;
    size_t room = 0;
    FILE *pipe;

    va_start(ap, fmt);
    command = format(fmt, ap);
    va_end(ap);
    pipe = popen(command, "r");
    if (!pipe || getline(&line, &room, pipe) < 0) {
        free(line);
        line = strdup("");
    }
    if (pipe)
        pclose(pipe);
    free(command);
    line[strcspn(line, "\n")] = '\0';
    return line;
}

bool has_program(const char *name)
{
    return run_quietly("command -v %s", name) == 0;
}
