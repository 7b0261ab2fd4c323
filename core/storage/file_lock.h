/* file_lock.h - locks on image files, byte for byte those of QEMU, so that both respect each other.
 *
 * Byte 100 + n is locked (shared) by whoever uses permission n, byte 200 + n by whoever does not
 * want others to use it; each then looks whether the opposite byte is locked by somebody
 * else.  The permissions: 0 consistent read, 1 write, 2 write unchanged, 3 resize.  The locks
 * are those of an open file description: they also keep two opens in one process apart, and go
 * with its last close.  File systems without locks are used unlocked. */
#ifndef PL_CORE_STORAGE_FILE_LOCK_H
#define PL_CORE_STORAGE_FILE_LOCK_H

#include <sys/types.h>

#include "core/storage/opener.h"

/* Locks a file that has no locks yet, open for reading at least.  PL_READ shares with readers,
 * PL_READ_WRITE with nobody.  PL_E_LOCKED names the process in the way; no lock is then held. */
int pl_lock_file(int fd, enum pl_access access, const char *name, struct pl_err *e) PL_CHECK;

/* From the locks of PL_READ to those of PL_READ_WRITE.  PL_E_LOCKED; those of PL_READ are then
 * kept. */
int pl_lock_raise(int fd, const char *name, struct pl_err *e) PL_CHECK;

/* From the locks of PL_READ_WRITE to those of PL_READ. */
void pl_lock_lower(int fd);

/* A process that holds a lock on a byte of a file. */
struct pl_lock_holder {
    pid_t pid;
    char program[32]; /* its name as the kernel keeps it */
};

/* Looks in /proc for the first process that has `byte` of fd's file locked.  False: none is to
 * be seen (it may be another user's, or on another host). */
bool pl_lock_holder_find(int fd, uint64_t byte, struct pl_lock_holder *holder);

#endif
