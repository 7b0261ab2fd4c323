/* long_work.h - what an image that much is written to does for the host; a part of graph. */
#ifndef PL_CORE_GRAPH_LONG_WORK_H
#define PL_CORE_GRAPH_LONG_WORK_H

#include "core/graph/node.h"

/* From now on what is written is pushed out as it goes, and room that the file grows into is made
 * in large steps.  Before the work's threads start. */
void pl_long_work_begin(struct pl_image *img);

/* Gives back the room made past the end of the file, also what an earlier, killed run had left
 * there.  When the threads have ended, whatever came of them; nothing is lost where it fails. */
void pl_long_work_end(struct pl_image *img);

/* Called for room that is about to be written.  Any thread. */
void pl_make_room_ahead(struct pl_image *img, const struct pl_place *place);

#endif
