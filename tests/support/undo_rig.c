#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/undo_rig.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "tests/support/rig.h"

static int keep_open(struct pl_storage *st, struct pl_err *e)
{
    (void)st;
    (void)e;
    return 0;
}

/* Closing it does nothing until unpin. */
static void pin(struct undo_rig *rig, struct pl_storage *st, unsigned i)
{
    if (!st)
        return;
    rig->close[i] = st->ops->close;
    rig->ops[i] = *st->ops;
    rig->ops[i].close = keep_open;
    st->ops = &rig->ops[i];
}

static int open_place(void *ctx, struct pl_storage **out, struct pl_err *e)
{
    struct undo_rig *rig = ctx;

    if (!rig->exists)
        return pl_fail(e, PL_E_NOT_FOUND, "no journal");
    *out = rig->journal;
    return 0;
}

static int create_place(void *ctx, struct pl_storage **out, struct pl_err *e)
{
    struct undo_rig *rig = ctx;

    if (rig->exists)
        return pl_fail(e, PL_E_EXISTS, "a journal");
    if (pl_storage_size(rig->journal) > 0 && pl_storage_resize(rig->journal, 0, e) < 0)
        return -1;
    rig->exists = true;
    *out = rig->journal;
    return 0;
}

static void remove_place(void *ctx, struct pl_storage *journal)
{
    struct undo_rig *rig = ctx;

    assert_ptr_equal(journal, rig->journal);
    rig->exists = false;
}

static void take_warning(void *ctx, const char *message)
{
    struct undo_rig *rig = ctx;

    (void)message;
    rig->warned = true;
}

void undo_rig_init(struct undo_rig *rig, struct pl_storage *file, struct pl_storage *data,
                   struct pl_storage *journal)
{
    *rig = (struct undo_rig){ .file = file, .data = data, .journal = journal };
    rig->place = (struct pl_undo_place){ .name = "the journal",
                                         .open = open_place,
                                         .create = create_place,
                                         .remove = remove_place,
                                         .ctx = rig };
    rig->report = (struct pl_report){ .ctx = rig, .warn = take_warning };
    pin(rig, file, 0);
    pin(rig, data, 1);
    pin(rig, journal, 2);
}

static void unpin(struct undo_rig *rig, struct pl_storage *st, unsigned i)
{
    if (!st)
        return;
    rig->ops[i].close = rig->close[i];
    OK(pl_storage_close(st, &e));
}

void undo_rig_end(struct undo_rig *rig)
{
    unpin(rig, rig->file, 0);
    unpin(rig, rig->data, 1);
    unpin(rig, rig->journal, 2);
}

void undo_rig_begin(struct undo_rig *rig)
{
    rig->warned = false;
    OK(pl_undo_new(&rig->place, &rig->report, &rig->undo, &e));
    OK(pl_undo_wrap(rig->undo, NULL, rig->file, &rig->view, &e));
    if (rig->data)
        OK(pl_undo_wrap(rig->undo, "data", rig->data, &rig->data_view, &e));
}

int undo_rig_finish(struct undo_rig *rig, struct pl_undo_outcome *outcome, struct pl_err *e)
{
    int result = pl_storage_close(rig->view, e);

    if (rig->data && pl_storage_close(rig->data_view, result < 0 ? NULL : e) < 0)
        result = -1;
    if (pl_undo_finish(rig->undo, outcome, result < 0 ? NULL : e) < 0)
        result = -1;
    return result;
}

static int open_data(void *ctx, const char *name, struct pl_storage **out, struct pl_err *e)
{
    struct undo_rig *rig = ctx;

    if (!rig->data || strcmp(name, "data") != 0)
        return pl_fail(e, PL_E_NOT_FOUND, "%s", name);
    *out = rig->data;
    return 0;
}

int undo_rig_back(struct undo_rig *rig, bool force, struct pl_undo_facts *facts, struct pl_err *e)
{
    const struct pl_undo_source source = { .journal = rig->journal,
                                           .file = rig->file,
                                           .open_file = open_data,
                                           .ctx = rig,
                                           .force = force };

    if (pl_undo_take_back(&source, facts, e) < 0)
        return -1;
    rig->exists = false;
    return 0;
}

int undo_rig_change(struct pl_storage *st, uint64_t limit, uint64_t *random, struct pl_err *e)
{
    static uint8_t bytes[200000];
    const uint64_t size = pl_storage_size(st), kind = rig_below(random, 12);
    const uint64_t len = 1 + rig_below(random, kind == 5 ? 400000 : kind < 3 ? sizeof bytes : 600);
    const uint64_t off = rig_below(random, PL_MAX(size, 1));

    if (kind == 0)
        return pl_storage_resize(st, rig_below(random, limit), e);
    if (kind == 1 || kind == 2)
        return pl_storage_flush(st, e);
    if (kind == 4 || kind == 5)
        return pl_storage_zero(st, off, PL_MIN(len, limit - off), e);
    memset(bytes, (int)rig_below(random, 256), sizeof bytes);
    return pl_storage_write(st, off, bytes, (size_t)PL_MIN(PL_MIN(len, sizeof bytes), limit - off),
                            e);
}

uint8_t *undo_rig_bytes(struct pl_storage *st, size_t *len)
{
    uint8_t *bytes;

    *len = (size_t)pl_storage_size(st);
    bytes = malloc(*len + 1);
    OK(pl_storage_read(st, 0, bytes, *len, &e));
    return bytes;
}
