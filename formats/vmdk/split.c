/* split.c - grows a split disk by more files, made and named as those it has.
 *
 * Order on disk: the new files, then the last one at its full size, then a descriptor that names
 * them, which replaces the old one as a whole.  A crash before that leaves the old disk, perhaps
 * with files that nothing names and room behind the end of the last one. */
#include "formats/vmdk/split.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/create.h"

/* More digits than any disk has files. */
#define NUMBER_DIGITS_MAX 9

/* "disk-s002.vmdk" in its pieces. */
struct numbered {
    const char *name;
    int stem; /* bytes in front of the number */
    int digits;
    uint64_t number;
    const char *tail; /* what is behind it */
};

/* What is about to happen. */
struct growth {
    uint64_t size, last_size;    /* bytes of the disk, and of the extent that is the last now */
    struct vmdk_request request; /* of the new files alone */
    struct numbered last_name;
    struct vmdk_descriptor descriptor; /* the new one */
    uint64_t made;                     /* files there are */
};

/* What the last file is filled up to: borders of extents are those of granules. */
static uint64_t full_size(const struct vmdk *v)
{
    return PL_MAX(pl_round_down(VMDK_SPLIT_MAX, v->granule),
                  pl_round_up(v->parts[v->count - 1].extent.size, v->granule));
}

bool vmdk_split_needed(const struct vmdk *v, uint64_t size)
{
    return v->create_type && strncasecmp(v->create_type, "twoGb", 5) == 0 &&
           size - v->parts[v->count - 1].extent.start > full_size(v);
}

/* ---- the plan ---- */

static bool read_name(const char *name, struct numbered *out)
{
    const char *dot = strrchr(name, '.');
    const char *end = dot ? dot : name + strlen(name), *digit = end;

    while (digit > name && digit[-1] >= '0' && digit[-1] <= '9')
        digit--;
    *out = (struct numbered){ .name = name, .tail = end };
    if (strchr(name, '/') || digit == end || end - digit > NUMBER_DIGITS_MAX || digit - name < 2 ||
        digit[-2] != '-' || !strchr("sSfF", digit[-1]))
        return false;
    out->stem = (int)(digit - name);
    out->digits = (int)(end - digit);
    out->number = strtoull(digit, NULL, 10);
    return true;
}

static int refuse(const struct vmdk *v, const char *why, struct pl_err *e)
{
    pl_fail(e, PL_E_UNSUPPORTED,
            "this split disk can have up to %" PRIu64 " bytes in the files it has, and %s",
            v->parts[v->count - 1].extent.start + full_size(v), why);
    return pl_hint(e, "convert it to one file (-O vmdk), resize that, and convert it back to a "
                      "split disk");
}

/* The new files as if they were a disk of their own. */
static struct vmdk_request request_for(const struct vmdk *v, uint64_t size,
                                       enum pl_prealloc prealloc)
{
    const struct vmdk_part *last = &v->parts[v->count - 1];
    const bool flat = vmdk_line_of(v, last)->type == VMDK_FLAT;
    const uint64_t extent_size = pl_round_down(VMDK_SPLIT_MAX, v->granule);

    return (struct vmdk_request){
        .subformat = flat ? VMDK_TWO_GB_FLAT : VMDK_TWO_GB_SPARSE,
        .zeroed_grain = !flat && last->extent.has_zeroed,
        .grain_size = last->extent.granule,
        .prealloc = prealloc,
        .size = size,
        .extent_size = extent_size,
        .extents = extent_size ? pl_div_up(size, extent_size) : UINT64_MAX,
    };
}

static int plan(const struct vmdk *v, uint64_t size, enum pl_prealloc prealloc, struct growth *g,
                struct pl_err *e)
{
    const struct vmdk_part *last = &v->parts[v->count - 1];
    const struct vmdk_line *line = vmdk_line_of(v, last);

    *g = (struct growth){ .size = size, .last_size = full_size(v) };
    if (!v->maker)
        return refuse(v, "no more files can be made here", e);
    if ((line->type != VMDK_FLAT && line->type != VMDK_SPARSE) || last->extent.file == v->file ||
        !last->extent.ops->allocate)
        return refuse(v, "more of that kind are not made", e);
    if (!read_name(line->name, &g->last_name))
        return refuse(v, "the name of the last one has no number to go on from", e);
    if (line->type == VMDK_FLAT && prealloc == PL_PREALLOC_METADATA)
        return pl_fail(e, PL_E_UNSUPPORTED, "a flat extent has no metadata to preallocate");
    if (line->type == VMDK_SPARSE && prealloc > PL_PREALLOC_METADATA)
        return refuse(v, "new sparse ones are not preallocated", e);
    g->request = request_for(v, size - last->extent.start - g->last_size, prealloc);
    if (g->request.extents > VMDK_EXTENTS_MAX - v->count)
        return pl_fail(e, PL_E_LIMIT, "that needs more than %u extents", VMDK_EXTENTS_MAX);
    return 0;
}

/* ---- the descriptor ---- */

/* Lines of the new files, each behind the end of the line before it. */
static void put_lines(FILE *out, const struct growth *g, const char *line_end)
{
    const struct numbered *n = &g->last_name;
    const bool flat = g->request.subformat == VMDK_TWO_GB_FLAT;

    for (uint64_t i = 0; i < g->request.extents; i++)
        fprintf(out, "%sRW %" PRIu64 " %s \"%.*s%0*" PRIu64 "%s\"%s", line_end,
                vmdk_extent_size(&g->request, i) / VMDK_SECTOR, flat ? "FLAT" : "SPARSE", n->stem,
                n->name, n->digits, n->number + 1 + i, n->tail, flat ? " 0" : "");
}

static int write_text(const struct vmdk *v, const struct growth *g, char **text, size_t *len)
{
    const struct vmdk_descriptor *d = &v->descriptor;
    const struct vmdk_line *last = &d->lines[v->count - 1];
    const size_t digits_end = last->digits.at + last->digits.len;
    const size_t end = last->whole.at + last->whole.len;
    const char *lf = strchr(d->text + end, '\n');
    FILE *out = open_memstream(text, len);

    if (!out)
        return -1;
    fprintf(out, "%.*s%" PRIu64 "%.*s", (int)last->digits.at, d->text, g->last_size / VMDK_SECTOR,
            (int)(end - digits_end), d->text + digits_end);
    put_lines(out, g, lf && lf > d->text + end && lf[-1] == '\r' ? "\r\n" : "\n");
    fputs(d->text + end, out);
    return fclose(out) == 0 ? 0 : -1;
}

/* Makes g->descriptor, by the text that there is now. */
static int describe(const struct vmdk *v, struct growth *g, struct pl_err *e)
{
    char *text = NULL;
    size_t len;

    vmdk_descriptor_free(&g->descriptor);
    if (write_text(v, g, &text, &len) < 0) {
        free(text);
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    }
    return vmdk_descriptor_parse(text, len, &g->descriptor, e);
}

/* ---- the files ---- */

static int open_extent(const struct vmdk *v, const struct vmdk_line *line, struct vmdk_part *part,
                       struct pl_err *e)
{
    const struct vmdk_extent_args how = {
        .file = part->extent.file,
        .size = line->sectors * VMDK_SECTOR,
        .writable = true,
        .has_parent = v->has_parent,
        .cache_bytes = v->cache_bytes,
        .report = v->report,
    };
    struct vmdk_extent opened;

    if (vmdk_open_kind(line, &how, &opened, e) < 0)
        return -1;
    opened.file = part->extent.file;
    opened.owned = true;
    part->extent = opened;
    return 0;
}

/* The file is counted as made as soon as it is there. */
static int make_file(struct vmdk *v, struct growth *g, struct pl_err *e)
{
    const uint64_t i = g->made;
    const struct vmdk_line *line = &g->descriptor.lines[v->count + i];
    struct vmdk_part *part = &v->parts[v->count + i];

    *part = (struct vmdk_part){ .line = v->count + i };
    if (v->maker->create(v->maker, line->name, &part->extent.file, e) < 0) {
        if (e && e->kind == PL_E_EXISTS)
            pl_hint(e, "if no disk has it, it was left by a resize that was interrupted: remove "
                       "it");
        return -1;
    }
    g->made++;
    if (vmdk_fill_extent(part->extent.file, &g->request, i, e) < 0 ||
        pl_storage_flush(part->extent.file, e) < 0 || open_extent(v, line, part, e) < 0)
        return pl_within(e, "extent '%s'", line->name);
    return 0;
}

static void remove_files(struct vmdk *v, const struct growth *g)
{
    for (size_t i = v->count; i < v->count + g->made; i++) {
        struct vmdk_extent *x = &v->parts[i].extent;

        if (x->ops)
            x->ops->close(x->state);
        v->maker->remove(v->maker, g->descriptor.lines[i].name, x->file);
        pl_storage_close(x->file, NULL);
    }
}

static int make_files(struct vmdk *v, struct growth *g, struct pl_err *e)
{
    struct vmdk_part *parts =
        reallocarray(v->parts, v->count + g->request.extents, sizeof *v->parts);

    if (!parts)
        return pl_fail(e, PL_E_NOMEM, "no memory for %" PRIu64 " extents", g->request.extents);
    v->parts = parts;
    while (g->made < g->request.extents)
        if (make_file(v, g, e) < 0)
            return -1;
    return 0;
}

/* ---- the change ---- */

static int fill_last(struct vmdk *v, const struct growth *g, struct pl_err *e)
{
    const struct vmdk_part *part = &v->parts[v->count - 1];
    const struct vmdk_extent *x = &part->extent;

    if (x->size == g->last_size)
        return 0;
    if (x->ops->resize(x->state, g->last_size, g->request.prealloc, e) < 0 ||
        (x->ops->flush && x->ops->flush(x->state, e) < 0))
        return vmdk_within(v, part, e);
    return 0;
}

/* The new descriptor is on disk: so is the new disk. */
static void take_over(struct vmdk *v, struct growth *g)
{
    v->parts[v->count - 1].extent.size = g->last_size;
    for (size_t i = v->count; i < v->count + g->made; i++) {
        const struct vmdk_extent *before = &v->parts[i - 1].extent;

        v->parts[i].extent.start = before->start + before->size;
    }
    v->count += g->made;
    v->size = g->size;
    g->made = 0;
    vmdk_descriptor_free(&v->descriptor);
    v->descriptor = g->descriptor;
    g->descriptor = (struct vmdk_descriptor){ 0 };
}

static int change(struct vmdk *v, struct growth *g, struct pl_err *e)
{
    bool replaced = false;
    int result;

    if (make_files(v, g, e) < 0 || fill_last(v, g, e) < 0)
        return -1;
    result = pl_storage_replace(v->file, g->descriptor.text, g->descriptor.len, &replaced, e);
    if (replaced)
        take_over(v, g);
    return result;
}

/* The CID is written into the old descriptor, so that the new one is made anew after it. */
int vmdk_split_grow(struct vmdk *v, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e)
{
    struct growth g;
    int result = -1;

    if (plan(v, size, prealloc, &g, e) < 0)
        return -1;
    if (describe(v, &g, e) == 0 && vmdk_before_change(v, e) == 0 && describe(v, &g, e) == 0)
        result = change(v, &g, e);
    if (result < 0)
        remove_files(v, &g);
    vmdk_descriptor_free(&g.descriptor);
    return result;
}
