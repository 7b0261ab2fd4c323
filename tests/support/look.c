/* look.c - see operation.h: disks as they are seen, and what may be seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/operation.h"

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/graph/image.h"
#include "core/storage/storage.h"

#define SECTOR 512u
#define GROWTH (3 * PL_MIB / 2)

bool problem_in(struct problem *problem, const char *fmt, ...)
{
    struct problem inner = *problem;
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(problem->text, sizeof problem->text, fmt, ap);
    va_end(ap);
    if (inner.text[0] && len >= 0 && (size_t)len < sizeof problem->text)
        snprintf(problem->text + len, sizeof problem->text - (size_t)len, ": %.1000s", inner.text);
    return false;
}

static bool library_problem(struct problem *problem, const struct pl_err *e)
{
    problem->text[0] = '\0';
    return problem_in(problem, "%s", e->msg);
}

static bool in_view(struct problem *problem, const struct view *view)
{
    return problem_in(problem, "%s%s%s", view->path, view->snapshot ? "@" : "",
                      view->snapshot ? view->snapshot : "");
}

static char *path_of(const char *folder, const struct view *view)
{
    char *path;

    if (asprintf(&path, "%s/%s", folder, view->path) < 0)
        abort();
    return path;
}

/* ---- looking ---- */

/* Whether the disk has the snapshot; a failure counts as yes, for opening tells it. */
static bool has_snapshot(const char *path, const struct pl_open_options *options, const char *name)
{
    struct pl_image *img;
    struct pl_snapshot *list = NULL;
    struct pl_err e;
    size_t count = 0;
    bool found = false;

    if (pl_open(path, options, &img, &e) < 0)
        return true;
    if (pl_snapshots(img, &list, &count, &e) < 0)
        found = true;
    for (size_t i = 0; i < count; i++)
        found = found || strcmp(list[i].name, name) == 0;
    free(list);
    pl_close(img, NULL);
    return found;
}

static int read_run(struct pl_image *img, const struct pl_run *run, struct pages *out,
                    struct pl_err *e)
{
    uint8_t bytes[PAGE_BYTES];

    for (uint64_t done = 0; !run->zero && done < run->len;) {
        const size_t now = (size_t)PL_MIN(sizeof bytes, run->len - done);

        if (pl_read(img, run->at + done, bytes, now, e) < 0)
            return -1;
        pages_write(out, run->at + done, bytes, now);
        done += now;
    }
    return 0;
}

static int read_disk(struct pl_image *img, struct pages *out, struct pl_err *e)
{
    const uint64_t size = pl_size(img);
    struct pl_run run;

    *out = (struct pages){ 0 };
    pages_resize(out, size);
    for (uint64_t at = 0; at < size; at += run.len)
        if (pl_map(img, at, size - at, &run, e) < 0 || read_run(img, &run, out, e) < 0)
            return -1;
    return 0;
}

/* A second name of the disk itself is what begins to be a state and is none. */
static bool exists(const struct trial *trial, const char *folder, const char *path, size_t index)
{
    PL_FREE char *disk = path_of(folder, &trial->op->views[0]);
    struct stat first, this;

    if (stat(path, &this) < 0)
        return false;
    return index == 0 || trial->op->views[index].snapshot || stat(disk, &first) < 0 ||
           this.st_ino != first.st_ino;
}

static bool look_at_one(const struct trial *trial, const char *folder, size_t index,
                        struct look *look, struct problem *problem)
{
    const struct view *view = &trial->op->views[index];
    const struct pl_open_options options = { .format = trial->format, .snapshot = view->snapshot };
    const struct pl_open_options plain = { .format = trial->format };
    PL_FREE char *path = path_of(folder, view);
    struct pl_image *img;
    struct pl_err e = { 0 };
    int result;

    look->there[index] = exists(trial, folder, path, index) &&
                         (!view->snapshot || has_snapshot(path, &plain, view->snapshot));
    if (!look->there[index] || view->rule == VIEW_GOING)
        return true;
    if (pl_open(path, &options, &img, &e) < 0)
        return library_problem(problem, &e);
    result = read_disk(img, &look->disk[index], &e);
    pl_close(img, NULL);
    return result < 0 ? library_problem(problem, &e) : true;
}

bool look_at(const struct trial *trial, const char *folder, struct look *look,
             struct problem *problem)
{
    *look = (struct look){ 0 };
    for (size_t i = 0; i < VIEW_COUNT && trial->op->views[i].path; i++)
        if (!look_at_one(trial, folder, i, look, problem))
            return in_view(problem, &trial->op->views[i]);
    return true;
}

void look_free(struct look *look)
{
    for (size_t i = 0; i < VIEW_COUNT; i++)
        pages_free(&look->disk[i]);
}

/* ---- judging ---- */

/* The first sector that is neither's; UINT64_MAX: none. */
static uint64_t strange_sector(const struct pages *seen, const struct pages *old,
                               const struct pages *new)
{
    static const uint8_t zeros[PAGE_BYTES];
    const size_t count = PL_MAX(seen->count, PL_MAX(old->count, new->count));

    for (size_t i = 0; i < count; i++) {
        const uint8_t *a = pages_at(seen, i), *b = pages_at(old, i), *c = pages_at(new, i);

        a = a ? a : zeros, b = b ? b : zeros, c = c ? c : zeros;
        for (size_t at = 0; at < PAGE_BYTES; at += SECTOR)
            if (memcmp(a + at, b + at, SECTOR) != 0 && memcmp(a + at, c + at, SECTOR) != 0)
                return i * (PAGE_BYTES / SECTOR) + at / SECTOR;
    }
    return UINT64_MAX;
}

static bool is_same(const struct look *a, const struct look *b, size_t index)
{
    return a->there[index] == b->there[index] &&
           (!a->there[index] || pages_hash(&a->disk[index]) == pages_hash(&b->disk[index]));
}

static bool one_allowed(const struct look *seen, const struct look *old, const struct look *new,
                        size_t index, enum view_rule rule, struct problem *problem)
{
    const uint64_t size = seen->disk[index].size;
    uint64_t strange;

    if (is_same(seen, old, index) || is_same(seen, new, index))
        return true;
    if (!seen->there[index])
        return problem_in(problem, "it is gone");
    if (size != old->disk[index].size && size != new->disk[index].size)
        return problem_in(problem, "its size is %ju", (uintmax_t)size);
    strange = strange_sector(&seen->disk[index], &old->disk[index], &new->disk[index]);
    if (strange != UINT64_MAX)
        return problem_in(problem, "sector %ju is neither the old nor the new one",
                          (uintmax_t)strange);
    return rule == VIEW_SECTORS || problem_in(problem, "old and new sectors are mixed");
}

bool look_allowed(const struct trial *trial, const struct look *seen, const struct look *old,
                  const struct look *new, struct problem *problem)
{
    for (size_t i = 0; i < VIEW_COUNT && trial->op->views[i].path; i++) {
        const enum view_rule rule = trial->op->views[i].rule;

        if (!one_allowed(seen, old, new, i, rule, problem))
            return in_view(problem, &trial->op->views[i]);
    }
    return true;
}

/* ---- tables ---- */

static bool one_sound(const struct trial *trial, const char *path, bool interrupted,
                      struct problem *problem)
{
    const struct pl_open_options options = { .format = trial->format,
                                             .no_parent = true,
                                             .check_only = true };
    /* the two footers cannot change at one instant */
    const uint64_t excused = interrupted && strcmp(trial->format, "vhd") == 0;
    struct pl_check_result found = { 0 };
    struct pl_image *img;
    struct pl_err e = { 0 };
    int result;

    if (access(path, F_OK) < 0)
        return true;
    if (pl_open(path, &options, &img, &e) < 0)
        return library_problem(problem, &e);
    result = pl_check(img, PL_REPAIR_NONE, NULL, &found, &e);
    pl_close(img, NULL);
    if (result < 0 && e.kind != PL_E_UNSUPPORTED)
        return library_problem(problem, &e);
    if (found.corruptions > excused || found.check_errors)
        return problem_in(problem, "check finds %ju corruptions, %ju errors",
                          (uintmax_t)found.corruptions, (uintmax_t)found.check_errors);
    return true;
}

bool look_sound(const struct trial *trial, const char *folder, size_t mended,
                struct problem *problem)
{
    for (size_t i = 0; i < VIEW_COUNT && trial->op->views[i].path; i++) {
        PL_FREE char *path = path_of(folder, &trial->op->views[i]);

        if (!trial->op->views[i].snapshot && trial->op->views[i].rule != VIEW_GOING &&
            !one_sound(trial, path, i >= mended, problem))
            return problem_in(problem, "%s", trial->op->views[i].path);
    }
    return true;
}

/* ---- writing ---- */

/* Writes into the middle of the disk, and makes it larger if that can be: what lies behind must be
 * zeros, whatever was there before it shrank.  Does the same to `want`. */
static int write_some(struct pl_image *img, struct pages *want, struct pl_err *e)
{
    static const char text[] = "written after the crash";
    const uint64_t at = pl_size(img) / 2, larger = pl_size(img) + GROWTH;

    if (at + sizeof text <= pl_size(img)) {
        pages_write(want, at, text, sizeof text);
        if (pl_write(img, at, text, sizeof text, e) < 0 || pl_flush(img, e) < 0)
            return -1;
    }
    if (pl_resize(img, larger, false, PL_PREALLOC_OFF, e) < 0)
        return e->kind == PL_E_UNSUPPORTED ? 0 : -1;
    pages_resize(want, larger);
    return 0;
}

bool look_writable(const struct trial *trial, const char *folder, const struct look *seen,
                   struct problem *problem)
{
    const struct pl_open_options options = { .format = trial->format, .writable = true };
    PL_FREE char *path = path_of(folder, &trial->op->views[0]);
    struct look now = { 0 }, want = { 0 };
    struct pl_image *img;
    struct pl_err e = { 0 };
    bool holds;

    if (!seen->there[0])
        return true;
    if (pl_open(path, &options, &img, &e) < 0)
        return library_problem(problem, &e);
    for (size_t i = 0; i < VIEW_COUNT; i++) {
        want.there[i] = seen->there[i];
        pages_copy(&want.disk[i], &seen->disk[i]);
    }
    holds = write_some(img, &want.disk[0], &e) == 0;
    holds = pl_close(img, &e) == 0 && holds;
    if (!holds)
        library_problem(problem, &e);
    holds = holds && look_at(trial, folder, &now, problem) &&
            look_allowed(trial, &now, &want, &want, problem) &&
            look_sound(trial, folder, 1, problem);
    look_free(&now);
    look_free(&want);
    return holds ? true : problem_in(problem, "after a write");
}
