/* check.c - what is wrong with a disk: its extents, each by itself, and how they fit together. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/rewrite.h"

/* Overlaps that are listed by name. */
#define TOLD_MAX 20u

/* The bytes that a flat extent takes in its file. */
struct span {
    struct pl_storage_id id;
    const struct pl_storage *file; /* where the host gives no id */
    uint64_t off, len;
    size_t line;
};

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_files(const struct span *x, const struct span *y)
{
    int order = compare_numbers(x->id.device, y->id.device);

    if (order == 0)
        order = compare_numbers(x->id.inode, y->id.inode);
    return order ? order : compare_numbers((uintptr_t)x->file, (uintptr_t)y->file);
}

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    const int order = compare_files(x, y);

    return order ? order : compare_numbers(x->off, y->off);
}

/* A sparse extent has its whole file for itself. */
static struct span span_of(const struct vmdk *v, const struct vmdk_part *part)
{
    struct pl_storage *file = part->extent.file;
    struct span span = { .len = PL_OFFSET_MAX, .line = part->line };

    if (!file->ops->id || !file->ops->id(file, &span.id))
        span.file = file;
    if (part->extent.granule == 1) {
        span.off = v->descriptor.lines[part->line].offset;
        span.len = part->extent.size;
    }
    return span;
}

static int check_overlaps(const struct vmdk *v, const struct pl_report *report,
                          struct pl_check_result *result, struct pl_err *e)
{
    PL_FREE struct span *spans = calloc(v->count, sizeof *spans);
    uint64_t end = 0;
    size_t count = 0;
    unsigned told = 0;

    if (!spans)
        return pl_fail(e, PL_E_NOMEM, "no memory to compare %zu extents", v->count);
    for (size_t i = 0; i < v->count; i++)
        if (v->parts[i].extent.ops && v->parts[i].extent.file)
            spans[count++] = span_of(v, &v->parts[i]);
    qsort(spans, count, sizeof *spans, compare_spans);
    for (size_t i = 0; i < count; i++) {
        const bool same = i > 0 && compare_files(&spans[i - 1], &spans[i]) == 0;

        if (same && spans[i].off < end) {
            result->corruptions++;
            if (told++ < TOLD_MAX)
                pl_warn(report, "ERROR extents %zu and %zu have bytes of one file in common",
                        spans[i - 1].line + 1, spans[i].line + 1);
        }
        end = same ? PL_MAX(end, spans[i].off + spans[i].len) : spans[i].off + spans[i].len;
    }
    return 0;
}

/* A text that readers find who follow the header, but QEMU does not. */
static int check_descriptor(struct vmdk *v, enum pl_repair repair, const struct pl_report *report,
                            struct pl_check_result *result, struct pl_err *e)
{
    bool away;

    if (vmdk_is_away(v, &away, e) < 0)
        return -1;
    if (!away)
        return 0;
    pl_warn(report, "%s the descriptor is behind its usual place, where a crash left an older one",
            repair == PL_REPAIR_NONE ? "Leaked" : "Repairing");
    if (repair == PL_REPAIR_NONE) {
        result->leaks++;
        return 0;
    }
    result->leaks_fixed++;
    return vmdk_bring_home(v, e);
}

int vmdk_check(void *state, enum pl_repair repair, const struct pl_report *report,
               struct pl_check_result *result, struct pl_err *e)
{
    struct vmdk *v = state;

    if (check_descriptor(v, repair, report, result, e) < 0)
        return pl_within(e, "descriptor");
    for (size_t i = 0; i < v->count; i++) {
        const struct vmdk_part *part = &v->parts[i];
        const struct vmdk_extent *x = &part->extent;

        if (pl_check_cancelled(report, e) < 0)
            return -1;
        if (part->missing) /* open told why */
            result->corruptions++;
        else if (x->ops && x->ops->check &&
                 x->ops->check(x->state, vmdk_may_write(v, part) ? repair : PL_REPAIR_NONE, report,
                               result, e) < 0)
            return vmdk_within(v, part, e);
    }
    return v->count > 1 ? check_overlaps(v, report, result, e) : 0;
}
