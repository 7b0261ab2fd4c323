/* parent.c - the parent that a disk names: its CID, a hint at its file, for VirtualBox its UUID.
 *
 * A change of parent changes the descriptor alone, in one step (rewrite.c).  The disk's own CID
 * stays: it reads as before.  What the layer says itself is on disk before the descriptor changes.
 */
#include "formats/vmdk/parent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/rewrite.h"

#define NULL_UUID "00000000-0000-0000-0000-000000000000"

/* The value of the word that begins with `key`, up to a blank or `room` - 1 characters. */
static bool find_word(const char *words, const char *key, char *out, size_t room)
{
    const char *word = words ? strstr(words, key) : NULL;
    size_t len;

    if (!word)
        return false;
    word += strlen(key);
    len = strcspn(word, " ");
    if (len >= room)
        return false;
    memcpy(out, word, len);
    out[len] = '\0';
    return true;
}

int vmdk_check_name(const char *name, struct pl_err *e)
{
    for (const char *c = name; *c; c++)
        if (*c == '"' || (unsigned char)*c < 0x20)
            return pl_fail(e, PL_E_INVALID,
                           "'%s': a descriptor cannot hold a name with quotes or control "
                           "characters",
                           name);
    return 0;
}

static int refuse_format(const struct pl_parent_ref *parent, struct pl_err *e)
{
    pl_fail(e, PL_E_INVALID, "the backing file must be a vmdk image, not %s", parent->format);
    return pl_hint(e, "convert it to vmdk, or the child to qcow2, which takes any backing file");
}

int vmdk_read_parent(const struct pl_parent_ref *parent, struct vmdk_parent_id *id,
                     struct pl_err *e)
{
    char cid[9];

    *id = (struct vmdk_parent_id){ .cid = VMDK_CID_NONE };
    if (!parent->name)
        return 0;
    if (parent->format && strcmp(parent->format, "vmdk") != 0)
        return refuse_format(parent, e);
    if (!find_word(parent->identity, "cid:", cid, sizeof cid)) {
        pl_fail(e, PL_E_INVALID, "backing file '%s': it has no CID to know it by", parent->name);
        return pl_hint(e, "it must exist and be a vmdk disk with a descriptor");
    }
    id->cid = (uint32_t)strtoul(cid, NULL, 16);
    if (id->cid == VMDK_CID_NONE) {
        pl_fail(e, PL_E_INVALID, "backing file '%s': its CID ffffffff would mean \"no parent\"",
                parent->name);
        return pl_hint(e, "any write to it gives it another one");
    }
    if (!find_word(parent->identity, "uuid:", id->uuid, sizeof id->uuid))
        id->uuid[0] = '\0';
    return vmdk_check_name(parent->name, e);
}

/* ---- another one ---- */

/* VirtualBox writes null UUIDs where there is nothing to say; others have no such lines. */
static int put_uuid(struct vmdk_descriptor *d, const char *key, const char *uuid, struct pl_err *e)
{
    static const char *const behind[] = { "ddb.uuid.modification", "ddb.uuid.image", NULL };
    const struct vmdk_key line = { key, " = ", behind };
    char quoted[PL_UUID_TEXT + 2];
    struct vmdk_piece piece;

    if (!*uuid && !vmdk_descriptor_find(d, key, &piece))
        return 0;
    snprintf(quoted, sizeof quoted, "\"%s\"", *uuid ? uuid : NULL_UUID);
    return vmdk_descriptor_put(d, &line, quoted, e);
}

static int put_cid(struct vmdk_descriptor *d, uint32_t cid, struct pl_err *e)
{
    static const char *const behind[] = { "CID", "version", NULL };
    const struct vmdk_key line = { "parentCID", "=", behind };
    char digits[9];

    snprintf(digits, sizeof digits, "%08" PRIx32, cid);
    return vmdk_descriptor_put(d, &line, digits, e);
}

/* A parent's last modification is not asked for, and must not be that of another one. */
static int put_parent(struct vmdk_descriptor *d, const struct vmdk_parent_id *id, const char *name,
                      struct pl_err *e)
{
    static const char *const behind[] = { "createType", "parentCID", NULL };
    const struct vmdk_key line = { "parentFileNameHint", "=", behind };
    PL_FREE char *quoted = NULL;

    if (name && asprintf(&quoted, "\"%s\"", name) < 0) {
        quoted = NULL;
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    }
    if (put_cid(d, id->cid, e) < 0 || vmdk_descriptor_put(d, &line, quoted, e) < 0 ||
        put_uuid(d, "ddb.uuid.parent", id->uuid, e) < 0)
        return -1;
    return put_uuid(d, "ddb.uuid.parentmodification", "", e);
}

static int check_request(const struct vmdk *v, const struct pl_parent_ref *parent, struct pl_err *e)
{
    bool says_all = true;

    if (!v->file->writable)
        return pl_fail(e, PL_E_INVALID, "the disk is open for reading only");
    if (!v->descriptor.text || (v->parts->extent.file == v->file && !v->text_room)) {
        pl_fail(e, PL_E_UNSUPPORTED, "an extent without its descriptor names no parent");
        return pl_hint(e, "name the descriptor of the disk, not one of its extents");
    }
    for (size_t i = 0; i < v->count; i++)
        says_all = says_all && (!v->parts[i].extent.ops || !v->parts[i].extent.ops->set_parent);
    if (says_all && parent->name) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "it has no extent that leaves anything to a backing file: each byte is its own");
        return pl_hint(e, "convert it to a sparse kind: -o subformat=monolithicSparse");
    }
    return 0;
}

static int flush_parts(const struct vmdk *v, struct pl_err *e)
{
    for (size_t i = 0; i < v->count; i++) {
        const struct vmdk_extent *x = &v->parts[i].extent;

        if (vmdk_may_write(v, &v->parts[i]) && x->ops->flush && x->ops->flush(x->state, e) < 0)
            return vmdk_within(v, &v->parts[i], e);
    }
    return 0;
}

static void take_over(struct vmdk *v)
{
    vmdk_read_parent_facts(v);
    for (size_t i = 0; i < v->count; i++) {
        const struct vmdk_extent *x = &v->parts[i].extent;

        if (x->ops && x->ops->set_parent)
            x->ops->set_parent(x->state, v->has_parent);
    }
}

int vmdk_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e)
{
    struct vmdk *v = state;
    struct vmdk_descriptor changed;
    struct vmdk_parent_id id;
    bool done = false;
    char *copy;
    int result;

    if (check_request(v, parent, e) < 0 || vmdk_read_parent(parent, &id, e) < 0 ||
        flush_parts(v, e) < 0)
        return -1;
    copy = strdup(v->descriptor.text);
    if (!copy)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    if (vmdk_descriptor_parse(copy, v->descriptor.len, &changed, e) < 0)
        return -1;
    result = put_parent(&changed, &id, parent->name, e);
    if (result == 0)
        result = vmdk_rewrite(v, &changed, &done, e);
    if (done)
        take_over(v);
    vmdk_descriptor_free(&changed);
    return result;
}
