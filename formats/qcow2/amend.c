/* amend.c - changes the options of an image in place: the driver's slot.
 *
 * All that was asked for is checked before anything changes.  Then one change after the other is
 * made, each of them shown by one write of the header: the version goes up first and down last. */
#include "formats/qcow2/amend.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/check.h"

const struct pl_option_help qcow2_amend_options[] = {
    { "backing_file", "str", "Name of the backing file: not changed here, see rebase" },
    { "backing_fmt", "str", "Format of the backing file: not changed here, see rebase" },
    { "compat", "str", "Compatibility level: 0.10 (v2) or 1.1 (v3)" },
    { "data_file", "str", "Name of the external data file from now on" },
    { "data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image" },
    { "lazy_refcounts", "bool (on/off)", "Postpone updates of reference counts" },
    { "refcount_bits", "num", "Bits of a reference count: 1, 2, 4, 8, 16, 32 or 64" },
    { "size", "size", "Virtual disk size" },
    { NULL, NULL, NULL },
};

/* What the image shall be. */
struct wanted {
    uint32_t version, refcount_order;
    bool lazy_refcounts, data_file_raw;
    const char *data_file; /* null: as it is */
};

static bool is_lazy(const struct qcow2 *q)
{
    return q->header.compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS;
}

static int read_bits(const struct pl_options *options, struct wanted *w, struct pl_err *e)
{
    uint64_t bits = UINT64_C(1) << w->refcount_order;

    if (pl_options_number(options, "refcount_bits", 1, 64, &bits, e) < 0)
        return -1;
    if (!pl_is_pow2(bits))
        return pl_fail(e, PL_E_INVALID, "option 'refcount_bits': %" PRIu64 " is not a power of two",
                       bits);
    w->refcount_order = pl_log2(bits);
    return 0;
}

/* What is not said stays as it is; but version 2 has no lazy counts. */
static int read_wanted(const struct qcow2 *q, const struct pl_options *options, struct wanted *w,
                       struct pl_err *e)
{
    static const char *const compats[] = { "0.10", "v2", "1.1", "v3", NULL };
    unsigned compat = q->header.version == 2 ? 0 : 2;

    if (pl_options_choice(options, "compat", compats, &compat, e) < 0)
        return -1;
    *w = (struct wanted){ .version = compat < 2 ? 2 : 3,
                          .refcount_order = q->header.refcount_order,
                          .lazy_refcounts = compat >= 2 && is_lazy(q),
                          .data_file_raw = qcow2_data_file_raw(q),
                          .data_file = pl_options_text(options, "data_file") };
    if (pl_options_bool(options, "lazy_refcounts", &w->lazy_refcounts, e) < 0 ||
        pl_options_bool(options, "data_file_raw", &w->data_file_raw, e) < 0)
        return -1;
    return read_bits(options, w, e);
}

/* ---- checks ---- */

static int check_parent(const char *key, const char *asked, const char *have, struct pl_err *e)
{
    if (!asked || strcmp(asked, have ? have : "") == 0)
        return 0;
    pl_fail(e, PL_E_INVALID, "option '%s': the backing file is not changed by amend", key);
    return pl_hint(e, "platter rebase does that");
}

static int check_version_2(const struct wanted *w, struct pl_err *e)
{
    if (w->version != 2)
        return 0;
    if (w->lazy_refcounts)
        return pl_fail(e, PL_E_INVALID, "options: lazy_refcounts needs compat=1.1");
    if (w->refcount_order == QCOW2_REFCOUNT_ORDER_V2)
        return 0;
    pl_fail(e, PL_E_INVALID, "options: refcount_bits other than 16 needs compat=1.1");
    return pl_hint(e, "add refcount_bits=16, or compat=1.1");
}

static int check_data_file(const struct qcow2 *q, const struct wanted *w, struct pl_err *e)
{
    if ((w->data_file || w->data_file_raw) && !qcow2_has_data_file(q))
        return pl_fail(e, PL_E_INVALID, "options: the image has no external data file");
    if (w->data_file && !*w->data_file)
        return pl_fail(e, PL_E_INVALID, "option 'data_file': an empty name");
    if (!w->data_file_raw || qcow2_data_file_raw(q))
        return 0;
    pl_fail(e, PL_E_INVALID,
            "option 'data_file_raw': it cannot be set on an image that exists, "
            "whose data file may not be a raw disk");
    return pl_hint(e, "convert the image with -o data_file=NAME,data_file_raw=on");
}

static int check_wanted(struct qcow2 *q, const struct pl_options *options, const struct wanted *w,
                        struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (check_parent("backing_file", pl_options_text(options, "backing_file"), q->parent_name, e) <
            0 ||
        check_parent("backing_fmt", pl_options_text(options, "backing_fmt"), q->parent_format, e) <
            0 ||
        check_data_file(q, w, e) < 0 || check_version_2(w, e) < 0)
        return -1;
    return w->version < q->header.version ? qcow2_check_downgrade(q, e) : 0;
}

/* ---- changes ---- */

static int rename_data_file(struct qcow2 *q, const char *name, struct pl_err *e) PL_NEEDS(&q->lock)
{
    char *old = q->data_file_name, *new = strdup(name);

    if (!new)
        return pl_fail(e, PL_E_NOMEM, "no memory for the name of the data file");
    q->data_file_name = new;
    if (qcow2_replace_header(q, e) == 0) {
        free(old);
        return 0;
    }
    q->data_file_name = old;
    free(new);
    return -1;
}

/* Flags in the header, by one write of its first sector. */
static int set_flags(struct qcow2 *q, const struct wanted *w, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (w->lazy_refcounts == is_lazy(q) && w->data_file_raw == qcow2_data_file_raw(q))
        return 0;
    if (w->lazy_refcounts != is_lazy(q))
        q->header.compatible_features ^= QCOW2_COMPAT_LAZY_REFCOUNTS;
    if (w->data_file_raw != qcow2_data_file_raw(q))
        q->header.autoclear_features ^= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    if (qcow2_write_header(q, e) == 0 && qcow2_sync(q, e) == 0)
        return 0;
    q->broken = true;
    return -1;
}

/* All but a lower version. */
static int change(struct qcow2 *q, const struct wanted *w, const struct pl_report *report,
                  struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (qcow2_write_back(q, true, e) < 0 || qcow2_clear_autoclear(q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0)
        return -1;
    if (w->version > q->header.version && qcow2_upgrade(q, e) < 0)
        return -1;
    if (w->data_file && rename_data_file(q, w->data_file, e) < 0)
        return -1;
    if (set_flags(q, w, e) < 0)
        return -1;
    return qcow2_set_refcount_order(q, w->refcount_order, report, e);
}

static int lower_version(struct qcow2 *q, struct pl_err *e)
{
    PL_LOCKED(&q->lock);
    return qcow2_downgrade(q, e);
}

static int begin(struct qcow2 *q, const struct pl_options *options, const struct pl_report *report,
                 struct wanted *w, struct pl_err *e)
{
    PL_LOCKED(&q->lock);
    if (qcow2_settle(q, e) < 0 || read_wanted(q, options, w, e) < 0 ||
        check_wanted(q, options, w, e) < 0)
        return -1;
    return change(q, w, report, e);
}

int qcow2_amend(void *state, const struct pl_options *options, const struct pl_report *report,
                struct pl_err *e)
{
    struct qcow2 *q = state;
    struct wanted w;

    if (begin(q, options, report, &w, e) < 0)
        return -1;
    if (w.version == q->header.version)
        return 0;
    return qcow2_expand_zeros(q, report, e) < 0 ? -1 : lower_version(q, e);
}
