/* convert_args.h - the options of convert, and which of them go together. */
#ifndef PL_CLI_CONVERT_ARGS_H
#define PL_CLI_CONVERT_ARGS_H

#include "cli/create_options.h"
#include "cli/image_open.h"
#include "cli/progress.h"

struct convert_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    struct text_list options;
    const char *format, *parent, *parent_format, *snapshot, *checksum;
    struct opt_size sparse, rate;
    bool compress, existing, target_is_zero, bitmaps, skip_broken_bitmaps, salvage;
    bool share, no_share, verify, reproducible, out_of_order;
    unsigned workers, target_cache;
};

extern const struct pl_opt convert_opts[];

/* Refuses options that contradict each other, formats that do not exist and a target that cannot
 * be.  `operands` are the sources and the target.  PL_E_INVALID, PL_E_UNSUPPORTED. */
int convert_check(const struct convert_args *a, const struct create_options *o,
                  const struct operands *operands, struct pl_err *e) PL_CHECK;

#endif
