/* vhd_images.h - small VHD images in memory, and what tests change in them.  cmocka.h comes first.
 */
#ifndef TESTS_UNIT_FORMATS_VHD_VHD_IMAGES_H
#define TESTS_UNIT_FORMATS_VHD_VHD_IMAGES_H

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vhd/vhd.h"
#include "tests/support/images.h"
#include "tests/support/rig.h"

#define BAT_AT 1536
#define HEADER_AT 512
#define PARENT_ID "uuid:00112233-4455-6677-8899-aabbccddeeff"

/* A new image; with a parent of that name, whose identity is PARENT_ID. */
static inline struct pl_storage *new_vhd(const char *text, uint64_t size, const char *parent)
{
    struct pl_options *options = options_of(text);
    const struct pl_create_args args = { .file = memory(),
                                         .size = size,
                                         .options = options,
                                         .parent.name = parent,
                                         .parent.format = parent ? "vhd" : NULL,
                                         .parent.identity = parent ? PARENT_ID " time:5" : NULL };

    OK(pl_vhd.create(&args, &e));
    pl_options_free(options);
    return args.file;
}

/* Sets the checksum of the `len` bytes at `off`, which is at `at` in them. */
static inline void seal(struct pl_storage *st, uint64_t off, size_t len, size_t at)
{
    uint8_t raw[VHD_HEADER_BYTES];

    OK(pl_storage_read(st, off, raw, len, &e));
    poke(st, off + at, 4, vhd_checksum(raw, len, at));
}

/* Changes a field of the footer and of its copy. */
static inline void poke_footer(struct pl_storage *st, uint64_t at, unsigned width, uint64_t value)
{
    const uint64_t end = pl_storage_size(st) - VHD_FOOTER_BYTES;
    uint8_t cookie[8];

    OK(pl_storage_read(st, 0, cookie, 8, &e));
    if (memcmp(cookie, VHD_COOKIE, 8) == 0) {
        poke(st, at, width, value);
        seal(st, 0, VHD_FOOTER_BYTES, VHD_CHECKSUM_AT);
    }
    poke(st, end + at, width, value);
    seal(st, end, VHD_FOOTER_BYTES, VHD_CHECKSUM_AT);
}

/* Changes a field of the header. */
static inline void poke_header(struct pl_storage *st, uint64_t at, unsigned width, uint64_t value)
{
    poke(st, HEADER_AT + at, width, value);
    seal(st, HEADER_AT, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT);
}

/* The rig around an image. */
static inline struct rig rig_of(struct pl_storage *st)
{
    return (struct rig){ .driver = &pl_vhd, .st = st };
}

/* An image of `size` with the byte `fill` in all of it, closed. */
static inline struct pl_storage *full_vhd(const char *text, uint64_t size, int fill)
{
    struct rig rig = rig_of(new_vhd(text, size, NULL));
    PL_FREE uint8_t *bytes = malloc(size);

    memset(bytes, fill, size);
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, 0, bytes, size, &e));
    OK(pl_vhd.flush(rig.layer.state, &e));
    rig_close(&rig);
    return rig.st;
}

#endif
