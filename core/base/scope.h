/* scope.h - memory and descriptors that are released when their scope ends.
 *
 *     PL_FREE char *copy = strdup(name);
 *     ...
 *     return pl_take(copy);      ownership moves to the caller; the scope releases nothing
 */
#ifndef PL_CORE_BASE_SCOPE_H
#define PL_CORE_BASE_SCOPE_H

#include <stdlib.h>
#include <unistd.h>

static inline void pl_scope_free(void *pointer_to_pointer)
{
    free(*(void **)pointer_to_pointer);
}

static inline void pl_scope_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define PL_FREE __attribute__((cleanup(pl_scope_free)))
#define PL_CLOSE_FD __attribute__((cleanup(pl_scope_close)))

/* Yields the pointer and sets the variable to null: the one place where ownership moves. */
#define pl_take(pointer)                                                                           \
    (__extension__({                                                                               \
        __typeof__(pointer) pl_taken = (pointer);                                                  \
        (pointer) = NULL;                                                                          \
        pl_taken;                                                                                  \
    }))

#endif
