/* escape.h - text inside the XML that is written. */
#ifndef PL_FORMATS_OVF_ESCAPE_H
#define PL_FORMATS_OVF_ESCAPE_H

#include <stdio.h>

/* Writes text, which has no characters that XML forbids, for an element or an attribute in double
 * quotes. */
void ovf_write_escaped(FILE *to, const char *text);

#endif
