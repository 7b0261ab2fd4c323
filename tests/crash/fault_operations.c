/* A full disk, errors of the disk, and other processes in the middle of what a user does to whole
 * disks: nothing is lost, the error says what happened, and the operation done again ends well when
 * the cause is gone.
 *
 * The program's own calls fail (see record.h): from the n-th change on there is no room, or the
 * n-th change or sync fails, or some sector cannot be read.  For root a small file system is full
 * besides.
 *
 * In the environment: FAULT_RUNS, how many of each sort every operation gets (0: the first 1000);
 * FAULT_SEED, others; OPERATIONS, part of the names of the trials that are wanted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "core/graph/image.h"
#include "tests/support/env.h"
#include "tests/support/operation.h"
#include "tests/support/programs.h"
#include "tests/support/record.h"
#include "tests/support/rig.h"

#define RUNS 1

/* What the operation does when nothing disturbs it. */
struct calls {
    uint64_t changes; /* at least so many that count */
    size_t read_count;
    struct record *read;
};

static void count_calls(const char *log, struct calls *calls)
{
    FILE *f = fopen(log, "rb");
    struct record record;

    *calls = (struct calls){ 0 };
    while (f && fread(&record, sizeof record, 1, f) == 1) {
        fseek(f, (long)(RECORD_STEP(record.len) - sizeof record), SEEK_CUR);
        if (record.kind == RECORD_READ) {
            calls->read = realloc(calls->read, (calls->read_count + 1) * sizeof record);
            if (!calls->read)
                abort();
            calls->read[calls->read_count++] = record;
        } else if (record.kind != RECORD_MARK) {
            calls->changes++;
        }
    }
    if (f)
        fclose(f);
}

/* The error is one that tells the user what happened. */
static bool tells(const char *said, const char *cause, struct problem *problem)
{
    /* the second: another thread met the cause, and this one came after it */
    if (strstr(said, cause) || strstr(said, "an earlier change of the image's tables failed"))
        return true;
    return problem_in(problem, "the message is: %s", said);
}

/* The operation, disturbed, on the start; then again. */
static void disturb(const struct trial *trial, const char *fault, const char *cause)
{
    const struct disturbance how = { .fault = fault };
    struct problem problem = { "" };
    PL_FREE char *said = NULL;
    int status;
    bool good;

    status = trial_run(trial, trial->fast, &how, &said);
    good = status <= 1 ? true : problem_in(&problem, "status %d", status);
    if (good && status == 1)
        good = tells(said, cause, &problem);
    good = good && trial_holds(trial, trial->fast, &problem) &&
           trial_finishes(trial, trial->fast, &problem);
    if (!good)
        fail_msg("%s: %s: %s (status %d, %s)", trial->name, fault, problem.text, status, said);
}

static void fail_change(const struct trial *trial, uint64_t n, bool full)
{
    char fault[64];

    snprintf(fault, sizeof fault, full ? "full:%ju" : "fail:%ju:%d", (uintmax_t)n, EIO);
    folder_store(&trial->start, trial->fast);
    disturb(trial, fault, strerror(full ? ENOSPC : EIO));
}

/* The name that the file of a read had at the start; null: it was made later. */
static const char *name_of(const struct trial *trial, uint64_t inode)
{
    for (size_t i = 0; i < trial->start.count; i++)
        if (trial->start.file[i].inode == inode)
            return trial->start.file[i].name;
    return NULL;
}

static void fail_read(const struct trial *trial, const struct record *read, uint64_t sector)
{
    const char *name = name_of(trial, read->inode);
    PL_FREE char *path = NULL;
    struct stat stat_now;
    char fault[64];

    if (!name)
        return;
    folder_store(&trial->start, trial->fast);
    if (asprintf(&path, "%s/%s", trial->fast, name) < 0 || stat(path, &stat_now) < 0)
        fail_msg("%s: %s", name, strerror(errno));
    snprintf(fault, sizeof fault, "read:%ju:%ju", (uintmax_t)stat_now.st_ino,
             (uintmax_t)(read->off + sector * 512));
    disturb(trial, fault, strerror(EIO));
}

static void fail_some_reads(const struct trial *trial, const struct calls *calls, uint64_t runs,
                            uint64_t *random)
{
    for (uint64_t i = 0; i < runs && calls->read_count > 0; i++) {
        const struct record *read = &calls->read[rig_below(random, calls->read_count)];

        fail_read(trial, read, rig_below(random, (read->range + 511) / 512));
    }
}

/* ---- a file system that is really full ---- */

static bool mount_small(const char *path, uint64_t bytes, bool again)
{
    char options[64];

    snprintf(options, sizeof options, "size=%ju", (uintmax_t)bytes);
    return mount("platter-test", path, "tmpfs", again ? MS_REMOUNT : 0, options) == 0;
}

/* Bytes that the host keeps for the files of a folder. */
static uint64_t usage_of(const char *folder)
{
    PL_FREE char *line = run_line("du -sB1 '%s'", folder);

    return strtoull(line, NULL, 10);
}

/* The operation in a file system with `room` bytes left, then again with plenty. */
static void disturb_small(const struct trial *trial, const char *folder, uint64_t room)
{
    const struct disturbance none = { 0 };
    struct problem problem = { "" };
    PL_FREE char *said = NULL;
    int status;
    bool good;

    folder_store(&trial->start, folder);
    if (!mount_small(folder, usage_of(folder) + room, true))
        return;
    status = trial_run(trial, folder, &none, &said);
    good = status <= 1 ? true : problem_in(&problem, "status %d", status);
    if (good && status == 1)
        good = tells(said, strerror(ENOSPC), &problem);
    good = good && trial_holds(trial, folder, &problem) && mount_small(folder, 256 << 20, true) &&
           trial_finishes(trial, folder, &problem);
    if (!good)
        snprintf(problem.text + strlen(problem.text), sizeof problem.text - strlen(problem.text),
                 " (%ju bytes of room, status %d, %s)", (uintmax_t)room, status, said);
    umount(folder);
    if (!good)
        fail_msg("%s: %s", trial->name, problem.text);
}

/* Only root may mount; the others have the calls that fail. */
static void fill_file_system(const struct trial *trial, uint64_t runs, uint64_t *random)
{
    PL_FREE char *folder = NULL;

    if (asprintf(&folder, "%s/small", trial->home) < 0)
        abort();
    for (uint64_t i = 0; i < runs; i++) {
        run_quietly("mkdir -p '%s'", folder);
        if (!mount_small(folder, 256 << 20, false))
            return;
        disturb_small(trial, folder, (1 + rig_below(random, 160)) * 4096);
    }
}

/* ---- others ---- */

/* While another process has the disk open, the operation is refused and changes nothing. */
static void refused_beside(const struct trial *trial, const char *name, bool writer)
{
    const struct pl_open_options options = { .writable = writer };
    const struct disturbance none = { 0 };
    PL_FREE char *path = NULL, *said = NULL;
    struct problem problem = { "" };
    struct folder before, after;
    struct pl_image *img;
    struct pl_err e;
    int status;

    folder_store(&trial->start, trial->fast);
    if (asprintf(&path, "%s/%s", trial->fast, name) < 0)
        abort();
    if (pl_open(path, &options, &img, &e) < 0)
        fail_msg("%s: %s", name, e.msg);
    folder_load(&before, trial->fast);
    status = trial_run(trial, trial->fast, &none, &said);
    folder_load(&after, trial->fast);
    pl_close(img, NULL);
    if (status != 1 || !strstr(said, "in use by process"))
        fail_msg("%s: while %s is open for %s, status %d: %s", trial->name, name,
                 writer ? "writing" : "reading", status, said);
    if (!trial->op->next_write_mends && folder_hash(&before) != folder_hash(&after))
        fail_msg("%s: refused, but the folder is another one", trial->name);
    if (!trial_holds(trial, trial->fast, &problem))
        fail_msg("%s: refused: %s", trial->name, problem.text);
    folder_free(&before);
    folder_free(&after);
}

static void refused_beside_all(const struct trial *trial)
{
    const struct view *view = trial->op->views;

    for (size_t i = 0; i < VIEW_COUNT && view[i].path; i++)
        if (!view[i].snapshot && !view[i].aside && folder_find(&trial->start, view[i].path))
            refused_beside(trial, view[i].path, true);
    if (folder_find(&trial->start, view[0].path))
        refused_beside(trial, view[0].path, false);
}

static void survives_faults(void **state)
{
    const struct disturbance reading = { .log = NULL, .reads = true };
    const uint64_t runs = test_number("FAULT_RUNS", RUNS);
    struct trial *trial = *state;
    uint64_t random = test_number("FAULT_SEED", 1) * 1009 + trial->number;
    struct disturbance recorded = reading;
    PL_FREE char *log = NULL;
    struct calls calls;

    trial_begin(trial);
    if (asprintf(&log, "%s/reads", trial->home) < 0)
        abort();
    recorded.log = log;
    trial_restart(trial);
    trial_run(trial, trial->folder, &recorded, NULL);
    count_calls(log, &calls);
    for (uint64_t i = 0; i < (runs ? runs : calls.changes) && calls.changes > 0; i++) {
        fail_change(trial, runs ? rig_below(&random, calls.changes) : i, true);
        fail_change(trial, runs ? rig_below(&random, calls.changes) : i, false);
    }
    fail_some_reads(trial, &calls, runs ? runs : 100, &random);
    fill_file_system(trial, runs ? runs : 10, &random);
    refused_beside_all(trial);
    free(calls.read);
    trial_end(trial);
}

int main(void)
{
    return trials_run("operations that meet faults", survives_faults);
}
