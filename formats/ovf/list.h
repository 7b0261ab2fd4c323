/* list.h - arrays that grow by one while a file is read. */
#ifndef PL_FORMATS_OVF_LIST_H
#define PL_FORMATS_OVF_LIST_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* `array`, whose `count` elements are `width` bytes each, with room for one more, zeroed; null when
 * out of memory: then the old one is still there. */
static inline void *ovf_with_room(void *array, size_t count, size_t width)
{
    /* It is full whenever the count is zero or a power of two. */
    if ((count & (count - 1)) == 0)
        array = reallocarray(array, count ? count * 2 : 1, width);
    if (array)
        memset((uint8_t *)array + count * width, 0, width);
    return array;
}

/* The next element of a typed array, zeroed and counted; null when out of memory.  Both arguments
 * are variables.  Elements may move. */
#define OVF_APPEND(array, count)                                                                   \
    (__extension__({                                                                               \
        __typeof__(array) ovf_more = ovf_with_room((array), (count), sizeof *(array));             \
        if (ovf_more)                                                                              \
            (array) = ovf_more;                                                                    \
        ovf_more ? &(array)[(count)++] : NULL;                                                     \
    }))

#endif
