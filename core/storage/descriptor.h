/* descriptor.h - what storages on a file descriptor have in common: whole reads and writes,
 * syncing, identity, closing. */
#ifndef PL_CORE_STORAGE_DESCRIPTOR_H
#define PL_CORE_STORAGE_DESCRIPTOR_H

#include <sys/stat.h>

#include "core/storage/settle.h"
#include "core/storage/storage.h"

struct pl_descriptor {
    struct pl_storage base; /* comes first: a pl_storage * of these kinds is a pl_descriptor * */
    int fd;
    uint64_t size; /* block device: bytes; otherwise unused */
    /* What this file system cannot do, found by trying; saves a failing call each time. */
    atomic_bool no_punch, no_zero_range, no_seek_hole;
    atomic_int
        sync_error; /* errno of the first flush that failed; the kernel forgets it, we do not */
    struct pl_settle settle;
    /* Pipes only: guards the next two. */
    struct pl_lock lock;
    uint64_t position; /* bytes passed so far */
    uint64_t promised; /* the size asked for by resize */
};

/* Makes a storage of `ops` on fd, which belongs to it from now on (closed on failure too). */
int pl_descriptor_create(const struct pl_storage_ops *ops, int fd, const char *path, bool writable,
                         struct pl_descriptor **out, struct pl_err *e) PL_CHECK;

/* The struct behind a storage of one of these kinds. */
struct pl_descriptor *pl_descriptor_of(struct pl_storage *st);

/* Slots of pl_storage_ops that files and block devices share. */
int pl_descriptor_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
    PL_CHECK;
/* The range was checked. */
int pl_descriptor_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                        struct pl_err *e) PL_CHECK;
/* Once it has failed it fails for ever. */
int pl_descriptor_flush(struct pl_storage *st, struct pl_err *e) PL_CHECK;
void pl_descriptor_settle(struct pl_storage *st, uint64_t off, uint64_t len); /* see settle.h */
int pl_descriptor_close(struct pl_storage *st, struct pl_err *e);             /* of pipes too */

/* The kinds: a block device (block_device.c) and a pipe (pipe.c); pl_file_storage in file.h
 * chooses. They own fd as pl_file_storage does. */
int pl_block_device_storage(int fd, const char *path, bool writable, struct pl_storage **out,
                            struct pl_err *e) PL_CHECK;

/* Bytes in order: each write starts where the last one ended or later (zeros fill the gap), each
 * read where the last one ended.  Any descriptor will do, also a regular file that is appended
 * to.  A resize promises the size, and flush writes zeros up to it: it comes last. */
int pl_pipe_storage(int fd, const char *path, bool writable, struct pl_storage **out,
                    struct pl_err *e) PL_CHECK;

#endif
