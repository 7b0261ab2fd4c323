/* names.h - the names of files of the host: a second one, another one, none.
 *
 * What changes a name is on stable storage when it returns, and leaves the old or the new name at
 * every instant.  Links at the end of a path are not followed: the name itself is meant. */
#ifndef PL_CORE_STORAGE_NAMES_H
#define PL_CORE_STORAGE_NAMES_H

#include "core/storage/storage.h"

/* What the host knows of a file by its name. */
struct pl_name_facts {
    struct pl_storage_id id;
    uint64_t links; /* names it has */
    uint64_t date_sec;
    uint32_t date_nsec; /* when its content was changed */
    bool regular;       /* neither a folder, a link, a device nor a pipe */
};

/* Whether there is anything under the name, and what. */
bool pl_name_look(const char *path, struct pl_name_facts *facts);

/* Gives the open file st the further name `path`.  PL_E_EXISTS; PL_E_UNSUPPORTED on a file system
 * where a file has one name; PL_E_SYS. */
int pl_name_add(struct pl_storage *st, const char *path, struct pl_err *e) PL_CHECK;

/* Brings the content of a file to stable storage, whoever wrote it. */
int pl_name_sync(const char *path, struct pl_err *e) PL_CHECK;

/* The file `from` is called `to` from now on, in the place of what was called that; both are in
 * one folder.  Its content is on stable storage before. */
int pl_name_change(const char *from, const char *to, struct pl_err *e) PL_CHECK;

/* Takes a name away. */
int pl_name_remove(const char *path, struct pl_err *e) PL_CHECK;

/* Makes a file that holds a line of text (null: nothing), in the place of one that is there. */
int pl_name_mark(const char *path, const char *text, struct pl_err *e) PL_CHECK;

/* The line that such a file holds, without its end; the caller's to free.  Null: there is no such
 * file, or no whole line of less than PL_MARK_MAX bytes in it. */
char *pl_name_marked(const char *path);
#define PL_MARK_MAX 256

/* Sets the date of a file's content.  Not on stable storage; a failure is none. */
void pl_name_set_date(const char *path, uint64_t sec, uint32_t nsec);

/* A line of text beside the content, which goes where the file goes (an extended attribute of the
 * user's).  False: there is none of that key, or the file system keeps none. */
bool pl_name_note(const char *path, const char *key, char *text, size_t room);

/* Writes such a line, or removes it where `text` is null.  False: the file system keeps none. */
bool pl_name_set_note(const char *path, const char *key, const char *text);

#endif
