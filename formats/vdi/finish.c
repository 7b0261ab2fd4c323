/* finish.c - identifiers of an image that must come out the same each time: they follow from what
 * the guest sees, so that two images with different content never have the same. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/digest.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/vdi/vdi.h"

/* Pieces that are all zeros do not count, wherever they come from. */
#define PIECE (64 * PL_KIB)

struct content {
    struct vdi *v;
    struct pl_digest *digest;
    uint8_t *piece;
};

static int add_number(struct pl_digest *digest, uint64_t n, struct pl_err *e)
{
    uint8_t raw[8];

    store_le64(raw, n);
    return pl_digest_update(digest, raw, sizeof raw, e);
}

/* Bytes at `off` of the file that are known to be zeros without a look. */
static int skip_hole(struct vdi *v, uint64_t off, uint64_t len, uint64_t *skip, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(v->file);
    bool hole;

    *skip = len;
    if (off >= size)
        return 0;
    *skip = PL_MIN(len, size - off);
    if (pl_storage_map(v->file, off, skip, &hole, e) < 0)
        return -1;
    *skip = hole ? pl_round_down(*skip, PIECE) : 0;
    return 0;
}

static int add_block(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct content *c = ctx;
    struct vdi *v = c->v;
    const uint64_t at = index << v->block_bits, len = vdi_block_len(v, index);
    const uint64_t off = vdi_place_offset(v, entry) + v->header.block_extra; /* if it is one */

    if (entry == VDI_BLOCK_ZERO && v->has_parent)
        return add_number(c->digest, ~at, e);
    for (uint64_t done = 0; vdi_is_place(entry) && done < len;) {
        const uint64_t n = PL_MIN(PIECE, len - done);
        uint64_t skip;

        if (skip_hole(v, off + done, len - done, &skip, e) < 0)
            return -1;
        done += skip;
        if (skip)
            continue;
        if (pl_storage_read_padded(v->file, off + done, c->piece, n, e) < 0)
            return -1;
        if (!pl_is_zero(c->piece, n) && (add_number(c->digest, at + done, e) < 0 ||
                                         pl_digest_update(c->digest, c->piece, n, e) < 0))
            return -1;
        done += n;
    }
    return 0;
}

static int digest_content(struct vdi *v, struct pl_digest *digest, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const struct vdi_header *h = &v->header;
    PL_FREE uint8_t *piece = pl_buffer(PIECE);
    struct content c = { .v = v, .digest = digest, .piece = piece };

    if (!piece)
        return pl_fail(e, PL_E_NOMEM, "no memory to read its content");
    if (add_number(digest, h->disk_size, e) < 0 || add_number(digest, h->block_size, e) < 0 ||
        pl_digest_update(digest, h->parent_uuid, sizeof h->parent_uuid, e) < 0)
        return -1;
    return vdi_walk(v, 0, vdi_blocks_of(h, h->disk_size), add_block, &c, e);
}

static void set_uuid(uint8_t raw[static 16], const char *what, const char *digest)
{
    char name[PL_DIGEST_TEXT + 40];
    const int len = snprintf(name, sizeof name, "vdi %s %s", what, digest);
    struct pl_uuid uuid;

    pl_uuid_from_name(&uuid, name, (size_t)len);
    pl_uuid_store_guid(raw, &uuid);
}

int vdi_finish(void *state, struct pl_err *e)
{
    struct vdi *v = state;
    char text[PL_DIGEST_TEXT];
    struct pl_digest *digest;
    int result;

    PL_LOCKED(&v->lock);
    if (!v->derive_modification)
        return 0;
    if (vdi_write_back(v, false, e) < 0 || pl_digest_new("sha256", &digest, e) < 0)
        return -1;
    result = digest_content(v, digest, e);
    if (result == 0)
        result = pl_digest_finish(digest, text, e);
    pl_digest_free(digest);
    if (result < 0)
        return -1;
    if (v->derive_image)
        set_uuid(v->header.image_uuid, "image", text);
    set_uuid(v->header.modification_uuid, "modification", text);
    return vdi_write_header(v, e);
}
