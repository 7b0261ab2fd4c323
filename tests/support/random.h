/* random.h - random changes to images of one format, against a model of the disk in memory.  The
 * image is checked, closed and opened again every now and then; in the end qemu-img must find it
 * sound and the same content in it, where it knows the format.
 *
 * RANDOM_SEED and RANDOM_STEPS in the environment choose another run. */
#ifndef TESTS_SUPPORT_RANDOM_H
#define TESTS_SUPPORT_RANDOM_H

#include "tests/support/shapes.h"

struct random_run {
    struct image_run base;
    const struct random_format *format;
    uint8_t *model; /* room as for base.buf */
    uint64_t size;  /* of the disk when it was closed */
    void *own;      /* the format's */
};

/* What the frame must know of a format. */
struct random_format {
    struct image_format image;
    unsigned runs;         /* of each shape, with other seeds; 0: 1 */
    size_t file_limit;     /* bytes; 0: none */
    bool short_parent;     /* the parent ends before every disk does */
    bool leaks_nothing;    /* at no time; others do not after a compact step */
    bool resizes;          /* every shape does */
    const char *qemu;      /* the format's name there; null: it does not know it */
    bool qemu_check;       /* qemu-img can check it */
    bool readable_orphans; /* ... and reads those that lose their parent in the end, which all do
                              but for those of large sectors */
    /* After create, with the image closed; or null. */
    void (*prepare)(struct random_run *run);
    /* One step in five hundred, the image being sound; or null. */
    void (*own_step)(struct random_run *run);
    /* Puts the parents into the test's folder, for qemu-img.  null: `parent` as a raw disk. */
    void (*write_parents)(struct random_run *run);
    /* After qemu-img's comparison; the test's folder has the files image, data, parent, raw and
     * model.  Or null. */
    void (*finish)(struct random_run *run);
};

/* The tests of all shapes: the number of those that failed. */
int random_tests(const struct random_format *format, const struct image_shape *shapes,
                 size_t count);

/* ---- for a format's own steps ---- */

/* Random bytes into base.buf; some kinds compress well. */
void random_fill(struct random_run *run, uint64_t len);

void random_write(struct random_run *run);

/* The image has the model's content. */
void random_compare(struct random_run *run);

/* Flushes; nothing is wrong, nothing is lost if `leaks` matter. */
void random_check_sound(struct random_run *run, bool leaks);

/* The test's own folder has a file `name` with those bytes. */
void random_write_file(const char *name, const uint8_t *bytes, uint64_t len);

#endif
