/* node.h - what an open image is made of, for the parts of graph and for the engines. */
#ifndef PL_CORE_GRAPH_NODE_H
#define PL_CORE_GRAPH_NODE_H

#include <stdatomic.h>

#include "core/base/lock.h"
#include "core/codec/codec.h"
#include "core/driver.h"
#include "core/graph/image.h"
#include "core/graph/package.h"
#include "core/graph/range_lock.h"
#include "core/graph/keeper.h"
#include "core/storage/opener.h"

/* The deepest chain that is opened: image, parent, parent's parent ... */
#define PL_CHAIN_MAX 200

/* What one read of a compressed unit needs; idle ones wait in the image for the next reader. */
struct pl_unpacker {
    struct pl_unpacker *next;
    struct pl_codec_state *codec;
    uint8_t *packed; /* room for packed_room bytes */
    size_t packed_room;
    uint8_t *unit; /* room for one unpacked unit, unit_room bytes */
    size_t unit_room;
};

struct pl_image {
    /* ---- constant after open, but for layer.size (pl_resize) ---- */
    const struct pl_driver *driver;
    const struct pl_driver *perhaps; /* see pl_driver.perhaps; null: none */
    struct pl_layer layer;
    struct pl_storage *file; /* owned unless `borrowed` */
    bool borrowed;
    struct pl_package *package; /* that `file` lies in; owned; null: none */
    size_t package_disk;        /* the disk of the package */
    struct pl_keeper *keeper;   /* owned; null: what changes is not kept */
    struct pl_image *parent;    /* owned; null: none */
    char *path;                 /* as given, or as the child names it */
    bool guessed, writable;
    struct pl_file_maker maker;  /* what the driver makes further files by */
    bool guard_header;           /* raw by guess, written to: see write.c */
    struct pl_range_lock ranges; /* taken before any driver lock; unused while read-only */
    atomic_bool broken;          /* tables may be half-changed: no more writes */
    bool settles; /* long_work.h; constant while the work's threads run */
    atomic_uint_fast64_t room_end; /* ... up to where the file has room made ahead, 0: nowhere */
    struct pl_lock unpackers_lock; /* guards the list of idle ones */
    struct pl_unpacker *unpackers;
};

/* An extent and the layer that it was found in. */
struct pl_located {
    struct pl_extent extent; /* never PL_PARENT: that became PL_ZERO at the chain's end */
    struct pl_image *image;  /* the layer that decides; the last one when nobody says anything */
    unsigned depth;
    bool present; /* a layer said so; false: the chain ended */
};

/* Where guest [at, at + len), inside the disk, is: its first run. */
int pl_locate(struct pl_image *img, uint64_t at, uint64_t len, struct pl_located *out,
              struct pl_err *e) PL_CHECK;

/* How an image over a storage comes by it.  All null: the storage becomes the image's own, which
 * closes it. */
struct pl_file_source {
    bool borrowed; /* the storage stays the caller's and outlives the image */
    /* Opens a further file that the image names, in place of the opener: files that have no name
     * yet. Null: the opener. */
    int (*open_file)(void *ctx, const char *name, struct pl_storage **out, struct pl_err *e);
    void *ctx;
    const struct pl_create_args *created; /* see pl_open_args; null: it is not new */
    struct pl_keeper *keeper; /* takes note of the files that the image names; null: nobody does */
};

/* Opens an image over a storage, called `path` in messages.  Parents are opened as pl_open does. On
 * failure a storage that is not borrowed is closed. */
int pl_open_storage(struct pl_storage *file, const struct pl_file_source *source, const char *path,
                    const struct pl_open_options *options, struct pl_image **out, struct pl_err *e)
    PL_CHECK;

/* Opens the image of a disk in a package, which the image then owns.  Of the options `format` is
 * that of the package.  On failure the package is closed. */
int pl_open_package_disk(struct pl_package *package, const char *path,
                         const struct pl_open_options *options, struct pl_image **out,
                         struct pl_err *e) PL_CHECK;

/* The driver of that name or alias.  PL_E_INVALID lists the names there are. */
int pl_driver_find(const char *name, const struct pl_driver **out, struct pl_err *e) PL_CHECK;

/* Bytes at the start and at the end of a file that tell its format. */
#define PL_PROBE_HEAD 4096
#define PL_PROBE_TAIL 512

/* A write that is about to happen: the probe sees the file as it will be. */
struct pl_probe_change {
    uint64_t off;
    const uint8_t *bytes;
    size_t len;
};

/* The driver that claims the file, null: none does, so it is raw.  `change`: null, or as above. */
int pl_probe_file(struct pl_storage *file, const struct pl_probe_change *change,
                  const struct pl_driver **driver, struct pl_err *e) PL_CHECK;

/* The driver that the file could be of although none claims it, null: none. */
int pl_probe_perhaps(struct pl_storage *file, const struct pl_driver **driver, struct pl_err *e)
    PL_CHECK;

/* Opens the parents that `img` names, all the way up.  On failure img is as before. */
int pl_open_parents(struct pl_image *img, const struct pl_open_options *options, struct pl_err *e)
    PL_CHECK;

/* Closes the parent of `child` and the parents above it and opens them again, the parent itself for
 * writing and with its children's knowledge of it kept.  On failure child may be left without a
 * parent: it is good for closing alone. */
int pl_reopen_parent_writable(struct pl_image *child, const struct pl_open_options *options,
                              struct pl_err *e) PL_CHECK;

/* Whether children can know the image by one of those words, which blanks separate.  Words that
 * differ in the case of letters alone are the same: identities are hexadecimal. */
bool pl_has_identity(const struct pl_image *img, const char *words);

/* The images in the folder of `beside`'s file whose parent is `parent`, by their names there;
 * hidden files and what cannot be opened are left out.  Takes no locks.  Of the options
 * allowed_dirs counts.  *names is freed by pl_names_free.  PL_E_LIMIT: too many files to look
 * through. */
int pl_children_beside(struct pl_image *parent, struct pl_image *beside,
                       const struct pl_open_options *options, char ***names, size_t *count,
                       struct pl_err *e) PL_CHECK;

/* Reads what `located`, the first run at `at`, says, without locks.  len <= its length. */
int pl_read_located(const struct pl_located *located, uint64_t at, void *buf, size_t len,
                    struct pl_err *e) PL_CHECK;

/* pl_read for a caller that holds the range, or needs no lock. */
int pl_read_unlocked(struct pl_image *img, uint64_t at, uint8_t *buf, size_t len, struct pl_err *e)
    PL_CHECK;

/* An unpacker for the codec with at least that much room; goes back by pl_unpacker_put. */
int pl_unpacker_get(struct pl_image *img, const struct pl_codec *codec, size_t packed_len,
                    size_t unit_len, struct pl_unpacker **out, struct pl_err *e) PL_CHECK;
void pl_unpacker_put(struct pl_image *img, struct pl_unpacker *unpacker); /* for the next reader */
void pl_unpackers_free(struct pl_image *img);                             /* at close */

/* PL_E_UNSUPPORTED naming what the format cannot do. */
int pl_no_slot(const struct pl_image *img, const char *what, struct pl_err *e) PL_CHECK;

/* PL_E_LIMIT when [at, at + len) is not inside the disk. */
int pl_check_range(const struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
    PL_CHECK;

#endif
