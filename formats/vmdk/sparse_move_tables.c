/* sparse_move_tables.c - grain tables change their place: for compact.
 *
 * A table is copied, then the directory shows the copy, in the order of sparse.h; the old place is
 * not used again before that is on disk.  Where tables have less room before them than they need,
 * they go to the end of the file, the grains move together, and the tables come back behind them.
 */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/vmdk/sparse_check.h"

bool vmdk_next_place(const struct vmdk_check *c, uint64_t *at, uint64_t end, struct vmdk_fit fit,
                     uint64_t *off)
{
    uint64_t from = pl_round_up(*at, fit.align), here = from, len;

    while (pl_inside(from, fit.size, end)) {
        if (here >= from + fit.size) {
            *off = from;
            *at = from + fit.size;
            return true;
        }
        if (vmdk_use_at(c, here, &len) != VMDK_UNUSED)
            from = pl_round_up(here + len, fit.align);
        here = PL_MAX(here + len, from);
    }
    return false;
}

/* One way to choose a new place for a table at `from`.  1: *to; 0: it stays; -1. */
typedef int choose_place(struct vmdk_check *c, uint64_t *at, uint64_t from, uint64_t *to,
                         struct pl_err *e);

static int move_table(struct vmdk_check *c, unsigned copy, uint64_t index, uint64_t from,
                      uint64_t to, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int move_table(struct vmdk_check *c, unsigned copy, uint64_t index, uint64_t from,
                      uint64_t to, struct pl_err *e)
{
    if (vmdk_bits_set(&c->metadata, to, vmdk_table_bytes(c->s), e) < 0 ||
        vmdk_copy_table(c->s, from, to, e) < 0 || vmdk_set_table(c->s, copy, index, to, e) < 0)
        return pl_within(e, "moving grain table %" PRIu64, index);
    pl_table_cache_drop(c->s->table_cache, from, vmdk_table_bytes(c->s));
    return 0;
}

/* Moves tables behind the place where grains may begin.  1: some moved. */
static int move_tables(struct vmdk_check *c, uint64_t at, choose_place *choose, struct pl_err *e)
    PL_NEEDS(&c->s->lock);
static int move_tables(struct vmdk_check *c, uint64_t at, choose_place *choose, struct pl_err *e)
{
    const uint64_t first = vmdk_grains_from(c->s), count = c->s->directory_entries;
    int moved = 0;

    for (unsigned copy = 0; copy < VMDK_COPIES && c->s->directory[copy]; copy++)
        for (uint64_t i = 0; i < count; i++) {
            uint64_t from, to;
            int r;

            if (vmdk_find_table(c->s, copy, i, true, &from, e) < 0)
                return -1;
            r = from >= first ? choose(c, &at, from, &to, e) : 0;
            if (r < 0 || (r && move_table(c, copy, i, from, to, e) < 0))
                return -1;
            moved |= r;
        }
    return moved && vmdk_sparse_write_back(c->s, true, e) < 0 ? -1 : moved;
}

static struct vmdk_fit table_fit(const struct vmdk_check *c)
{
    return (struct vmdk_fit){ vmdk_table_bytes(c->s), VMDK_SECTOR };
}

static int choose_before(struct vmdk_check *c, uint64_t *at, uint64_t from, uint64_t *to,
                         struct pl_err *e)
{
    (void)e;
    return vmdk_next_place(c, at, from, table_fit(c), to);
}

int vmdk_move_tables_down(struct vmdk_check *c, struct pl_err *e)
{
    return c->metadata_end > vmdk_grains_from(c->s)
               ? move_tables(c, vmdk_grains_from(c->s), choose_before, e)
               : 0;
}

/* *at is the unused place that tables behind it give up theirs for. */
static int choose_end(struct vmdk_check *c, uint64_t *at, uint64_t from, uint64_t *to,
                      struct pl_err *e) PL_UNCHECKED;
static int choose_end(struct vmdk_check *c, uint64_t *at, uint64_t from, uint64_t *to,
                      struct pl_err *e)
{
    if (from < *at)
        return 0;
    return vmdk_append_room(c->s, vmdk_table_bytes(c->s), to, e) < 0 ? -1 : 1;
}

int vmdk_move_tables_away(struct vmdk_check *c, struct pl_err *e)
{
    const struct vmdk_fit grain = { c->s->grain_size, c->s->cowd ? VMDK_SECTOR : c->s->grain_size };
    uint64_t at = vmdk_grains_from(c->s), place;

    if (!vmdk_next_place(c, &at, c->metadata_end, grain, &place))
        return 0;
    return move_tables(c, place, choose_end, e);
}
