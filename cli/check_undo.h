/* check_undo.h - check --undo: takes back the last repair of an image. */
#ifndef PL_CLI_CHECK_UNDO_H
#define PL_CLI_CHECK_UNDO_H

#include "cli/image_open.h"

struct undo_args {
    bool undo;        /* --undo */
    bool none;        /* --no-undo */
    bool force;       /* --force */
    const char *file; /* --undo-file */
};

/* clang-format off */
#define OPT_UNDO(type)                                                                             \
    { "undo", 0, OPT_FLAG, offsetof(type, undo.undo),                                              \
      .help = "take back the last repair, unless the image was written to since" },                \
    { "undo-file", 0, OPT_TEXT, offsetof(type, undo.file), .metavar = "FILE",                      \
      .help = "where the old state of what a repair changes is kept (IMAGE.undo)" },               \
    { "no-undo", 0, OPT_FLAG, offsetof(type, undo.none),                                           \
      .help = "repair without keeping the old state of what changes" },                            \
    { "force", 0, OPT_FLAG, offsetof(type, undo.force),                                            \
      .help = "take a repair back although the image was written to since, where what it "         \
              "changed is still as it left it" }
/* clang-format on */

/* PL_E_INVALID when the options contradict each other. */
int check_undo_args(const struct undo_args *args, bool repairs, bool force_share, struct pl_err *e)
    PL_CHECK;

/* Takes the last repair of the image back and says so. */
int check_undo(struct cli *cli, const struct open_args *open, const struct undo_args *args,
               const char *image, struct pl_err *e) PL_CHECK;

/* The journal of an image by these options; null without memory.  The caller frees it. */
char *check_undo_path(const struct undo_args *args, const char *image);

#endif
