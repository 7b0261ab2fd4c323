/* replay.h - a log of record.h played again: what a crash could have left of a folder.
 *
 * Files: all that was done to a file before its last sync is there.  Of what came after it, each
 * change is there, is missing, is torn between sectors of 512 bytes, or came in another order.
 * Names: all that was done before the last sync of the folder is there; what came after it may be
 * missing, whatever the files themselves hold.
 *
 * cmocka.h comes first: a log that lacks something ends the running test. */
#ifndef TESTS_SUPPORT_REPLAY_H
#define TESTS_SUPPORT_REPLAY_H

#include "tests/support/folder.h"

struct replay;

/* Of a log that begins when the folder was `start`, which is not needed afterwards. */
struct replay *replay_new(const struct folder *start, const char *log);

void replay_free(struct replay *r);

/* Records in the log. */
size_t replay_length(const struct replay *r);

/* Plays one more record. */
void replay_step(struct replay *r);

/* Those played so far. */
size_t replay_played(const struct replay *r);

/* The marks among those. */
size_t replay_marks(const struct replay *r);

/* Whether the record to be played next changes or syncs names: the instants at its sides matter
 * most. */
bool replay_next_is_name(const struct replay *r);

/* Whether a crash now has more than one outcome. */
bool replay_is_open(const struct replay *r);

/* What a crash now could leave; *out is the caller's to free.  Seed 0: everything.  1: nothing that
 * is not synced.  2: all content, no names.  3: all names, no content.  Others: a choice that
 * depends on the seed alone; every fourth of them lets changes pass each other. */
void replay_crash(const struct replay *r, uint64_t seed, struct folder *out);

#endif
