/* image_open.h - opens the images that a command line names. */
#ifndef PL_CLI_IMAGE_OPEN_H
#define PL_CLI_IMAGE_OPEN_H

#include "cli/command.h"

/* Options of every command that opens images. */
struct open_args {
    const char *format;
    const char *disk, *authorities; /* see pl_open_options */
    bool force_share;
    struct text_list allow_dirs;
    unsigned cache; /* accepted and checked, nothing more: the host's cache is always used */
};

/* Names of cache modes. */
extern const char *const cache_choices[];

/* clang-format off */
#define OPT_FORMAT(type, what)                                                                     \
    { "format", 'f', OPT_TEXT, offsetof(type, open.format), .metavar = "FORMAT", .help = what }
#define OPT_FORCE_SHARE(type)                                                                      \
    { "force-share", 'U', OPT_FLAG, offsetof(type, open.force_share),                              \
      .help = "read without locks, while somebody else may be writing" }
#define OPT_ALLOW_DIR(type)                                                                        \
    { "allow-dir", 0, OPT_LIST, offsetof(type, open.allow_dirs), .metavar = "DIR",                 \
      .help = "let images name files in DIR too, not only beside themselves; may be repeated" }
#define OPT_DISK(type)                                                                             \
    { "disk", 0, OPT_TEXT, offsetof(type, open.disk), .metavar = "N|NAME",                         \
      .help = "which disk of an appliance (OVA, OVF): its number, id or file name" },              \
        { "ca", 0, OPT_TEXT, offsetof(type, open.authorities), .metavar = "FILE",                  \
          .help = "certificates (PEM) whose owners may have signed an appliance: its signature "   \
                  "must be good then" }
#define OPT_SOURCE_CACHE(type)                                                                     \
    { "source-cache", 'T', OPT_CHOICE, offsetof(type, open.cache), .metavar = "MODE",              \
      .help = "accepted for qemu-img's sake, without effect", .choices = cache_choices }
#define OPT_WORKERS(type)                                                                          \
    { "workers", 'j', OPT_COUNT, offsetof(type, workers), .metavar = "N",                          \
      .help = "threads that work (one for each processor)", .max = 256 }
#define OPT_OBJECT                                                                                 \
    { "object", 0, OPT_REFUSED, 0, .metavar = "DEFINITION",                                        \
      .help = "there are no secrets and other objects; decrypt the image by other means first" }
#define OPT_IMAGE_OPTS                                                                             \
    { "image-opts", 0, OPT_REFUSED_FLAG, 0,                                                        \
      .help = "give the name of the file and its format with --format (-f)" }
/* clang-format on */

/* Opens `path` with the common options laid over *options.  Warns when the content of a file that
 * is named like a raw disk decided the format.  Null report: that of cli. */
int image_open(struct cli *cli, const struct open_args *args, const char *path,
               struct pl_open_options options, struct pl_image **out, struct pl_err *e) PL_CHECK;

/* Opens `path` alone and closes it: for the errors and warnings that this brings, before an engine
 * opens it by its name. */
int image_look(struct cli *cli, const struct open_args *args, const char *path, struct pl_err *e)
    PL_CHECK;

/* Resolves qemu-img's "snapshot.id=ID,snapshot.name=NAME" to the id of the one that is meant;
 * other text is taken as it is.  *name is the caller's to free.  PL_E_NOT_FOUND, PL_E_INVALID. */
int image_find_snapshot(struct cli *cli, const struct open_args *args, const char *path,
                        const char *param, char **name, struct pl_err *e) PL_CHECK;

/* PL_E_INVALID, listing the formats, when `name` is none.  null is one. */
int image_check_format(const char *name, struct pl_err *e) PL_CHECK;

/* Closes for PL_IMAGE. */
void image_scope_close(struct pl_image *const *img);

/* An image that is closed when its scope ends; for images that are only read. */
#define SCOPED_IMAGE __attribute__((cleanup(image_scope_close))) struct pl_image *

#endif
