/* extensions.c - see extensions.h.  Specification: docs/interop/qcow2.rst, "Header extensions". */
#include "formats/qcow2/extensions.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"

/* Bytes from the header's end to the end of what extensions may fill. */
static uint32_t area(const struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    const uint32_t cluster = UINT32_C(1) << h->cluster_bits;
    const uint64_t end = h->backing_file_offset ? PL_MIN(h->backing_file_offset, cluster) : cluster;

    return end > h->header_length ? (uint32_t)end - h->header_length : 0;
}

struct qcow2_extension *qcow2_extension(const struct qcow2 *q, uint32_t type)
{
    struct qcow2_extension *x = q->extensions;

    while (x && x->type != type)
        x = x->next;
    return x;
}

/* Keeps a text; where the extension counts bytes behind its end, they are cut. */
static int keep_text(char **text, const uint8_t *data, uint32_t len, struct pl_err *e)
{
    if (*text)
        return pl_fail(e, PL_E_CORRUPT, "header extensions: the same one appears twice");
    if (len == 0 || data[0] == '\0')
        return 0;
    *text = strndup((const char *)data, len);
    return *text ? 0 : pl_fail(e, PL_E_NOMEM, "header extensions: no memory");
}

static int append(struct qcow2 *q, uint32_t type, const void *data, uint32_t len, struct pl_err *e)
{
    struct qcow2_extension **link = &q->extensions;
    struct qcow2_extension *x = malloc(sizeof *x + len);
    unsigned count = 0;

    if (!x)
        return pl_fail(e, PL_E_NOMEM, "header extensions: no memory");
    *x = (struct qcow2_extension){ .type = type, .len = len };
    memcpy(x->data, data, len);
    for (; *link; link = &(*link)->next)
        count++;
    *link = x;
    if (count >= QCOW2_EXTENSIONS_MAX)
        return pl_fail(e, PL_E_LIMIT, "header extensions: more than %d", QCOW2_EXTENSIONS_MAX);
    return 0;
}

static int keep(struct qcow2 *q, uint32_t type, const uint8_t *data, uint32_t len, struct pl_err *e)
{
    if (type == QCOW2_EXT_BACKING_FORMAT)
        return keep_text(&q->parent_format, data, len, e);
    if (type == QCOW2_EXT_DATA_FILE)
        return keep_text(&q->data_file_name, data, len, e);
    if (type == QCOW2_EXT_BITMAPS && qcow2_extension(q, type))
        return pl_fail(e, PL_E_CORRUPT, "header extensions: two of bitmaps");
    return append(q, type, data, len, e);
}

static int parse(struct qcow2 *q, const uint8_t *raw, uint32_t len, struct pl_err *e)
{
    uint32_t at = 0;

    while (len - at >= QCOW2_EXT_HEAD) {
        const uint32_t type = load_be32(raw + at);
        const uint32_t size = load_be32(raw + at + 4);

        at += QCOW2_EXT_HEAD;
        if (type == QCOW2_EXT_END)
            return 0;
        if (size > len - at)
            return pl_fail(e, PL_E_CORRUPT,
                           "header extension 0x%08" PRIx32 ": its %" PRIu32 " bytes do not fit "
                           "into cluster 0",
                           type, size);
        if (keep(q, type, raw + at, size, e) < 0)
            return -1;
        at = (uint32_t)PL_MIN(pl_round_up((uint64_t)at + size, 8), len);
    }
    return 0;
}

int qcow2_read_extensions(struct qcow2 *q, struct pl_err *e)
{
    const uint32_t len = (uint32_t)PL_MIN(area(q), pl_storage_size(q->file));
    PL_FREE uint8_t *raw = malloc(len ? len : 1);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "header extensions: no memory");
    if (pl_storage_read_padded(q->file, q->header.header_length, raw, len, e) < 0)
        return -1;
    return parse(q, raw, len, e);
}

int qcow2_set_extension(struct qcow2 *q, uint32_t type, const void *data, uint32_t len,
                        struct pl_err *e)
{
    struct qcow2_extension **link = &q->extensions;
    struct qcow2_extension *x = NULL;
    struct qcow2_extension *old;

    while (*link && (*link)->type != type)
        link = &(*link)->next;
    old = *link;
    if (data) {
        x = malloc(sizeof *x + len);
        if (!x)
            return pl_fail(e, PL_E_NOMEM, "header extensions: no memory");
        *x = (struct qcow2_extension){ .type = type, .len = len };
        memcpy(x->data, data, len);
        x->next = old ? old->next : NULL;
    }
    if (old || x)
        *link = x ? x : old->next;
    free(old);
    return 0;
}

int qcow2_set_feature_names(struct qcow2 *q, struct pl_err *e)
{
    static const struct {
        enum qcow2_feature_type type;
        uint8_t bit;
        const char *name;
    } rows[] = {
        { QCOW2_FEATURE_INCOMPATIBLE, 0, "dirty bit" },
        { QCOW2_FEATURE_INCOMPATIBLE, 1, "corrupt bit" },
        { QCOW2_FEATURE_INCOMPATIBLE, 2, "external data file" },
        { QCOW2_FEATURE_INCOMPATIBLE, 3, "compression type" },
        { QCOW2_FEATURE_INCOMPATIBLE, 4, "extended L2 entries" },
        { QCOW2_FEATURE_COMPATIBLE, 0, "lazy refcounts" },
        { QCOW2_FEATURE_AUTOCLEAR, 0, "bitmaps" },
        { QCOW2_FEATURE_AUTOCLEAR, 1, "raw external data" },
    };
    uint8_t table[PL_COUNT(rows) * QCOW2_FEATURE_BYTES] = { 0 };

    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        uint8_t *entry = table + i * QCOW2_FEATURE_BYTES;

        entry[0] = (uint8_t)rows[i].type;
        entry[1] = rows[i].bit;
        memcpy(entry + 2, rows[i].name, strlen(rows[i].name));
    }
    return qcow2_set_extension(q, QCOW2_EXT_FEATURE_NAMES, table, sizeof table, e);
}

static uint64_t padded(uint64_t len)
{
    return QCOW2_EXT_HEAD + pl_round_up(len, 8);
}

static uint64_t text_bytes(const char *text)
{
    return text ? padded(strlen(text)) : 0;
}

/* Bytes that all of it takes, with the end mark and the parent's name. */
static uint64_t total(const struct qcow2 *q, bool feature_names)
{
    uint64_t bytes = text_bytes(q->parent_format) + text_bytes(q->data_file_name) + QCOW2_EXT_HEAD;

    for (const struct qcow2_extension *x = q->extensions; x; x = x->next)
        if (feature_names || x->type != QCOW2_EXT_FEATURE_NAMES)
            bytes += padded(x->len);
    return bytes + (q->parent_name ? strlen(q->parent_name) : 0);
}

static void put(uint8_t *raw, uint32_t *used, uint32_t type, const void *data, uint32_t len)
{
    store_be32(raw + *used, type);
    store_be32(raw + *used + 4, len);
    memcpy(raw + *used + QCOW2_EXT_HEAD, data, len);
    *used += (uint32_t)padded(len);
}

static void put_text(uint8_t *raw, uint32_t *used, uint32_t type, const char *text)
{
    if (text)
        put(raw, used, type, text, (uint32_t)strlen(text));
}

int qcow2_put_extensions(const struct qcow2 *q, uint32_t limit, uint8_t *raw, uint32_t *used,
                         struct pl_err *e)
{
    const uint64_t room = limit - PL_MIN(limit, *used);
    const bool feature_names = total(q, true) <= room;

    if (total(q, false) > room) {
        pl_fail(e, PL_E_LIMIT,
                "header: extensions and backing file name do not fit into cluster 0");
        return pl_hint(e, "use a larger cluster_size or shorter names");
    }
    put_text(raw, used, QCOW2_EXT_BACKING_FORMAT, q->parent_format);
    put_text(raw, used, QCOW2_EXT_DATA_FILE, q->data_file_name);
    for (const struct qcow2_extension *x = q->extensions; x; x = x->next)
        if (feature_names || x->type != QCOW2_EXT_FEATURE_NAMES)
            put(raw, used, x->type, x->data, x->len);
    put(raw, used, QCOW2_EXT_END, "", 0);
    return 0;
}

void qcow2_free_extensions(struct qcow2 *q)
{
    while (q->extensions) {
        struct qcow2_extension *next = q->extensions->next;

        free(q->extensions);
        q->extensions = next;
    }
}
