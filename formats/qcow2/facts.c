/* facts.c - what `info` shows of a qcow2 image, in the names and the order of qemu-img. */
#include "core/base/scope.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/tables.h"

static void add_bitmap(struct pl_fact *list, const struct pl_bitmap *b)
{
    struct pl_fact *bitmap = pl_facts_object(list, NULL);
    struct pl_fact *flags = pl_facts_list(bitmap, "flags");

    if (b->in_use)
        pl_facts_text(flags, NULL, "in-use");
    if (b->enabled)
        pl_facts_text(flags, NULL, "auto");
    pl_facts_text(bitmap, "name", b->name);
    pl_facts_number(bitmap, "granularity", b->granularity);
}

static int add_bitmaps(struct qcow2 *q, struct pl_fact *facts, struct pl_err *e)
{
    PL_FREE struct pl_bitmap *all = NULL;
    struct pl_fact *list;
    size_t count;

    if (qcow2_bitmaps(q, &all, &count, e) < 0)
        return -1;
    if (count == 0)
        return 0;
    list = pl_facts_list(facts, "bitmaps");
    for (size_t i = 0; i < count; i++)
        add_bitmap(list, &all[i]);
    return 0;
}

int qcow2_info(void *state, struct pl_fact *facts, struct pl_err *e)
{
    struct qcow2 *q = state;
    const struct qcow2_header *h = &q->header;
    const bool v3 = h->version == 3;

    pl_facts_text(facts, "compat", v3 ? "1.1" : "0.10");
    pl_facts_text(facts, "compression-type",
                  h->compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib");
    if (v3)
        pl_facts_bool(facts, "lazy-refcounts",
                      h->compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS);
    if (v3 && add_bitmaps(q, facts, e) < 0)
        return -1;
    pl_facts_number(facts, "refcount-bits", q->refcount_bits);
    if (!v3)
        return 0;
    if (q->data_file_name)
        pl_facts_text(facts, "data-file", q->data_file_name);
    if (qcow2_has_data_file(q))
        pl_facts_bool(facts, "data-file-raw", qcow2_data_file_raw(q));
    pl_facts_bool(facts, "corrupt", h->incompatible_features & QCOW2_INCOMPAT_CORRUPT);
    pl_facts_bool(facts, "extended-l2", qcow2_extended(q));
    return 0;
}
