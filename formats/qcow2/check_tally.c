/* check_tally.c - numbers for clusters, and findings. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "formats/qcow2/check.h"

#define TOLD_MAX 1000 /* findings told one by one */
#define PAGES_MAX                                                                                  \
    (UINT64_C(1) << 26) /* 512 MiB of pointers: a file of 2 PiB with clusters of 512 bytes */

int qcow2_tally_make(struct qcow2_tally *t, uint64_t clusters, struct pl_err *e)
{
    uint64_t pages = pl_div_up(clusters, QCOW2_TALLY_PAGE);

    *t = (struct qcow2_tally){ .clusters = clusters };
    if (pages > PAGES_MAX)
        return pl_fail(e, PL_E_LIMIT, "a file of %" PRIu64 " clusters is too long to be checked",
                       clusters);
    t->page = calloc(pages ? pages : 1, sizeof *t->page);
    return t->page ? 0
                   : pl_fail(e, PL_E_NOMEM,
                             "no memory to count the references of %" PRIu64 " clusters", clusters);
}

void qcow2_tally_free(struct qcow2_tally *t)
{
    for (uint64_t i = 0; t->page && i * QCOW2_TALLY_PAGE < t->clusters; i++)
        free(t->page[i]);
    free(t->page);
    *t = (struct qcow2_tally){ 0 };
}

uint32_t *qcow2_tally_at(struct qcow2_tally *t, uint64_t cluster)
{
    uint32_t **page;

    if (cluster >= t->clusters)
        return NULL;
    page = &t->page[cluster / QCOW2_TALLY_PAGE];
    if (!*page)
        *page = calloc(QCOW2_TALLY_PAGE, sizeof **page);
    return *page ? *page + cluster % QCOW2_TALLY_PAGE : NULL;
}

uint32_t qcow2_tally_get(const struct qcow2_tally *t, uint64_t cluster)
{
    const uint32_t *page = cluster < t->clusters ? t->page[cluster / QCOW2_TALLY_PAGE] : NULL;

    return page ? page[cluster % QCOW2_TALLY_PAGE] : 0;
}

/* How a finding begins when it is told. */
static const char *word_for(enum qcow2_finding kind, bool mend)
{
    if (mend)
        return "Repairing";
    return kind == QCOW2_LEAK ? "Leaked" : "ERROR";
}

bool qcow2_found(struct qcow2_check *c, enum qcow2_finding kind, const char *fmt, ...)
{
    bool mend = (kind == QCOW2_LEAK && c->repair != PL_REPAIR_NONE) ||
                (kind == QCOW2_ERROR && c->repair == PL_REPAIR_ALL);
    char text[400];
    va_list args;

    if (kind == QCOW2_UNREADABLE)
        c->result.check_errors++;
    else if (kind == QCOW2_LEAK)
        c->result.leaks++;
    else
        c->result.corruptions++;
    /* A pass that mends tells what it mends; what is left is told by the pass after it. */
    if (!c->tell || (c->repair != PL_REPAIR_NONE && !mend) || c->told > TOLD_MAX)
        return mend;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->told++ == TOLD_MAX)
        pl_warn(c->report, "there is more, which is not shown");
    else
        pl_warn(c->report, "%s %s", word_for(kind, mend), text);
    return mend;
}

/* Counts, and says that it has seen the cluster. */
static int count_cluster(struct qcow2_check *c, uint64_t cluster, uint32_t times, struct pl_err *e)
{
    uint32_t *n = qcow2_tally_at(&c->refs, cluster);

    if (!n)
        return pl_fail(e, PL_E_NOMEM, "no memory to count the references of cluster %" PRIu64,
                       cluster);
    *n = times > UINT32_MAX - *n ? UINT32_MAX : *n + times;
    return 0;
}

/* Its last cluster may be cut short, but must begin in the file. */
static bool leaves_file(const struct qcow2_check *c, uint64_t off, uint64_t len)
{
    uint64_t end;

    return !pl_add(off, len, &end) ||
           (end > c->file_size && end - c->file_size >= c->q->cluster_size);
}

int qcow2_count_range(struct qcow2_check *c, uint64_t off, uint64_t len, uint32_t times,
                      struct pl_err *e)
{
    unsigned bits = c->q->cluster_bits;

    if (!len)
        return 0;
    if (leaves_file(c, off, len))
        return qcow2_found(c, QCOW2_ERROR,
                           "counting reference for region exceeding the end of the file "
                           "by one cluster or more: offset 0x%" PRIx64 " size 0x%" PRIx64,
                           off, len);
    for (uint64_t cluster = off >> bits; cluster <= (off + len - 1) >> bits; cluster++)
        if (count_cluster(c, cluster, times, e) < 0)
            return -1;
    return 0;
}

int qcow2_mark_structure(struct qcow2_check *c, uint64_t off, uint64_t len, struct pl_err *e)
{
    unsigned bits = c->q->cluster_bits;

    if (!len || leaves_file(c, off, len))
        return 0;
    for (uint64_t cluster = off >> bits; cluster <= (off + len - 1) >> bits; cluster++) {
        uint32_t *n = qcow2_tally_at(&c->tables, cluster);

        if (!n)
            return pl_fail(e, PL_E_NOMEM, "no memory to note cluster %" PRIu64, cluster);
        *n |= QCOW2_TABLE_STRUCTURE;
    }
    return 0;
}

bool qcow2_in_hole(struct qcow2 *q, uint64_t off)
{
    uint64_t size = pl_storage_size(q->file), want, len;
    bool hole;

    if (off >= size)
        return true;
    want = len = PL_MIN(q->cluster_size, size - off);
    return pl_storage_map(q->file, off, &len, &hole, NULL) == 0 && hole && len == want;
}
