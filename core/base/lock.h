/* lock.h - a mutex, held for a scope, with the declarations that clang's -Wthread-safety checks.
 *
 *     PL_LOCKED(&cache->lock);    held until the end of the enclosing block
 */
#ifndef PL_CORE_BASE_LOCK_H
#define PL_CORE_BASE_LOCK_H

#include <pthread.h>

#if defined(__clang__)
#define PL_CAPABILITY __attribute__((capability("mutex")))
#define PL_NEEDS(lock) __attribute__((requires_capability(lock)))
#define PL_ACQUIRES(lock) __attribute__((acquire_capability(lock)))
#define PL_RELEASES(lock) __attribute__((release_capability(lock)))
#define PL_ASSERTS(lock) __attribute__((assert_capability(lock)))
#define PL_UNCHECKED __attribute__((no_thread_safety_analysis))
#else
#define PL_CAPABILITY
#define PL_NEEDS(lock)
#define PL_ACQUIRES(lock)
#define PL_RELEASES(lock)
#define PL_ASSERTS(lock)
#define PL_UNCHECKED
#endif

struct PL_CAPABILITY pl_lock {
    pthread_mutex_t mutex;
};

static inline void pl_lock_init(struct pl_lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
}

static inline void pl_lock_destroy(struct pl_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

/* Waits for the lock. */
static inline void pl_lock_take(struct pl_lock *lock) PL_ACQUIRES(lock) PL_UNCHECKED;
static inline void pl_lock_take(struct pl_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}

/* Lets go of it. */
static inline void pl_lock_drop(struct pl_lock *lock) PL_RELEASES(lock) PL_UNCHECKED;
static inline void pl_lock_drop(struct pl_lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

/* What PL_LOCKED runs at the end of its scope. */
static inline void pl_scope_unlock(struct pl_lock *const *lock) PL_UNCHECKED;
static inline void pl_scope_unlock(struct pl_lock *const *lock)
{
    pthread_mutex_unlock(&(*lock)->mutex);
}

/* Takes the lock; asserts, instead of acquiring, because clang's analysis of C does not see the
 * cleanup attribute give it back. */
static inline void pl_lock_scope(struct pl_lock *lock) PL_ASSERTS(lock) PL_UNCHECKED;
static inline void pl_lock_scope(struct pl_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}

#define PL_LOCKED_NAME2(line) pl_held_##line
#define PL_LOCKED_NAME(line) PL_LOCKED_NAME2(line)
#define PL_LOCKED(lock)                                                                            \
    pl_lock_scope(lock);                                                                           \
    struct pl_lock *const PL_LOCKED_NAME(__LINE__)                                                 \
        __attribute__((cleanup(pl_scope_unlock), unused)) = (lock)

#endif
