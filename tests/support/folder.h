/* folder.h - a folder of files in memory: names, bytes, and which names are one file.  No folders
 * in it.  What goes wrong with the host's files ends the running test.  cmocka.h comes first. */
#ifndef TESTS_SUPPORT_FOLDER_H
#define TESTS_SUPPORT_FOLDER_H

#include "tests/support/pages.h"

struct folder_file {
    char *name;
    uint64_t inode; /* equal: one file of two names */
    struct pages pages;
};

/* All zero: empty.  Sorted by name. */
struct folder {
    size_t count;
    struct folder_file *file;
};

/* A file more; the bytes are shared, not taken. */
void folder_add(struct folder *folder, const char *name, uint64_t inode, const struct pages *pages);

void folder_free(struct folder *folder);

/* What a host folder has. */
void folder_load(struct folder *folder, const char *path);

/* Makes a host folder have that and nothing else. */
void folder_store(const struct folder *folder, const char *path);

/* Null: there is none. */
const struct folder_file *folder_find(const struct folder *folder, const char *name);

/* Equal names and bytes, equal numbers. */
uint64_t folder_hash(const struct folder *folder);

#endif
