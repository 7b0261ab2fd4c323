/* parts.c - opens the extents of a disk that has them in files of their own, and tells which may be
 * written.
 *
 * Several lines may name one file: it is opened once, for two openings for writing would lock each
 * other out. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/vmdk.h"

/* Missing extents that `check` lists by name. */
#define TOLD_MAX 20u

static bool is_ascii(const char *text)
{
    while (*text && (unsigned char)*text < 0x80)
        text++;
    return !*text;
}

/* Adds what only the descriptor knows to the reason why a file could not be opened. */
static void explain(const struct vmdk *v, const struct vmdk_line *line, struct pl_err *e)
{
    if (v->of_device && (e->kind == PL_E_POLICY || e->kind == PL_E_NOT_FOUND))
        pl_within(e, "a device or file of the host that made the disk is meant");
    if (v->of_device && e->kind == PL_E_NOT_FOUND)
        pl_hint(e, "on another host, convert the disk there and bring the copy here");
    else if (e->kind == PL_E_NOT_FOUND && !is_ascii(line->name) && v->encoding)
        pl_hint(e, "the name is written in %s: look for the file under a name in other letters",
                v->encoding);
    else if (e->kind == PL_E_NOT_FOUND && !*e->hint)
        pl_hint(e, "copy all files of the disk into one folder; platter check names those that "
                   "are missing");
}

/* Whether the line names the descriptor itself: to open it once more for writing would only say
 * that it is locked. */
static bool names_itself(const struct vmdk *v, const struct vmdk_line *line)
{
    const char *path = v->file->path ? v->file->path : v->file->name;
    const char *slash = strrchr(path, '/');
    const char *name = strncmp(line->name, "./", 2) == 0 ? line->name + 2 : line->name;

    return strcmp(name, slash ? slash + 1 : path) == 0;
}

static int open_file(struct vmdk *v, const struct pl_open_args *args, struct vmdk_part *part,
                     struct pl_err *e)
{
    const struct vmdk_line *line = vmdk_line_of(v, part);
    struct pl_open_args own = *args;
    struct pl_storage *file;

    own.writable = args->writable && line->access == VMDK_RW;
    if (!args->open_file)
        return pl_fail(e, PL_E_UNSUPPORTED, "further files cannot be opened here");
    if (!names_itself(v, line)) {
        if (args->open_file(&own, line->name, &file, e) < 0) {
            explain(v, line, e);
            return -1;
        }
        part->extent.file = file;
        part->extent.owned = true;
        if (!pl_storage_same(v->file, file))
            return 0;
    }
    return pl_fail(e, PL_E_CORRUPT, "the descriptor names itself as an extent");
}

int vmdk_open_kind(const struct vmdk_line *line, const struct vmdk_extent_args *how,
                   struct vmdk_extent *out, struct pl_err *e)
{
    switch (line->type) {
    case VMDK_SPARSE:
    case VMDK_VMFSSPARSE:
        return vmdk_sparse_open(how, out, e);
    case VMDK_SESPARSE:
        return vmdk_sesparse_open(how, out, e);
    default:
        return vmdk_flat_open(how, line->offset, out, e);
    }
}

static int open_part(struct vmdk *v, const struct pl_open_args *args, struct vmdk_part *part,
                     struct pl_err *e)
{
    const struct vmdk_line *line = vmdk_line_of(v, part);
    struct vmdk_extent_args how = vmdk_extent_args(v, args);
    struct vmdk_extent opened = { 0 };

    how.writable = args->writable && line->access == VMDK_RW;
    how.size = line->sectors * VMDK_SECTOR;
    how.file = part->extent.file;
    if (vmdk_open_kind(line, &how, &opened, e) < 0)
        return -1;
    opened.file = part->extent.file;
    opened.owned = part->extent.owned;
    part->extent = opened;
    return 0;
}

struct by_name {
    const char *name;
    size_t index;
};

static int compare_names(const void *a, const void *b)
{
    const struct by_name *x = a, *y = b;
    const int order = strcmp(x->name, y->name);

    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* *first[i]: the first line that names the same file as line i, or i. */
static int find_repeated(const struct vmdk_descriptor *d, size_t **first, struct pl_err *e)
{
    PL_FREE struct by_name *names = calloc(d->line_count, sizeof *names);
    size_t count = 0, run = 0;

    *first = calloc(d->line_count, sizeof **first);
    if (!names || !*first)
        return pl_fail(e, PL_E_NOMEM, "no memory for %zu extents", d->line_count);
    for (size_t i = 0; i < d->line_count; i++) {
        (*first)[i] = i;
        if (d->lines[i].name && d->lines[i].access != VMDK_NOACCESS)
            names[count++] = (struct by_name){ d->lines[i].name, i };
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(names[i].name, names[run].name) != 0)
            run = i;
        (*first)[names[i].index] = names[run].index;
    }
    return 0;
}

/* Opens the file of a part, or takes the one that is open already, and then the extent in it. */
static int add_part(struct vmdk *v, const struct pl_open_args *args, size_t i, size_t first,
                    struct pl_err *e)
{
    struct vmdk_part *part = &v->parts[i];
    const struct vmdk_line *line = &v->descriptor.lines[i];
    int result = 0;

    part->line = i;
    part->extent.size = line->sectors * VMDK_SECTOR;
    part->extent.granule = 1;
    if (line->access == VMDK_NOACCESS)
        return 0;
    part->repeated = first != i;
    if (part->repeated) {
        part->extent.file = v->parts[first].extent.file;
        part->missing = v->parts[first].missing;
    } else if (line->type != VMDK_ZERO) {
        result = open_file(v, args, part, e);
    }
    if (part->missing)
        return 0;
    if (result == 0 && open_part(v, args, part, e) == 0)
        return 0;
    part->missing = true;
    return -1;
}

/* `check` goes on without any part, `info` without files that are not there. */
static bool may_be_missing(const struct pl_open_args *args, const struct pl_err *why)
{
    return args->check_only || (args->describe_only && why->kind == PL_E_NOT_FOUND);
}

int vmdk_open_parts(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    PL_FREE size_t *first = NULL;
    uint64_t start = 0;
    unsigned told = 0;

    if (find_repeated(&v->descriptor, &first, e) < 0)
        return -1;
    for (size_t i = 0; i < v->count; i++) {
        struct pl_err why = { 0 };

        if (add_part(v, args, i, first[i], &why) < 0) {
            vmdk_within(v, &v->parts[i], &why);
            if (!may_be_missing(args, &why)) {
                if (e)
                    *e = why;
                return -1;
            }
            if (told++ < TOLD_MAX)
                pl_warn(args->report, "%s%s", args->check_only ? "ERROR " : "", why.msg);
            else if (told == TOLD_MAX + 1)
                pl_warn(args->report, "more extents are missing, which are not shown");
        }
        v->parts[i].extent.start = start;
        start += v->parts[i].extent.size; /* parse checked the sum */
    }
    return 0;
}

/* ---- what may be written ---- */

bool vmdk_may_write(const struct vmdk *v, const struct vmdk_part *part)
{
    const struct vmdk_line *line = vmdk_line_of(v, part);
    const struct vmdk_extent_ops *ops = part->extent.ops;

    return ops && (ops->allocate || ops->allocate_packed) &&
           (!line || part->extent.file == v->file || line->access == VMDK_RW);
}

/* Granules must not cross the borders of extents, and no byte may be in the disk twice. */
static int check_borders(const struct vmdk *v, struct pl_err *e)
{
    for (size_t i = 0; i < v->count; i++) {
        const struct vmdk_part *part = &v->parts[i];

        if (part->extent.start % v->granule) {
            pl_fail(e, PL_E_UNSUPPORTED,
                    "it begins at guest address 0x%" PRIx64
                    ", no multiple of the grain size %" PRIu32,
                    part->extent.start, v->granule);
            pl_hint(e, "open it for reading only, or convert it");
            return vmdk_within(v, part, e);
        }
        if (part->repeated && part->extent.granule > 1) {
            pl_fail(e, PL_E_CORRUPT, "an extent before it is the same sparse file");
            return vmdk_within(v, part, e);
        }
    }
    return 0;
}

int vmdk_check_writable(const struct vmdk *v, struct pl_err *e)
{
    for (size_t i = 0; i < v->count; i++)
        if (vmdk_may_write(v, &v->parts[i]))
            return check_borders(v, e);
    if (v->parts[0].extent.ops && !v->parts[0].extent.ops->allocate) {
        pl_fail(e, PL_E_UNSUPPORTED, "%s extents cannot be changed", v->parts[0].extent.ops->kind);
        return pl_hint(e, "convert it to another kind of image");
    }
    pl_fail(e, PL_E_UNSUPPORTED, "none of its extents may be written (access is not RW)");
    return pl_hint(e, "open it for reading only");
}
