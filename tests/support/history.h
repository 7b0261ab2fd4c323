/* history.h - what each sector of a disk was told to hold, and when: the judge of what a crash may
 * leave.
 *
 * Time is a storage's count of operations.  A value is a number that fills the sector in a way that
 * tells the value and the sector; 0 is a sector of zeros. */
#ifndef TESTS_SUPPORT_HISTORY_H
#define TESTS_SUPPORT_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define HISTORY_SECTOR 512

struct history;

/* A disk of `sectors`, all zeros, flushed. */
struct history *history_new(uint64_t sectors);

void history_free(struct history *h);

/* What a sector holds that was given `value`. */
void history_fill(uint8_t *bytes, uint64_t sector, uint64_t value);

/* Whether it holds that. */
bool history_holds(const uint8_t *bytes, uint64_t sector, uint64_t value);

/* From time `op` on, some of the sectors may hold the new value. */
void history_set(struct history *h, uint64_t sector, uint64_t count, uint64_t value, uint64_t op);

/* The newest value. */
uint64_t history_now(const struct history *h, uint64_t sector);

/* What was set until now. */
uint64_t history_mark(const struct history *h);

/* At time `op`, all that had been set at `mark` was known to be safe. */
void history_flushed(struct history *h, uint64_t mark, uint64_t op);

/* Whether a sector may be found with that content after a crash at time `op`: the value of the last
 * flush before, or a later one. */
bool history_allows(const struct history *h, uint64_t sector, const uint8_t *bytes, uint64_t op);

/* The same for a plain number, kept as if it were a sector's value. */
bool history_allows_value(const struct history *h, uint64_t sector, uint64_t value, uint64_t op);

#endif
