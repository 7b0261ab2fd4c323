/* range_lock.h - orders reads and writes of one image that overlap; those that do not run at once.
 */
#ifndef PL_CORE_GRAPH_RANGE_LOCK_H
#define PL_CORE_GRAPH_RANGE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A range in use.  Lives on the stack of the thread that holds it. */
struct pl_range {
    uint64_t at, end;
    bool exclusive;
    struct pl_range *next;
};

struct pl_range_lock {
    pthread_mutex_t mutex; /* guards the list; leaf */
    pthread_cond_t released;
    struct pl_range *held;
};

/* Makes the lock ready, with nothing held. */
void pl_range_lock_init(struct pl_range_lock *lock);

/* Nothing may be held. */
void pl_range_lock_destroy(struct pl_range_lock *lock);

/* Waits until no other holder overlaps [at, end) unless both only read, then holds it in *range.  A
 * thread holds one range of a lock at a time, or it would wait for itself. */
void pl_range_take(struct pl_range_lock *lock, struct pl_range *range, uint64_t at, uint64_t end,
                   bool exclusive);

/* Lets go of what pl_range_take gave. */
void pl_range_drop(struct pl_range_lock *lock, struct pl_range *range);

#endif
