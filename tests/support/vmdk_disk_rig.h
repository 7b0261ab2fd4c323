/* vmdk_disk_rig.h - VMDK disks of several files without a host: files in memory by name, driven the
 * way the core drives a driver.  One thread at a time.  cmocka.h comes first. */
#ifndef TESTS_SUPPORT_VMDK_DISK_RIG_H
#define TESTS_SUPPORT_VMDK_DISK_RIG_H

#include "tests/support/rig.h"

#define VMDK_RIG_FILES 40

struct vmdk_rig {
    struct {
        char name[64];
        struct pl_storage *st;
    } file[VMDK_RIG_FILES]; /* the first one is the disk's own */
    unsigned count;
    struct pl_report report;
    struct pl_layer layer; /* while open */
    struct pl_file_maker maker;
    bool keeps_files;      /* the disk cannot make more of them */
    unsigned creates_left; /* not 0: making one fails when that many were made, less one */
    unsigned opened;       /* files that were opened by name ... */
    char refused[64];      /* ... and the last name that is not there */
};

/* A rig with an empty file "disk.vmdk" that is to become the disk. */
void vmdk_rig_init(struct vmdk_rig *rig);
/* Closes all that is open. */
void vmdk_rig_end(struct vmdk_rig *rig);

/* Adds a file of `size` zeros; or a storage, which is then the rig's. */
struct pl_storage *vmdk_rig_add(struct vmdk_rig *rig, const char *name, uint64_t size);
void vmdk_rig_put(struct vmdk_rig *rig, const char *name, struct pl_storage *st);
/* The file of that name, or null. */
struct pl_storage *vmdk_rig_file(const struct vmdk_rig *rig, const char *name);
/* Replaces the content of "disk.vmdk" by a text. */
void vmdk_rig_text(struct vmdk_rig *rig, const char *text);
/* The text of "disk.vmdk"; the caller frees it. */
char *vmdk_rig_read_text(const struct vmdk_rig *rig);

/* Opens, with whatever of `how` the rig does not know. */
int vmdk_rig_open(struct vmdk_rig *rig, struct pl_open_args how, struct pl_err *e) PL_CHECK;
void vmdk_rig_close(struct vmdk_rig *rig);
/* Makes a disk; `options` as after -o. */
int vmdk_rig_create(struct vmdk_rig *rig, const char *options, struct pl_create_args how,
                    struct pl_err *e) PL_CHECK;

int vmdk_rig_read(struct vmdk_rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
    PL_CHECK;
int vmdk_rig_write(struct vmdk_rig *rig, uint64_t at, const void *buf, uint64_t len,
                   struct pl_err *e) PL_CHECK;

#endif
