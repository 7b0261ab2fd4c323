/* package.h - the contract of what holds disk images and is none: OVA, OVF, AMI bundles.
 *
 * A package lists its disks and yields a storage for each; the image in there is opened like any
 * other.  It opens no path: the files beside it come through the callback in the arguments.
 * Writing one is begin, the bytes of each disk in order, finish.
 *
 * Threads: disks, storage, verify and facts may run at once, also beside the use of storages that
 * storage gave.  open, close and all of writing have the package to themselves. */
#ifndef PL_CORE_PACKAGE_H
#define PL_CORE_PACKAGE_H

#include "core/base/facts.h"
#include "core/base/options.h"
#include "core/base/report.h"
#include "core/storage/storage.h"

/* One virtual disk as the package describes it.  Texts live as long as the open package. */
struct pl_package_disk {
    const char *id;          /* the package's own name for it, unique among its disks */
    const char *name;        /* the file that holds it; null: an empty disk without a file */
    uint64_t capacity;       /* virtual size in bytes; 0: not said */
    uint64_t file_size;      /* bytes of that file as stored; 0: not said */
    const char *format;      /* the driver that the stated format suggests: the content decides;
                                     null: not said */
    const char *compression; /* of the file as a whole: "gzip"; null: none */
    uint64_t chunk_size;     /* the file is cut into pieces of that many bytes; 0: it is not */
    const char *parent_id;   /* the disk it holds the differences to; null: none */
    const char *system;      /* the virtual machine that uses it; null: none does */
    const char *controller;  /* "ide", "scsi", "sata" or "nvme"; null: not said */
    const char *controller_model; /* as the package calls it, e.g. "lsilogic"; null: not said */
    uint32_t controller_number;   /* among the controllers of this kind, from 0 */
    const char *address;          /* on the controller; null: not said */
};

struct pl_package_open_args {
    struct pl_storage *file;        /* stays the caller's and must outlive the package */
    struct pl_storage *authorities; /* certificates (PEM) that may have signed it; null: none */
    const struct pl_report *report; /* warnings, and the unpacking by storage; may be null; must
                                       outlive the package */
    /* Opens a file that the package names, for reading, by the opener's policy; relative to the
     * package's folder.  The storage is the driver's.  May be called until the package is
     * closed. */
    int (*open_file)(const struct pl_package_open_args *args, const char *name,
                     struct pl_storage **out, struct pl_err *e);
    void *ctx; /* of open_file */
};

struct pl_package_create_args {
    struct pl_storage *file; /* empty; stays the caller's */
    const char *name;        /* the machine's name when the options give none: a file name without
                                  its ending */
    const uint64_t *capacities; /* the virtual size of each disk in bytes, as it was asked for: the
                                   package rounds it up as its images do */
    size_t disk_count;
    const struct pl_options *options; /* -o; unknown keys are the caller's to refuse */
    bool reproducible;                /* identifiers and times derived, not random */
    const struct pl_report *report;
};

/* For verify: all files of the package. */
#define PL_PACKAGE_ALL SIZE_MAX

struct pl_package_driver {
    const char *name; /* as in -f and -O */
    const char *spec; /* the specification it follows */

    /* Whether a file that starts with these bytes is such a package: a broken one is still its. The
     * first 64 KiB are enough. */
    bool (*probe)(const uint8_t *head, size_t len);
    /* Reads and checks what describes the package, not the disks. */
    int (*open)(const struct pl_package_open_args *args, void **state, struct pl_err *e);
    /* The disks, in the package's order; *list is the package's. */
    size_t (*disks)(void *state, const struct pl_package_disk **list);
    /* The bytes of that disk's image, read-only; the caller closes it before the package.  Packed
     * ones are unpacked into a temporary file first. */
    int (*storage)(void *state, size_t disk, struct pl_storage **out, struct pl_err *e);
    /* Compares the files that disk `disk` consists of, and the descriptor, or PL_PACKAGE_ALL files,
     * with the digests that the package gives; with authorities, its signature too.  0: all is
     * well; 1: the package has no digests; -1: PL_E_MISMATCH names the file; other errors. */
    int (*verify)(void *state, size_t disk, const struct pl_report *report, struct pl_err *e);
    /* Appends what `info` shows: the machine, its hardware, its disks. */
    int (*facts)(void *state, struct pl_fact *facts, struct pl_err *e);
    void (*close)(void *state);

    /* ---- writing; null: not supported ---- */
    const struct pl_option_help *create_options; /* what -o takes; ends with a row of nulls */
    const char *disk_format;                     /* the driver whose images it holds ... */
    int (*begin)(const struct pl_package_create_args *args, void **writer, struct pl_err *e);
    /* The options, as in -o, that the images of a package are made with; constant. */
    const char *(*disk_options)(void *writer);
    /* Where the image of disk `disk` is written: sequential, what was written may be read.  Disks
     * come in order, each once; the storage is closed before the next one and before finish. */
    int (*disk_storage)(void *writer, size_t disk, struct pl_storage **out, struct pl_err *e);
    /* All disks are written: completes the file.  Frees the writer either way. */
    int (*finish)(void *writer, struct pl_err *e);
    void (*abandon)(void *writer); /* frees it; the file is unfinished */
};

/* The kinds of packages, in the order in which they are probed; null-terminated.
 * formats/registry.c */
extern const struct pl_package_driver *const pl_packages[];

#endif
