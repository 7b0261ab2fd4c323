#include "core/engine/state_name.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/scope.h"
#include "core/storage/names.h"

#define MIDDLE ".snapshot-"

/* A path in three parts: where its name begins, and where the ending of the name does. */
struct parts {
    const char *path, *file, *ending; /* the ending has its dot; "": there is none */
};

static struct parts split(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash ? slash + 1 : path;
    const char *dot = strrchr(file, '.');

    return (struct parts){ path, file, dot && dot > file ? dot : file + strlen(file) };
}

/* UTF-8 beyond ASCII passes byte by byte: a file system and the formats take it as it is. */
static bool is_allowed(unsigned char c)
{
    return c >= 0x80 || isalnum(c) || strchr("._-+@=,~ ", c);
}

static bool ends_in(const char *text, const char *end)
{
    const size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* What is wrong with it; null: nothing. */
static const char *objection(const char *name)
{
    const size_t len = strlen(name);

    if (len == 0)
        return "it is empty";
    if (len > PL_STATE_NAME_MAX)
        return "it is longer than 120 bytes";
    for (const char *c = name; *c; c++)
        if (!is_allowed((unsigned char)*c))
            return "only letters, digits, blanks and . _ - + @ = , ~ can be part of it";
    if (strchr("-. ", name[0]) || strchr(". ", name[len - 1]))
        return "it begins with a dash, or begins or ends with a dot or a blank";
    if (strstr(name, MIDDLE) || ends_in(name, PL_STATE_DELETING))
        return "\"" MIDDLE "\" and \"" PL_STATE_DELETING "\" mark files of snapshots";
    return NULL;
}

int pl_state_check_name(const char *name, struct pl_err *e)
{
    const char *why = objection(name);

    return why ? pl_fail(e, PL_E_INVALID, "'%s' cannot be the name of a snapshot: %s", name, why)
               : 0;
}

char *pl_state_path(const char *disk_path, const char *name)
{
    const struct parts p = split(disk_path);
    char *path;

    return asprintf(&path, "%.*s" MIDDLE "%s%s", (int)(p.ending - p.path), p.path, name, p.ending) <
                   0
               ? NULL
               : path;
}

char *pl_state_name_of(const char *disk_path, const char *file)
{
    const struct parts p = split(disk_path);
    const size_t stem = (size_t)(p.ending - p.file), ending = strlen(p.ending);
    const size_t around = stem + strlen(MIDDLE) + ending, len = strlen(file);
    PL_FREE char *name = NULL;

    if (len <= around || memcmp(file, p.file, stem) != 0 ||
        memcmp(file + stem, MIDDLE, strlen(MIDDLE)) != 0 || !ends_in(file, p.ending))
        return NULL;
    name = strndup(file + stem + strlen(MIDDLE), len - around);
    return name && !objection(name) ? pl_take(name) : NULL;
}

/* The disk of a state whose name ends at `end`. */
static bool take_apart(const struct parts *p, const char *end, char **disk_path, char **name)
{
    const char *middle = strstr(p->file, MIDDLE);
    PL_FREE char *state = NULL;

    if (!middle || middle == p->file || middle + strlen(MIDDLE) >= end)
        return false;
    state = strndup(middle + strlen(MIDDLE), (size_t)(end - middle) - strlen(MIDDLE));
    if (!state || objection(state) ||
        asprintf(disk_path, "%.*s%s", (int)(middle - p->path), p->path, end) < 0)
        return false;
    *name = pl_take(state);
    return true;
}

bool pl_state_disk_of(const char *path, bool bare, char **disk_path, char **name)
{
    const struct parts p = split(path);

    return take_apart(&p, bare ? path + strlen(path) : p.ending, disk_path, name);
}

bool pl_state_is_kept(const char *path, char **disk_path, char **name)
{
    struct pl_name_facts facts;

    for (int bare = 0; bare < 2; bare++) {
        PL_FREE char *disk = NULL, *state = NULL;

        if (!pl_state_disk_of(path, bare, &disk, &state) || !pl_name_look(disk, &facts) ||
            !facts.regular)
            continue;
        *disk_path = pl_take(disk);
        *name = pl_take(state);
        return true;
    }
    return false;
}

void pl_state_name_by_date(uint64_t sec, char name[static 32])
{
    const time_t date = (time_t)sec;
    struct tm local;

    if (!localtime_r(&date, &local) || !strftime(name, 32, "%Y-%m-%d_%H-%M-%S", &local))
        snprintf(name, 32, "%llu", (unsigned long long)sec);
}
