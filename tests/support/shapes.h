/* shapes.h - what the random tests and the crash tests of the formats share: kinds of images, and
 * runs of random work on one of them. */
#ifndef TESTS_SUPPORT_SHAPES_H
#define TESTS_SUPPORT_SHAPES_H

#include "tests/support/rig.h"

/* One kind of image, and what is done to it. */
struct image_shape {
    const char *name;
    const char *options; /* as for -o */
    uint64_t size;       /* of the disk, bytes */
    unsigned steps;
    bool parent, data_file;
    bool packed, resize, compact; /* these steps are taken too */
    bool bitmaps, snapshots;      /* qcow2 alone */
    uint32_t sector;              /* sizes are of whole ones; 0: 512 */
    uint32_t cache_bytes;
    unsigned dense;   /* a write has up to that many units; 0: few.  No failing changes */
    bool sampled;     /* crash tests: one file for each instant, its kind in turn */
    bool no_growth;   /* random tests: resizes stay below `size` */
    bool unreadable;  /* random tests: not for qemu-img */
    unsigned variant; /* the format's own */
};

/* What a frame must know of a format. */
struct image_format {
    const char *group; /* of tests, for messages */
    const struct pl_driver *driver;
    const char *parent_format, *parent_identity; /* as for rig_create */
    enum pl_prealloc resize_how;                 /* of every fourth resize */
    bool grows_only;
    bool compacts;              /* every shape does */
    bool discards_all;          /* discard skips nothing */
    bool forgets;               /* images over a parent can forget granules */
    const char *other_identity; /* of a second parent, "": it has none; null: an image keeps its
                                   parent.  Of shapes with a parent alone */
};

/* The parents that an image can have. */
enum run_parent { RUN_NO_PARENT, RUN_FIRST_PARENT, RUN_OTHER_PARENT, RUN_PARENTS };

/* Random work on one image. */
struct image_run {
    const struct image_format *format;
    const struct image_shape *shape;
    struct rig rig;
    uint8_t *parent, *buf; /* the parent's bytes; room for twice the disk and some more */
    uint8_t *other;        /* as many bytes of the other parent, if the format has one */
    uint64_t parent_len;   /* of both */
    uint64_t random;
};

uint64_t run_below(struct image_run *run, uint64_t n);

/* A range of whole units (bytes) in the disk, or to its end; `most` units. */
void run_choose(struct image_run *run, uint64_t unit, uint64_t most, uint64_t *at, uint64_t *len);

/* Makes a range one of whole granules. */
void run_round_out(const struct image_run *run, uint64_t *at, uint64_t *len);

/* A size for a resize: of this shape from a part of its size to `most`; whole sectors. */
uint64_t run_choose_size(struct image_run *run, uint64_t least, uint64_t most);

/* How to resize: off, mostly. */
enum pl_prealloc run_choose_prealloc(struct image_run *run);

/* As the core does after growing from `old`: what a longer parent has does not show. */
int run_hide_parent(struct image_run *run, uint64_t old, struct pl_err *e) PL_CHECK;

/* Whether the image can get another parent. */
bool run_changes_parent(const struct image_run *run);

/* Room for `len` bytes of each parent that there can be; the image is to have the first one. */
void run_make_parents(struct image_run *run, uint64_t len);

/* The rig reads through that parent from now on. */
void run_use_parent(const struct image_run *run, struct rig *rig, enum run_parent which);

/* The parent that an opened image names; ends the test if it is none of them. */
enum run_parent run_parent_of(const struct image_run *run, const struct pl_layer *layer);

/* Gives the image that parent. */
int run_set_parent(struct image_run *run, enum run_parent which, struct pl_err *e) PL_CHECK;

/* An empty rig for the shape, its storages in memory. */
void run_begin(struct image_run *run, size_t limit);

/* Frees what run_begin made. */
void run_end(struct image_run *run);

/* What a test of a shape finds in *state. */
struct image_case {
    const void *frame; /* what the frame knows of the format */
    const struct image_shape *shape;
};

/* Runs `test` as a cmocka test for each of the shapes that `wanted` wants (null: all); the names
 * begin with `prefix`.  The number of tests that failed. */
int run_shape_tests(const void *frame, const char *group, const char *prefix,
                    void (*test)(void **state), const struct image_shape *shapes, size_t count,
                    bool (*wanted)(const struct image_shape *shape));

#endif
