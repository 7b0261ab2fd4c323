#include "core/graph/range_lock.h"

#include <stddef.h>

void pl_range_lock_init(struct pl_range_lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->released, NULL);
    lock->held = NULL;
}

void pl_range_lock_destroy(struct pl_range_lock *lock)
{
    pthread_cond_destroy(&lock->released);
    pthread_mutex_destroy(&lock->mutex);
}

static bool conflicts(const struct pl_range_lock *lock, const struct pl_range *wanted)
{
    for (const struct pl_range *r = lock->held; r; r = r->next)
        if ((r->exclusive || wanted->exclusive) && r->at < wanted->end && wanted->at < r->end)
            return true;
    return false;
}

void pl_range_take(struct pl_range_lock *lock, struct pl_range *range, uint64_t at, uint64_t end,
                   bool exclusive)
{
    *range = (struct pl_range){ .at = at, .end = end, .exclusive = exclusive };
    pthread_mutex_lock(&lock->mutex);
    while (conflicts(lock, range))
        pthread_cond_wait(&lock->released, &lock->mutex);
    range->next = lock->held;
    lock->held = range;
    pthread_mutex_unlock(&lock->mutex);
}

void pl_range_drop(struct pl_range_lock *lock, struct pl_range *range)
{
    struct pl_range **link;

    pthread_mutex_lock(&lock->mutex);
    for (link = &lock->held; *link != range; link = &(*link)->next)
        ;
    *link = range->next;
    pthread_cond_broadcast(&lock->released);
    pthread_mutex_unlock(&lock->mutex);
}
