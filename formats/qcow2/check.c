/* check.c - whether an image's tables are sound: the driver's check.
 *
 * A check is one pass.  A repair is passes in turn, one that finds and one that mends, until
 * nothing is left or mending no longer helps. */
#include "formats/qcow2/check.h"

#include <inttypes.h>

#include "core/base/checked.h"

#define ROUNDS_MAX 3

static int begin_pass(struct qcow2_check *c, struct pl_err *e)
{
    uint64_t clusters;

    c->file_size = pl_storage_size(c->q->file);
    /* References may reach into one cluster that the file does not have. */
    clusters = pl_div_up(c->file_size, c->q->cluster_size) + 1;
    if (qcow2_tally_make(&c->refs, clusters, e) < 0)
        return -1;
    return qcow2_tally_make(&c->tables, clusters, e);
}

static void end_pass(struct qcow2_check *c)
{
    qcow2_tally_free(&c->refs);
    qcow2_tally_free(&c->tables);
}

/* A pass that looks.  The caller ends it. */
static int look(struct qcow2_check *c, struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    if (begin_pass(c, e) < 0)
        return -1;
    c->result.has_allocation = true;
    c->result.total_clusters = pl_div_up(c->q->header.size, c->q->cluster_size);
    if (qcow2_walk(c, e) < 0 || qcow2_walk_refcounts(c, e) < 0 || qcow2_compare(c, e) < 0)
        return -1;
    return qcow2_check_copied(c, e);
}

/* A pass that mends what `found` found; both have the same q. */
static int mend(const struct qcow2_check *found, enum pl_repair repair, struct pl_err *e)
    PL_NEEDS(&found->q->lock) PL_UNCHECKED;
static int mend(const struct qcow2_check *found, enum pl_repair repair, struct pl_err *e)
{
    struct qcow2_check c = {
        .q = found->q, .report = found->report, .repair = repair, .before = found, .tell = true
    };
    int r = begin_pass(&c, e);

    if (r == 0)
        r = qcow2_mend(&c, e);
    end_pass(&c);
    return r;
}

static uint64_t defects(const struct qcow2_check *c, enum pl_repair repair)
{
    return c->result.leaks + (repair == PL_REPAIR_ALL ? c->result.corruptions : 0);
}

/* A clean image says so in its header. */
static int clear_marks(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t marks = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;

    if (!(q->header.incompatible_features & marks))
        return 0;
    q->header.incompatible_features &= ~marks;
    return qcow2_write_header(q, e) < 0 ? -1 : qcow2_write_back(q, true, e);
}

/* Looks and mends in turn; *last is what the last look found, *first what the first one did. */
static int look_and_mend(struct qcow2_check *last, enum pl_repair repair,
                         struct pl_check_result *first, struct pl_err *e) PL_NEEDS(&last->q->lock)
{
    struct qcow2_check template = *last;
    int r = look(last, e);

    *first = last->result;
    if (!first->corruptions && !first->check_errors)
        repair = PL_REPAIR_ALL; /* copied flags follow the counts that are lowered */
    for (unsigned round = 0; r == 0 && defects(last, repair) && round < ROUNDS_MAX; round++) {
        uint64_t before = defects(last, repair);

        r = mend(last, repair, e);
        end_pass(last);
        *last = template;
        if (r == 0)
            r = look(last, e);
        if (r == 0 && defects(last, repair) >= before)
            break;
    }
    if (r < 0 || !(defects(last, PL_REPAIR_ALL) || last->result.check_errors))
        return r;
    /* Once more, to tell what is left. */
    end_pass(last);
    *last = template;
    last->tell = true;
    return look(last, e);
}

static uint64_t less(uint64_t before, uint64_t now)
{
    return before > now ? before - now : 0;
}

static int repair_image(struct qcow2_check *c, enum pl_repair repair, struct pl_err *e)
    PL_NEEDS(&c->q->lock)
{
    struct pl_check_result first;

    if (look_and_mend(c, repair, &first, e) < 0)
        return -1;
    c->result.corruptions_fixed = less(first.corruptions, c->result.corruptions);
    c->result.leaks_fixed = less(first.leaks, c->result.leaks);
    if (c->result.corruptions || c->result.check_errors)
        return 0;
    return clear_marks(c->q, e);
}

int qcow2_check(void *state, enum pl_repair repair, const struct pl_report *report,
                struct pl_check_result *result, struct pl_err *e)
{
    struct qcow2_check c = { .q = state, .report = report, .tell = repair == PL_REPAIR_NONE };
    int r;

    PL_LOCKED(&c.q->lock);
    if (repair != PL_REPAIR_NONE && qcow2_check_writable(c.q, e) < 0)
        return -1;
    if (c.q->writable && qcow2_write_back(c.q, true, e) < 0)
        return -1;
    r = repair == PL_REPAIR_NONE ? look(&c, e) : repair_image(&c, repair, e);
    end_pass(&c);
    if (r == 0)
        *result = c.result;
    return r;
}
