/* shell_line.h - a command as one line that a shell takes apart into the same words again. */
#ifndef PL_CLI_SHELL_LINE_H
#define PL_CLI_SHELL_LINE_H

/* The words, null-terminated, with blanks between them and quotes where they need some, as text
 * that a terminal can show; the caller's to free.  Words with control characters or bytes that are
 * no UTF-8 are quoted as bash, ksh and zsh do it: $'...'.  Null: no memory. */
char *shell_line(const char *const *words);

#endif
