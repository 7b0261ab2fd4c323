/* platter.h - virtual machine disk images: the public interface of libplatter.
 *
 * Open an image, read and write guest bytes whatever the format, ask its map; convert, create,
 * compare, check, resize, compact, commit and rebase images.  Functions that can fail return 0 or
 * -1 and fill the caller's `struct pl_err`.  The library prints nothing, never exits and keeps no
 * global state.
 *
 * In the source tree this page is a list; the installed header is the same with the parts put in.
 * Names only ever get added; the soname changes otherwise. */
#ifndef PLATTER_H
#define PLATTER_H

#ifdef __cplusplus
extern "C" {
#endif

#include "core/base/err.h"
#include "core/base/report.h"
#include "core/base/text.h"
#include "core/base/options.h"
#include "core/base/facts.h"
#include "core/base/image_types.h"
#include "core/graph/image.h"
#include "core/engine/create.h"
#include "core/engine/convert.h"
#include "core/engine/compare.h"
#include "core/engine/compact.h"
#include "core/engine/bench.h"
#include "core/engine/commit.h"
#include "core/engine/rebase.h"
#include "core/engine/chain_report.h"
#include "core/engine/bitmap_change.h"
#include "core/engine/snapshot.h"
#include "core/engine/state_diff.h"

#define PL_VERSION "0.1.0"

/* The version of the library in use, e.g. "0.1.0". */
PL_API const char *pl_version(void);

#ifdef __cplusplus
}
#endif

#endif
