/* folder.c - see folder.h. */
#include <dirent.h>
#include <errno.h>
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

#include "tests/support/folder.h"

#include "core/base/scope.h"

void folder_add(struct folder *folder, const char *name, uint64_t inode, const struct pages *pages)
{
    size_t at = folder->count;

    folder->file = realloc(folder->file, (at + 1) * sizeof *folder->file);
    if (!folder->file)
        abort();
    while (at > 0 && strcmp(folder->file[at - 1].name, name) > 0) {
        folder->file[at] = folder->file[at - 1];
        at--;
    }
    folder->file[at] = (struct folder_file){ .name = strdup(name), .inode = inode };
    pages_copy(&folder->file[at].pages, pages);
    folder->count++;
}

void folder_free(struct folder *folder)
{
    for (size_t i = 0; i < folder->count; i++) {
        free(folder->file[i].name);
        pages_free(&folder->file[i].pages);
    }
    free(folder->file);
    *folder = (struct folder){ 0 };
}

/* Does something to each name in a host folder. */
static void for_each(const char *path, void (*what)(void *ctx, const char *path, const char *name),
                     void *ctx)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char *whole;

    if (!dir)
        fail_msg("%s: %s", path, strerror(errno));
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (asprintf(&whole, "%s/%s", path, entry->d_name) < 0)
            abort();
        what(ctx, whole, entry->d_name);
        free(whole);
    }
    closedir(dir);
}

static void load(void *ctx, const char *path, const char *name)
{
    struct pages pages;
    struct stat stat;

    if (lstat(path, &stat) < 0 || !S_ISREG(stat.st_mode) || !pages_load(&pages, path))
        fail_msg("%s: cannot be read as a file: %s", path, strerror(errno));
    folder_add(ctx, name, stat.st_ino, &pages);
    pages_free(&pages);
}

void folder_load(struct folder *folder, const char *path)
{
    *folder = (struct folder){ 0 };
    for_each(path, load, folder);
}

static void take_away(void *ctx, const char *path, const char *name)
{
    (void)ctx;
    (void)name;
    if (unlink(path) < 0)
        fail_msg("%s: %s", path, strerror(errno));
}

/* The first file that is the same one: itself, or one before it. */
static size_t first_of(const struct folder *folder, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (folder->file[i].inode == folder->file[index].inode)
            return i;
    return index;
}

static bool store(const struct folder *folder, size_t index, const char *path)
{
    const size_t first = first_of(folder, index);
    PL_FREE char *whole = NULL, *other = NULL;

    if (asprintf(&whole, "%s/%s", path, folder->file[index].name) < 0 ||
        asprintf(&other, "%s/%s", path, folder->file[first].name) < 0)
        abort();
    return first < index ? link(other, whole) == 0 : pages_store(&folder->file[index].pages, whole);
}

void folder_store(const struct folder *folder, const char *path)
{
    if (mkdir(path, 0777) < 0 && errno != EEXIST)
        fail_msg("%s: %s", path, strerror(errno));
    for_each(path, take_away, NULL);
    for (size_t i = 0; i < folder->count; i++)
        if (!store(folder, i, path))
            fail_msg("%s/%s: cannot be made: %s", path, folder->file[i].name, strerror(errno));
}

const struct folder_file *folder_find(const struct folder *folder, const char *name)
{
    for (size_t i = 0; i < folder->count; i++)
        if (strcmp(folder->file[i].name, name) == 0)
            return &folder->file[i];
    return NULL;
}

uint64_t folder_hash(const struct folder *folder)
{
    uint64_t hash = folder->count;

    for (size_t i = 0; i < folder->count; i++) {
        for (const char *c = folder->file[i].name; *c; c++)
            hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
        hash = hash * 31 + first_of(folder, i);
        hash = (hash ^ pages_hash(&folder->file[i].pages)) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return hash;
}
