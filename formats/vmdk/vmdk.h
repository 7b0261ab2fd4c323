/* vmdk.h - an open VMDK disk: a descriptor, and extents behind each other.
 *
 * VMware, "Virtual Disk Format 5.0".  What a file can be, by its first bytes:
 *   text                a descriptor; the extents are files that it names
 *   KDMV + descriptor   a monolithic sparse or streamOptimized disk: the one extent is the file,
 *                       whatever its line calls it; the line tells the size
 *   KDMV, COWD alone    one extent of a disk whose descriptor is elsewhere
 *
 * Order on disk: a child knows its parent by the content identifier (CID) that the parent had when
 * the child was made.  Before the first change of the content a new CID is on stable storage
 * (content_id.c), so no child ever takes changed content for the old one; after a crash in between
 * the child is refused although nothing changed.  Repairs of tables leave the CID alone; so does
 * whoever opens the disk with keeps_content, and a change of its own parent (parent.c).
 *
 * Access: RDONLY extents are read only; a disk that has some is opened for writing all the same,
 * and a write that meets one fails.  NOACCESS extents are not opened, and reading them fails.
 *
 * Threads: parts are constant after open but for what resize changes.  cid_lock guards changes of
 * the descriptor; it is taken before any lock of an extent and held while the CID is written. */
#ifndef PL_FORMATS_VMDK_VMDK_H
#define PL_FORMATS_VMDK_VMDK_H

#include <stdatomic.h>

#include "core/base/lock.h"
#include "core/base/uuid.h"
#include "formats/vmdk/descriptor.h"
#include "formats/vmdk/extent.h"
#include "formats/vmdk/layout.h"

/* VMware wants no longer descriptors in sparse files. */
#define VMDK_DESCRIPTOR_ROOM (VMDK_DESCRIPTOR_SECTORS * VMDK_SECTOR)

/* An extent and the line that speaks of it. */
struct vmdk_part {
    struct vmdk_extent extent; /* ops null: it cannot be used, see `line` and `missing` */
    size_t line;               /* index of its line; VMDK_NO_LINE: there is none */
    bool missing;              /* its file could not be opened (check_only, describe_only) */
    bool repeated;             /* another part before it uses the same file */
};
#define VMDK_NO_LINE SIZE_MAX

struct vmdk {
    struct pl_storage *file; /* the core's: the descriptor, the one sparse extent, or both */
    const struct pl_report *report;
    const struct pl_file_maker *maker; /* null: no files can be made */
    uint32_t cache_bytes;              /* of each extent; 0: its kind's default */
    struct vmdk_descriptor descriptor; /* text null: there is none */
    uint64_t text_off, text_room;      /* where the text is in `file`; room 0: as long as it is */
    struct vmdk_part *parts;           /* in the order of their addresses */
    size_t count;
    uint64_t size;
    uint32_t granule;
    bool has_parent;                  /* changed by set_parent alone, as is parent_uuid */
    bool of_device;                   /* of a kind that is made of devices of the host */
    char *encoding, *create_type;     /* null: not said */
    struct pl_uuid uuid, parent_uuid; /* VirtualBox's; null ones where there is none */
    bool fresh;                       /* a new image that nobody can be a child of yet */
    bool keeps_content;               /* see pl_open_args: the CID stays */
    struct pl_lock cid_lock;
    atomic_bool cid_changed; /* the content may change: the CID on disk is new */
};

/* ---- open.c ---- */
/* The driver's open: texts of *layer are set also when it fails. */
int vmdk_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e) PL_CHECK;
void vmdk_close(void *state); /* the driver's close */

/* Sets parent_uuid and has_parent by the descriptor. */
void vmdk_read_parent_facts(struct vmdk *v);

/* What all extents are opened with. */
struct vmdk_extent_args vmdk_extent_args(const struct vmdk *v, const struct pl_open_args *args);

/* "extent 3 ('name')" in front of the message of *e.  Returns -1. */
int vmdk_within(const struct vmdk *v, const struct vmdk_part *part, struct pl_err *e);

/* The line of a part, or null. */
const struct vmdk_line *vmdk_line_of(const struct vmdk *v, const struct vmdk_part *part);

/* ---- parts.c ---- */
/* Opens the extents of v->descriptor into v->parts, which are as many.  With check_only those that
 * cannot be opened are marked as missing, with describe_only those that are not there. */
int vmdk_open_parts(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e) PL_CHECK;
/* Opens the extent in how->file that the line speaks of, by its kind. */
int vmdk_open_kind(const struct vmdk_line *line, const struct vmdk_extent_args *how,
                   struct vmdk_extent *out, struct pl_err *e) PL_CHECK;
/* Whether the part can be written at all. */
bool vmdk_may_write(const struct vmdk *v, const struct vmdk_part *part);
/* Whether the disk can be opened for writing. */
int vmdk_check_writable(const struct vmdk *v, struct pl_err *e) PL_CHECK;

/* ---- vmdk.c ---- */
/* The part that has guest address `at` < size. */
struct vmdk_part *vmdk_part_at(const struct vmdk *v, uint64_t at);

/* ---- content_id.c ---- */
/* To be called before content changes: sees to it that the CID on disk is a new one.  Cheap once
 * it is. */
int vmdk_before_change(struct vmdk *v, struct pl_err *e) PL_CHECK;
/* A random CID that is neither `old` nor one with a meaning; reaches `digits` digits at most. */
int vmdk_new_cid(uint32_t old, size_t digits, uint32_t *cid, struct pl_err *e) PL_CHECK;

/* ---- slots of the driver in files of their own; see core/driver.h ---- */
/* check.c: each extent, missing and short files, extents that overlap. */
int vmdk_check(void *state, enum pl_repair repair, const struct pl_report *report,
               struct pl_check_result *result, struct pl_err *e) PL_CHECK;
/* facts.c: qemu-img's names, then platter's own. */
int vmdk_info(void *state, struct pl_fact *facts, struct pl_err *e) PL_CHECK;
/* Bytes that the host keeps for all files of the disk. */
uint64_t vmdk_disk_usage(void *state);
/* resize.c: grows the last extent; a split disk gets more files (split.c).  Shrinking is
 * PL_E_UNSUPPORTED. */
int vmdk_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                struct pl_err *e) PL_CHECK;
/* measure.c: of all files together. */
int vmdk_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                 struct pl_err *e) PL_CHECK;
/* create.c: the extents, then the descriptor. */
int vmdk_create(const struct pl_create_args *args, struct pl_err *e) PL_CHECK;

#endif
