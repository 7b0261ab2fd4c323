#include "cli/shell_line.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/utf8.h"

/* Whether every shell takes the word as it is. */
static bool is_plain(const char *word)
{
    for (const char *at = word; *at; at++)
        if (!isascii((unsigned char)*at) ||
            (!isalnum((unsigned char)*at) && !strchr("%+,-./:@_", *at)))
            return false;
    return *word != '\0';
}

/* Whether a terminal shows it as it is. */
static bool is_text(const char *word)
{
    for (const char *at = word; *at;) {
        const size_t len = utf8_length(at);

        if (!len || utf8_is_control(at, len))
            return false;
        at += len;
    }
    return true;
}

static void quote(FILE *to, const char *word)
{
    fputc('\'', to);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", to);
        else
            fputc(*word, to);
    fputc('\'', to);
}

/* Three octal digits end an escape in every shell; hexadecimal ones do not. */
static void quote_bytes(FILE *to, const char *word)
{
    fputs("$'", to);
    for (; *word; word++)
        if (isprint((unsigned char)*word) && isascii((unsigned char)*word) && !strchr("'\\", *word))
            fputc(*word, to);
        else
            fprintf(to, "\\%03o", (unsigned)(unsigned char)*word);
    fputc('\'', to);
}

char *shell_line(const char *const *words)
{
    char *line = NULL;
    size_t len;
    FILE *to = open_memstream(&line, &len);

    if (!to)
        return NULL;
    for (size_t i = 0; words[i]; i++) {
        if (i)
            fputc(' ', to);
        if (is_plain(words[i]))
            fputs(words[i], to);
        else if (is_text(words[i]))
            quote(to, words[i]);
        else
            quote_bytes(to, words[i]);
    }
    if (fclose(to) == 0)
        return line;
    free(line);
    return NULL;
}
