#include "core/storage/range_set.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"

/* The first range that ends at `from` or behind it; `count` when there is none. */
static size_t first_reaching(const struct pl_range_set *set, uint64_t from)
{
    size_t low = 0, high = set->count;

    if (high > 0 && set->item[high - 1].to < from)
        return high;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (set->item[middle].to < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(struct pl_range_set *set)
{
    const size_t room = set->room ? 2 * set->room : 16;
    struct pl_range *more;

    if (set->count < set->room)
        return true;
    more = reallocarray(set->item, room, sizeof *more);
    if (!more)
        return false;
    set->item = more;
    set->room = room;
    return true;
}

bool pl_range_set_add(struct pl_range_set *set, uint64_t from, uint64_t to)
{
    const size_t at = first_reaching(set, from);
    size_t end = at;

    if (!make_room(set))
        return false;
    for (; end < set->count && set->item[end].from <= to; end++) {
        from = PL_MIN(from, set->item[end].from);
        to = PL_MAX(to, set->item[end].to);
    }
    memmove(set->item + at + 1, set->item + end, (set->count - end) * sizeof *set->item);
    set->count = set->count - (end - at) + 1;
    set->item[at] = (struct pl_range){ from, to };
    return true;
}

bool pl_range_set_gap(const struct pl_range_set *set, uint64_t from, uint64_t to,
                      struct pl_range *gap)
{
    size_t at = first_reaching(set, from);

    for (; at < set->count && set->item[at].from <= from; at++)
        from = PL_MAX(from, set->item[at].to);
    if (from >= to)
        return false;
    *gap = (struct pl_range){ from, at < set->count ? PL_MIN(to, set->item[at].from) : to };
    return true;
}

void pl_range_set_free(struct pl_range_set *set)
{
    free(set->item);
    *set = (struct pl_range_set){ 0 };
}
