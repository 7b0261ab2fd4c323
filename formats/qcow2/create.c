/* create.c - new qcow2 images: the options of qemu-img and its rules for combining them. */
#include "formats/qcow2/create.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/extensions.h"

const struct pl_option_help qcow2_create_options[] = {
    { "size", "size", "Virtual disk size" },
    { "compat", "str", "Compatibility level: 0.10 (v2) or 1.1 (v3)" },
    { "backing_file", "str", "Name of the backing file" },
    { "backing_fmt", "str", "Format of the backing file" },
    { "cluster_size", "size", "Bytes of a cluster: a power of two from 512 to 2M" },
    { "preallocation", "str",
      "Room made ahead: off, metadata, falloc (reserved), full (zeros written)" },
    { "lazy_refcounts", "bool (on/off)", "Postpone updates of reference counts" },
    { "refcount_bits", "num", "Bits of a reference count: 1, 2, 4, 8, 16, 32 or 64" },
    { "extended_l2", "bool (on/off)", "Clusters of 32 parts that are allocated one by one" },
    { "compression_type", "str", "How clusters are compressed: zlib or zstd" },
    { "data_file", "str", "Name of an external file for the data" },
    { "data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image" },
    { "nocow", "bool (on/off)", "Accepted for qemu-img; without effect" },
    { NULL, NULL, NULL },
};

static int read_sizes(const struct pl_options *options, struct qcow2_request *request,
                      struct pl_err *e)
{
    uint64_t cluster_size = UINT64_C(1) << QCOW2_CLUSTER_BITS_DEFAULT, refcount_bits = 16;

    if (pl_options_size(options, "cluster_size", &cluster_size, e) < 0 ||
        pl_options_number(options, "refcount_bits", 1, 64, &refcount_bits, e) < 0)
        return -1;
    if (!pl_is_pow2(cluster_size) || cluster_size < UINT64_C(1) << QCOW2_CLUSTER_BITS_MIN ||
        cluster_size > UINT64_C(1) << QCOW2_CLUSTER_BITS_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "option 'cluster_size': %" PRIu64 " is not a power of two from 512 to 2M",
                       cluster_size);
    if (!pl_is_pow2(refcount_bits))
        return pl_fail(e, PL_E_INVALID, "option 'refcount_bits': %" PRIu64 " is not a power of two",
                       refcount_bits);
    request->cluster_bits = pl_log2(cluster_size);
    request->refcount_order = pl_log2(refcount_bits);
    return 0;
}

static int read_choices(const struct pl_options *options, struct qcow2_request *request,
                        struct pl_err *e)
{
    static const char *const compats[] = { "0.10", "v2", "1.1", "v3", NULL };
    static const char *const compressions[] = { "zlib", "zstd", NULL };
    static const char *const preallocs[] = { "off", "metadata", "falloc", "full", NULL };
    static const enum pl_prealloc prealloc_values[] = { PL_PREALLOC_OFF, PL_PREALLOC_METADATA,
                                                        PL_PREALLOC_FALLOC, PL_PREALLOC_FULL };
    unsigned compat = 2, compression = QCOW2_COMPRESSION_ZLIB, prealloc = 0;

    if (pl_options_choice(options, "compat", compats, &compat, e) < 0 ||
        pl_options_choice(options, "compression_type", compressions, &compression, e) < 0 ||
        pl_options_choice(options, "preallocation", preallocs, &prealloc, e) < 0)
        return -1;
    request->version = compat < 2 ? 2 : 3;
    request->compression_type = (uint8_t)compression;
    request->prealloc = prealloc_values[prealloc];
    return 0;
}

static int read_flags(const struct pl_options *options, struct qcow2_request *request,
                      struct pl_err *e)
{
    bool nocow;

    request->data_file = pl_options_text(options, "data_file");
    if (pl_options_bool(options, "lazy_refcounts", &request->lazy_refcounts, e) < 0 ||
        pl_options_bool(options, "extended_l2", &request->extended_l2, e) < 0 ||
        pl_options_bool(options, "data_file_raw", &request->data_file_raw, e) < 0)
        return -1;
    return pl_options_bool(options, "nocow", &nocow, e);
}

/* The rules; the first that is broken is the message. */
static int check_request(const struct qcow2_request *r, bool has_parent, struct pl_err *e)
{
    const bool v2 = r->version == 2;
    const struct {
        bool broken;
        const char *message;
    } rules[] = {
        { v2 && r->lazy_refcounts, "lazy_refcounts needs compat=1.1" },
        { v2 && r->refcount_order != QCOW2_REFCOUNT_ORDER_V2,
          "refcount_bits other than 16 needs compat=1.1" },
        { v2 && r->extended_l2, "extended_l2 needs compat=1.1" },
        { v2 && r->compression_type, "compression_type other than zlib needs compat=1.1" },
        { v2 && r->data_file, "data_file needs compat=1.1" },
        { r->extended_l2 && r->cluster_bits < QCOW2_EXTL2_CLUSTER_BITS_MIN,
          "extended_l2 needs a cluster_size of 16K or more" },
        { r->data_file_raw && !r->data_file, "data_file_raw needs data_file" },
        { r->data_file_raw && has_parent, "data_file_raw cannot be combined with a backing file" },
        { r->prealloc != PL_PREALLOC_OFF && has_parent && !r->extended_l2,
          "preallocation over a backing file needs extended_l2" },
    };

    for (size_t i = 0; i < PL_COUNT(rules); i++)
        if (rules[i].broken)
            return pl_fail(e, PL_E_INVALID, "options: %s", rules[i].message);
    return 0;
}

int qcow2_read_request(const struct pl_options *options, bool has_parent,
                       struct qcow2_request *request, struct pl_err *e)
{
    *request = (struct qcow2_request){ 0 };
    if (read_sizes(options, request, e) < 0 || read_choices(options, request, e) < 0 ||
        read_flags(options, request, e) < 0 || check_request(request, has_parent, e) < 0)
        return -1;
    /* a raw data file needs entries for all of the disk, so that no cluster of it is ever
     * unallocated */
    if (request->data_file_raw && request->prealloc == PL_PREALLOC_OFF)
        request->prealloc = PL_PREALLOC_METADATA;
    return 0;
}

static void set_features(struct qcow2_header *h, const struct qcow2_request *r)
{
    if (r->data_file)
        h->incompatible_features |= QCOW2_INCOMPAT_DATA_FILE;
    if (r->compression_type)
        h->incompatible_features |= QCOW2_INCOMPAT_COMPRESSION;
    if (r->extended_l2)
        h->incompatible_features |= QCOW2_INCOMPAT_EXTL2;
    if (r->lazy_refcounts)
        h->compatible_features |= QCOW2_COMPAT_LAZY_REFCOUNTS;
    if (r->data_file_raw)
        h->autoclear_features |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

static int fill(struct qcow2 *q, const struct pl_create_args *args, const struct qcow2_request *r,
                struct pl_err *e)
{
    q->file = args->file;
    q->report = args->report;
    q->header = (struct qcow2_header){
        .magic = QCOW2_MAGIC,
        .version = r->version,
        .cluster_bits = r->cluster_bits,
        .size = pl_round_up(args->size, QCOW2_SECTOR),
        .refcount_order = r->refcount_order,
        .header_length = r->version == 2 ? QCOW2_V2_HEADER_LENGTH : QCOW2_HEADER_LENGTH,
        .compression_type = r->compression_type,
    };
    set_features(&q->header, r);
    if (qcow2_copy_parent(&args->parent, &q->parent_name, &q->parent_format, e) < 0)
        return -1;
    q->data_file_name = r->data_file && *r->data_file ? strdup(r->data_file) : NULL;
    if (r->data_file && *r->data_file && !q->data_file_name)
        return pl_fail(e, PL_E_NOMEM, "no memory for the name of the data file");
    if (r->version == 3 && qcow2_set_feature_names(q, e) < 0)
        return -1;
    return qcow2_derive(q, e);
}

static int make_data_file(const struct pl_create_args *args, const struct qcow2 *q,
                          enum pl_prealloc how, struct pl_err *e)
{
    struct pl_storage *data;
    int result;

    if (!args->create_file)
        return pl_fail(e, PL_E_UNSUPPORTED, "an external data file cannot be made here");
    if (args->create_file(args, q->data_file_name, &data, e) < 0)
        return pl_within(e, "external data file '%s'", q->data_file_name);
    result = data->device ? 0 : pl_storage_resize(data, q->header.size, e);
    if (result == 0 && (how == PL_PREALLOC_FALLOC || how == PL_PREALLOC_FULL))
        result = pl_storage_preallocate(data, 0, q->header.size, how, e);
    if (pl_storage_close(data, result < 0 ? NULL : e) < 0)
        result = -1;
    return result < 0 ? pl_within(e, "external data file '%s'", q->data_file_name) : 0;
}

static int make_room(const struct pl_create_args *args, const struct qcow2 *q,
                     const struct qcow2_new_layout *plan, enum pl_prealloc how, struct pl_err *e)
{
    const uint64_t at = plan->data << q->cluster_bits;

    if (qcow2_has_data_file(q))
        return make_data_file(args, q, how, e);
    if (how != PL_PREALLOC_FALLOC && how != PL_PREALLOC_FULL)
        return 0;
    return pl_storage_preallocate(q->file, at, plan->data_clusters << q->cluster_bits, how, e);
}

/* Tables first, the header last: until then the file is no image. */
static int write_image(struct qcow2 *q, const struct pl_create_args *args, enum pl_prealloc how,
                       struct pl_err *e)
{
    struct qcow2_header *h = &q->header;
    struct qcow2_new_layout plan;
    const uint64_t clusters = pl_div_up(h->size, q->cluster_size);

    if (qcow2_plan_layout(q, how != PL_PREALLOC_OFF, &plan, e) < 0)
        return -1;
    h->l1_size = (uint32_t)pl_div_up(clusters, q->l2_entries);
    h->l1_table_offset = h->l1_size ? plan.l1 << q->cluster_bits : 0;
    h->refcount_table_offset = plan.refcount_table << q->cluster_bits;
    h->refcount_table_clusters = (uint32_t)plan.refcount_table_clusters;
    if (pl_storage_zero(q->file, 0, q->cluster_size, e) < 0 ||
        qcow2_write_tables(q, &plan, e) < 0 || make_room(args, q, &plan, how, e) < 0)
        return -1;
    if (args->file->device && pl_storage_flush(q->file, e) < 0)
        return -1;
    return qcow2_write_header(q, e);
}

int qcow2_create(const struct pl_create_args *args, struct pl_err *e)
{
    struct qcow2 *q;
    struct qcow2_request request;
    int result;

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a qcow2 image cannot be written to a pipe");
    if (args->size > PL_OFFSET_MAX - QCOW2_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "a disk of %" PRIu64 " bytes is too big", args->size);
    if (qcow2_read_request(args->options, args->parent.name, &request, e) < 0)
        return -1;
    q = calloc(1, sizeof *q);
    if (!q)
        return pl_fail(e, PL_E_NOMEM, "no memory for a new image");
    result = fill(q, args, &request, e);
    if (result == 0)
        result = write_image(q, args, request.prealloc, e);
    qcow2_free_extensions(q);
    free(q->parent_name);
    free(q->parent_format);
    free(q->data_file_name);
    free(q);
    return result;
}
