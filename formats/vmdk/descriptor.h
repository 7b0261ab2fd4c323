/* descriptor.h - the text that describes a VMDK disk: what it is made of, and how it is known.
 *
 * VMware, "Virtual Disk Format 5.0", section "Descriptor file".  The text is kept byte for byte, in
 * whatever style its writer had; values are found in it when they are asked for, and a change
 * overwrites the bytes of one value.  So lines that nobody here knows survive.
 *
 *     # Disk DescriptorFile            comments
 *     CID=7e5b80a7                     content identifier: new with each writer
 *     parentCID=ffffffff               the parent's; ffffffff: none
 *     createType="monolithicFlat"
 *     RW 4192256 FLAT "a-f001.vmdk" 0  access, sectors, type, file, first sector in it
 *     ddb.adapterType = "ide"          the disk database
 *
 * Keys and words count in any case, blanks around them do not, lines end by LF or CR LF, and the
 * text ends at the first NUL: sparse files and QEMU pad it.  Where a key comes twice the first one
 * counts. */
#ifndef PL_FORMATS_VMDK_DESCRIPTOR_H
#define PL_FORMATS_VMDK_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define VMDK_DESCRIPTOR_MAX (1u << 20) /* bytes of text */
#define VMDK_EXTENTS_MAX 65536u
#define VMDK_CID_NONE UINT32_C(0xffffffff)

enum vmdk_access { VMDK_RW, VMDK_RDONLY, VMDK_NOACCESS };
enum vmdk_type {
    VMDK_FLAT,
    VMDK_SPARSE,
    VMDK_ZERO,
    VMDK_VMFS,
    VMDK_VMFSSPARSE,
    VMDK_VMFSRDM,
    VMDK_VMFSRAW,
    VMDK_SESPARSE,
};

/* A piece of the text. */
struct vmdk_piece {
    size_t at, len;
};

/* One extent line. */
struct vmdk_line {
    enum vmdk_access access;
    enum vmdk_type type;
    uint64_t sectors;
    uint64_t offset;          /* bytes; 0 where the line has none */
    char *name;               /* of the file, as it is written; null: ZERO has none */
    struct vmdk_piece whole;  /* the line without its end ... */
    struct vmdk_piece digits; /* ... and `sectors` in it */
};

struct vmdk_descriptor {
    char *text; /* null-terminated; owned */
    size_t len; /* without the padding */
    struct vmdk_line *lines;
    size_t line_count, line_room;
    uint64_t sectors;             /* of all lines; in bytes at most PL_OFFSET_MAX */
    bool has_cid;                 /* the CID is there and is a number ... */
    uint32_t cid;                 /* ... this one ... */
    struct vmdk_piece cid_digits; /* ... written here */
    uint32_t parent_cid;          /* VMDK_CID_NONE: no parent, or no such line */
};

/* Takes `text`, which is malloc'ed and has `len` bytes and a NUL behind them, over, also when it
 * fails.  PL_E_CORRUPT names the line; PL_E_LIMIT, PL_E_UNSUPPORTED (encryption, an encoding that
 * is not made of bytes, an unknown kind of extent), PL_E_NOMEM. */
int vmdk_descriptor_parse(char *text, size_t len, struct vmdk_descriptor *out, struct pl_err *e)
    PL_CHECK;

/* Frees what parse made; fine on zeros. */
void vmdk_descriptor_free(struct vmdk_descriptor *d);

/* Whether bytes, the start of a file, are such a text.  It needs no NUL at its end. */
bool vmdk_descriptor_probe(const uint8_t *head, size_t len);

/* Where the value of `key` is, without its quotes; false: no such line. */
bool vmdk_descriptor_find(const struct vmdk_descriptor *d, const char *key, struct vmdk_piece *out);

/* A copy of the value, the caller's to free; null: no such line, an empty value, or no memory. */
char *vmdk_descriptor_value(const struct vmdk_descriptor *d, const char *key);

/* ---- descriptor_put.c ---- */
/* A key, and how a line that has it is written where there is none. */
struct vmdk_key {
    const char *name, *equals; /* "CID", "=" */
    const char *const *behind; /* keys that it comes behind, in order of preference; ends with a
                                     null; without them it comes last */
};
/* Makes *d the descriptor with `value`, with its quotes if it has any, for the key; null: without
 * lines that have the key.  On failure *d is as before, or lacks some of those lines. */
int vmdk_descriptor_put(struct vmdk_descriptor *d, const struct vmdk_key *key, const char *value,
                        struct pl_err *e) PL_CHECK;

/* The words above, as VMware writes them. */
const char *vmdk_access_name(enum vmdk_access access);
const char *vmdk_type_name(enum vmdk_type type); /* the same for the type */

#endif
