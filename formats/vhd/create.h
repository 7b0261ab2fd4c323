/* create.h - what a new VHD shall be like. */
#ifndef PL_FORMATS_VHD_CREATE_H
#define PL_FORMATS_VHD_CREATE_H

#include "formats/vhd/vhd.h"

/* creator_application of qemu-img with force_size: the current size counts. */
#define VHD_CREATOR_EXACT "qem2"
/* That of qemu-img without it: the geometry counts. */
#define VHD_CREATOR_GEOMETRY "qemu"

/* The options of one, checked, and the size that they lead to. */
struct vhd_request {
    bool fixed;
    bool geometry; /* force_size=off: the size is that of a geometry, as qemu-img makes it */
    uint32_t block_size;
    uint64_t size; /* bytes, whole sectors */
};

/* Reads the options for a disk of `size` bytes.  PL_E_INVALID, PL_E_LIMIT. */
int vhd_read_request(const struct pl_options *options, uint64_t size, bool has_parent,
                     struct vhd_request *request, struct pl_err *e) PL_CHECK;

/* The footer for that request.  `parent_identity`: null, or what args has. */
void vhd_new_footer(const struct pl_create_args *args, const struct vhd_request *request,
                    struct vhd_footer *footer);

/* Bytes of the file before the footer when so many blocks exist, without parent locators. */
uint64_t vhd_file_bytes(const struct vhd_request *request, uint64_t blocks);

/* PL_E_LIMIT, with what to do, for a disk or a file that is too large. */
int vhd_check_size(const struct vhd_request *request, struct pl_err *e) PL_CHECK;

/* ---- locator.c ---- */
/* A name of its parent that a child has. */
struct vhd_name {
    const char *code; /* of the platform */
    uint8_t *data;    /* owned; null: there is none */
    uint32_t len;
};
/* Those that we write. */
#define VHD_NAMES 2
/* Encodes `name` as Windows writes it, for W2ku, for W2ru if it is relative, and in the header.
 * PL_E_UNSUPPORTED where it cannot be. */
int vhd_encode_parent_name(const char *name, struct vhd_header *header,
                           struct vhd_name out[VHD_NAMES], struct pl_err *e) PL_CHECK;
/* Frees the data. */
void vhd_free_names(struct vhd_name names[VHD_NAMES]);
/* Bytes of the file that their data take: whole sectors. */
uint64_t vhd_names_bytes(const struct vhd_name names[VHD_NAMES]);
/* Writes their data from byte offset `at` on, and fills the locators in the VHD_HEADER_BYTES of a
 * header. */
int vhd_write_names(struct pl_storage *file, const struct vhd_name names[VHD_NAMES], uint64_t at,
                    uint8_t *header, struct pl_err *e) PL_CHECK;

/* ---- parent.c ---- */
/* What header and locators say of a parent, or that there is none.  PL_E_INVALID, PL_E_UNSUPPORTED
 * where it cannot be the parent of a VHD. */
int vhd_describe_parent(const struct pl_parent_ref *parent, struct vhd_header *header,
                        struct vhd_name names[VHD_NAMES], struct pl_err *e) PL_CHECK;

#endif
