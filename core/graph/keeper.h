/* keeper.h - the journal of an image that is open for a repair; a part of graph. */
#ifndef PL_CORE_GRAPH_KEEPER_H
#define PL_CORE_GRAPH_KEEPER_H

#include "core/graph/image.h"
#include "core/storage/storage.h"

/* Null: no journal is kept. */
struct pl_keeper;

/* Begins where the options ask for it, with the image's own file, which *file then stands for.  On
 * failure *file is closed. */
int pl_keeper_start(const struct pl_open_options *options, struct pl_storage **file,
                    struct pl_keeper **out, struct pl_err *e) PL_CHECK;

/* The same for a further file that the image names. */
int pl_keeper_add(struct pl_keeper *keeper, const char *name, struct pl_storage **file,
                  struct pl_err *e) PL_CHECK;

/* When all files are closed: completes the journal and tells the options what became of it. */
int pl_keeper_finish(struct pl_keeper *keeper, struct pl_err *e);

#endif
