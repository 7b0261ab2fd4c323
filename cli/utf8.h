/* utf8.h - text of unknown origin, one character at a time. */
#ifndef PL_CLI_UTF8_H
#define PL_CLI_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the UTF-8 sequence at `text` (RFC 3629); 0: what is there is none. */
size_t utf8_length(const char *text);

/* Whether that sequence is a control character (C0, DEL, C1). */
bool utf8_is_control(const char *text, size_t len);

#endif
