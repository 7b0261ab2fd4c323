/* state_name.h - names of the states of a disk, and of the files that states are kept in.
 *
 * State NAME of the disk "web.qcow2" is the file "web.snapshot-NAME.qcow2" in the same folder;
 * while it is being deleted there is a file "web.snapshot-NAME.qcow2.deleting" beside it. */
#ifndef PL_CORE_ENGINE_STATE_NAME_H
#define PL_CORE_ENGINE_STATE_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

/* The longest name of a state in bytes. */
#define PL_STATE_NAME_MAX 120

#define PL_STATE_DELETING ".deleting"

/* PL_E_INVALID unless a state can be called that: letters, digits and some signs that mean nothing
 * to a file system, a shell or a format; letters of other alphabets are allowed. */
int pl_state_check_name(const char *name, struct pl_err *e) PL_CHECK;

/* The file of state `name` of the disk at `disk_path`; the caller's to free.  Null: no memory. */
char *pl_state_path(const char *disk_path, const char *name);

/* The name of the state that `file`, a name without a folder, would be of that disk; the caller's
 * to free.  Null: of none (or no memory). */
char *pl_state_name_of(const char *disk_path, const char *file);

/* The path of the disk that the file at `path` would be a state of, and the name of that state;
 * both the caller's to free.  A name with a dot may be that of a disk with an ending or (`bare`) of
 * one without.  False: it is no state's. */
bool pl_state_disk_of(const char *path, bool bare, char **disk_path, char **name);

/* The same for a disk that is there, beside the file: then the file is a state that is kept. */
bool pl_state_is_kept(const char *path, char **disk_path, char **name);

/* "2026-11-27_07-40-30": the date by the local clock, for a state without a name. */
void pl_state_name_by_date(uint64_t sec, char name[static 32]);

#endif
