/* new_image_line.h - tells what was created: "Formatting 'NAME', fmt=..." as qemu-img does. */
#ifndef PL_CLI_NEW_IMAGE_LINE_H
#define PL_CLI_NEW_IMAGE_LINE_H

#include "cli/command.h"

/* Prints the line (with -q: not) or an object of JSON.  It reads the new image again, since the
 * values that the format chose are nowhere else. */
int new_image_tell(struct cli *cli, const char *path, const struct pl_create_options *request,
                   struct pl_err *e) PL_CHECK;

#endif
