/* replay.c - see replay.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/replay.h"

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/record.h"
#include "tests/support/rig.h"

#define SECTOR 512u

/* One file, named or not. */
struct file {
    uint64_t inode;
    size_t number; /* the same in every run, as inodes are not */
    struct pages stable, now;
    const struct record **pending; /* the changes since its last sync */
    size_t pending_count;
};

/* A name and what it leads to, null: there is no such name.  The text is the log's or the start's.
 */
struct name {
    const char *text;
    struct file *file;
};

/* One change of names: one or two at once. */
struct renaming {
    struct name set[2];
};

struct names {
    size_t count;
    struct name *name;
};

struct replay {
    uint8_t *log;
    size_t log_len, record_count, played, marks;
    const struct record **record;
    struct file **file;
    size_t file_count;
    struct names stable, now;
    struct renaming *pending; /* since the last sync of the folder */
    size_t pending_count;
    char **text; /* names that records do not end with a null byte, and those of the start */
    size_t text_count;
};

/* Room for one element more of an array. */
static void *grown(void *array, size_t count, size_t each)
{
    array = realloc(array, (count + 1) * each);
    if (!array)
        abort();
    return array;
}

static const char *keep_text(struct replay *r, const void *bytes, size_t len)
{
    r->text = grown(r->text, r->text_count, sizeof *r->text);
    r->text[r->text_count] = strndup(bytes, len);
    return r->text[r->text_count++];
}

/* ---- names ---- */

static void set_name(struct names *names, struct name new)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->name[i].text, new.text) == 0) {
            names->name[i].file = new.file;
            return;
        }
    names->name = grown(names->name, names->count, sizeof *names->name);
    names->name[names->count++] = new;
}

static void copy_names(struct names *to, const struct names *from)
{
    *to = (struct names){ 0 };
    for (size_t i = 0; i < from->count; i++)
        set_name(to, from->name[i]);
}

static void rename_in(struct names *names, const struct renaming *change)
{
    for (size_t i = 0; i < PL_COUNT(change->set); i++)
        if (change->set[i].text)
            set_name(names, change->set[i]);
}

static struct file *named(const struct names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->name[i].text, text) == 0)
            return names->name[i].file;
    return NULL;
}

/* ---- files ---- */

static struct file *new_file(struct replay *r, uint64_t inode)
{
    struct file *file = calloc(1, sizeof *file);

    if (!file)
        abort();
    file->inode = inode;
    file->number = r->file_count;
    r->file = grown(r->file, r->file_count, sizeof(struct file *));
    r->file[r->file_count++] = file;
    return file;
}

/* The newest file of that number: the host gives numbers of files that are gone to new ones. */
static struct file *file_of(const struct replay *r, uint64_t inode)
{
    for (size_t i = r->file_count; i > 0; i--)
        if (r->file[i - 1]->inode == inode)
            return r->file[i - 1];
    fail_msg("the log has a file (inode %ju) that it does not say the origin of", (uintmax_t)inode);
    return NULL;
}

/* Whether seed `torn` lets the sector reach the disk; 0: all do. */
static bool sector_lands(uint64_t torn, uint64_t sector)
{
    uint64_t state = torn + sector;

    return !torn || rig_random(&state) % 2;
}

static void apply(struct pages *pages, const struct record *record, uint64_t torn)
{
    const uint8_t *bytes = (const uint8_t *)(record + 1);
    const uint64_t len = record->kind == RECORD_WRITE ? record->len : record->range;
    uint64_t done = 0;

    if (record->kind == RECORD_RESIZE) {
        pages_resize(pages, record->range);
        return;
    }
    while (done < len) {
        const uint64_t at = record->off + done;
        const uint64_t now = torn ? PL_MIN(len - done, SECTOR - at % SECTOR) : len;

        if (sector_lands(torn, at / SECTOR) && record->kind == RECORD_WRITE)
            pages_write(pages, at, bytes + done, now);
        else if (sector_lands(torn, at / SECTOR))
            pages_zero(pages, at, now);
        done += now;
    }
}

static void sync_file(struct file *file)
{
    pages_free(&file->stable);
    pages_copy(&file->stable, &file->now);
    file->pending_count = 0;
}

static void change_file(struct file *file, const struct record *record)
{
    apply(&file->now, record, 0);
    file->pending = grown(file->pending, file->pending_count, sizeof(struct record *));
    file->pending[file->pending_count++] = record;
}

/* ---- the log ---- */

static void load_log(struct replay *r, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat stat;

    if (!f) /* nothing was recorded */
        return;
    if (fstat(fileno(f), &stat) < 0 || !(r->log = malloc((size_t)stat.st_size + 1)) ||
        fread(r->log, 1, (size_t)stat.st_size, f) != (size_t)stat.st_size)
        fail_msg("%s: cannot be read: %s", path, strerror(errno));
    fclose(f);
    r->log_len = (size_t)stat.st_size;
    for (size_t at = 0; at + sizeof(struct record) <= r->log_len;) {
        const struct record *record = (const struct record *)(r->log + at);

        if (record->kind == RECORD_UNKNOWN)
            fail_msg("the program changes files in a way that is not recorded: %.*s",
                     (int)record->len, (const char *)(record + 1));
        at += RECORD_STEP(record->len);
        if (record->kind == RECORD_READ)
            continue;
        r->record = grown(r->record, r->record_count, sizeof(struct record *));
        r->record[r->record_count++] = record;
    }
}

static void add_start(struct replay *r, const struct folder_file *from)
{
    struct file *file = NULL;
    const char *text = keep_text(r, from->name, strlen(from->name));

    for (size_t i = 0; i < r->file_count; i++)
        if (r->file[i]->inode == from->inode)
            file = r->file[i];
    if (!file) {
        file = new_file(r, from->inode);
        pages_copy(&file->now, &from->pages);
        sync_file(file);
    }
    set_name(&r->now, (struct name){ text, file });
    set_name(&r->stable, (struct name){ text, file });
}

struct replay *replay_new(const struct folder *start, const char *log)
{
    struct replay *r = calloc(1, sizeof *r);

    if (!r)
        abort();
    load_log(r, log);
    for (size_t i = 0; i < start->count; i++)
        add_start(r, &start->file[i]);
    return r;
}

void replay_free(struct replay *r)
{
    for (size_t i = 0; i < r->file_count; i++) {
        pages_free(&r->file[i]->stable);
        pages_free(&r->file[i]->now);
        free(r->file[i]->pending);
        free(r->file[i]);
    }
    for (size_t i = 0; i < r->text_count; i++)
        free(r->text[i]);
    free(r->text);
    free(r->file);
    free(r->stable.name);
    free(r->now.name);
    free(r->pending);
    free(r->record);
    free(r->log);
    free(r);
}

size_t replay_length(const struct replay *r)
{
    return r->record_count;
}

size_t replay_played(const struct replay *r)
{
    return r->played;
}

size_t replay_marks(const struct replay *r)
{
    return r->marks;
}

bool replay_next_is_name(const struct replay *r)
{
    const uint32_t kind = r->played < r->record_count ? r->record[r->played]->kind : 0;

    return kind == RECORD_NAME || kind == RECORD_UNNAME || kind == RECORD_RENAME ||
           kind == RECORD_SYNC_NAMES;
}

bool replay_is_open(const struct replay *r)
{
    size_t pending = r->pending_count;

    for (size_t i = 0; i < r->now.count; i++)
        if (r->now.name[i].file)
            pending += r->now.name[i].file->pending_count;
    return pending > 0;
}

/* ---- playing ---- */

static void change_names(struct replay *r, struct renaming change)
{
    rename_in(&r->now, &change);
    r->pending = grown(r->pending, r->pending_count, sizeof *r->pending);
    r->pending[r->pending_count++] = change;
}

static void sync_names(struct replay *r)
{
    free(r->stable.name);
    copy_names(&r->stable, &r->now);
    r->pending_count = 0;
}

static void play_name(struct replay *r, const struct record *record)
{
    const char *bytes = (const char *)(record + 1);
    const char *text = keep_text(r, bytes, record->len), *other;
    struct renaming change = { .set = { { text, NULL } } };

    if (record->kind == RECORD_RENAME) {
        other = keep_text(r, bytes + strlen(text) + 1, record->len - strlen(text) - 1);
        change.set[1] = (struct name){ other, named(&r->now, text) };
    } else if (record->kind != RECORD_UNNAME) {
        change.set[0].file = file_of(r, record->inode);
    }
    change_names(r, change);
}

void replay_step(struct replay *r)
{
    const struct record *record = r->record[r->played++];

    switch ((enum record_kind)record->kind) {
    case RECORD_NEW:
        new_file(r, record->inode);
        if (record->len)
            play_name(r, record);
        break;
    case RECORD_WRITE:
    case RECORD_ZERO:
    case RECORD_RESIZE:
        change_file(file_of(r, record->inode), record);
        break;
    case RECORD_SYNC:
        sync_file(file_of(r, record->inode));
        break;
    case RECORD_NAME:
    case RECORD_UNNAME:
    case RECORD_RENAME:
        play_name(r, record);
        break;
    case RECORD_SYNC_NAMES:
        sync_names(r);
        break;
    case RECORD_MARK:
        r->marks++;
        break;
    default:
        fail_msg("record %zu of the log is of no known kind: %u", r->played - 1, record->kind);
    }
}

/* ---- crashes ---- */

/* Lets some changes come later than those behind them. */
static void shuffle(const struct record **list, size_t count, uint64_t *random)
{
    for (size_t i = count; i > 1; i--) {
        const size_t j = (size_t)rig_below(random, i);
        const struct record *other = list[i - 1];

        list[i - 1] = list[j];
        list[j] = other;
    }
}

/* What is left of a file: some of the changes since its last sync. */
static void choose_content(const struct file *file, uint64_t seed, struct pages *out)
{
    uint64_t random = seed * 1000003 + file->number;
    PL_FREE const struct record **list = NULL;
    const uint64_t kept = 1 + rig_below(&random, 7); /* of eight changes, about */

    pages_copy(out, &file->stable);
    list = malloc((file->pending_count + 1) * sizeof(struct record *));
    if (!list)
        abort();
    for (size_t i = 0; i < file->pending_count; i++)
        list[i] = file->pending[i];
    if (seed % 4 == 0)
        shuffle(list, file->pending_count, &random);
    for (size_t i = 0; i < file->pending_count; i++) {
        const uint64_t fate = rig_below(&random, 8), torn = rig_random(&random) | 1;

        if (fate < kept)
            apply(out, list[i], rig_below(&random, 4) == 0 ? torn : 0);
    }
}

static void left_of(const struct file *file, uint64_t seed, struct pages *out)
{
    if (seed == 0 || seed == 2)
        pages_copy(out, &file->now);
    else if (seed == 1 || seed == 3)
        pages_copy(out, &file->stable);
    else
        choose_content(file, seed, out);
}

/* The first of the changes of names, or any of them. */
static void choose_names(const struct replay *r, uint64_t seed, struct names *out)
{
    uint64_t random = seed * 2654435761u + r->played;
    const size_t first = (size_t)rig_below(&random, r->pending_count + 1);

    copy_names(out, &r->stable);
    for (size_t i = 0; i < r->pending_count; i++)
        if (seed % 2 ? i < first : rig_below(&random, 2) == 0)
            rename_in(out, &r->pending[i]);
}

void replay_crash(const struct replay *r, uint64_t seed, struct folder *out)
{
    struct names names;

    if (seed < 4)
        copy_names(&names, seed == 0 || seed == 3 ? &r->now : &r->stable);
    else
        choose_names(r, seed, &names);
    *out = (struct folder){ 0 };
    for (size_t i = 0; i < names.count; i++) {
        const struct file *file = names.name[i].file;
        struct pages pages;

        if (!file)
            continue;
        left_of(file, seed, &pages);
        folder_add(out, names.name[i].text, file->inode, &pages);
        pages_free(&pages);
    }
    free(names.name);
}
