/* vmdk_disk_rig.c - see vmdk_disk_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/alias.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

void vmdk_rig_put(struct vmdk_rig *rig, const char *name, struct pl_storage *st)
{
    assert_true(rig->count < VMDK_RIG_FILES);
    snprintf(rig->file[rig->count].name, sizeof rig->file[rig->count].name, "%s", name);
    free(st->name);
    st->name = strdup(name);
    rig->file[rig->count++].st = st;
}

struct pl_storage *vmdk_rig_add(struct vmdk_rig *rig, const char *name, uint64_t size)
{
    struct pl_storage *st = memory();

    OK(pl_storage_resize(st, size, &e));
    vmdk_rig_put(rig, name, st);
    return st;
}

void vmdk_rig_init(struct vmdk_rig *rig)
{
    *rig = (struct vmdk_rig){ 0 };
    vmdk_rig_add(rig, "disk.vmdk", 0);
}

void vmdk_rig_end(struct vmdk_rig *rig)
{
    if (rig->layer.state)
        vmdk_rig_close(rig);
    for (unsigned i = 0; i < rig->count; i++)
        pl_storage_close(rig->file[i].st, NULL);
    rig->count = 0;
}

struct pl_storage *vmdk_rig_file(const struct vmdk_rig *rig, const char *name)
{
    for (unsigned i = 0; i < rig->count; i++)
        if (strcmp(rig->file[i].name, name) == 0)
            return rig->file[i].st;
    return NULL;
}

void vmdk_rig_text(struct vmdk_rig *rig, const char *text)
{
    OK(pl_storage_resize(rig->file[0].st, strlen(text), &e));
    OK(pl_storage_write(rig->file[0].st, 0, text, strlen(text), &e));
}

char *vmdk_rig_read_text(const struct vmdk_rig *rig)
{
    const size_t len = pl_storage_size(rig->file[0].st);
    char *text = calloc(1, len + 1);

    OK(pl_storage_read(rig->file[0].st, 0, text, len, &e));
    return text;
}

static int open_file(const struct pl_open_args *args, const char *name, struct pl_storage **out,
                     struct pl_err *e)
{
    struct vmdk_rig *rig = args->ctx;
    struct pl_storage *st = vmdk_rig_file(rig, name);

    if (!st) {
        snprintf(rig->refused, sizeof rig->refused, "%s", name);
        return *name == '/' ? pl_fail(e, PL_E_POLICY, "%s: outside the folder", name)
                            : pl_fail(e, PL_E_NOT_FOUND, "%s: no such file", name);
    }
    rig->opened++;
    if (pl_alias_storage(st, out, e) < 0)
        return -1;
    (*out)->writable = args->writable;
    return 0;
}

static int make_file(const struct pl_file_maker *maker, const char *name, struct pl_storage **out,
                     struct pl_err *e)
{
    struct vmdk_rig *rig = maker->ctx;

    if (rig->creates_left && --rig->creates_left == 0)
        return pl_fail(e, PL_E_NO_SPACE, "%s: no room", name);
    if (vmdk_rig_file(rig, name))
        return pl_fail(e, PL_E_EXISTS, "%s: File exists", name);
    return pl_alias_storage(vmdk_rig_add(rig, name, 0), out, e);
}

static void remove_file(const struct pl_file_maker *maker, const char *name,
                        struct pl_storage *made)
{
    struct vmdk_rig *rig = maker->ctx;

    for (unsigned i = 0; i < rig->count; i++)
        if (strcmp(rig->file[i].name, name) == 0) {
            assert_true(made->writable);
            rig->file[i].name[0] = '\0'; /* the storage is closed with the others */
        }
}

int vmdk_rig_open(struct vmdk_rig *rig, struct pl_open_args how, struct pl_err *e)
{
    how.file = rig->file[0].st;
    how.report = &rig->report;
    how.open_file = open_file;
    how.ctx = rig;
    rig->maker = (struct pl_file_maker){ make_file, remove_file, rig };
    how.maker = how.writable && !rig->keeps_files ? &rig->maker : NULL;
    rig->opened = 0;
    if (pl_vmdk.open(&how, &rig->layer, e) == 0)
        return 0;
    rig_free_texts(&rig->layer);
    rig->layer = (struct pl_layer){ 0 };
    return -1;
}

void vmdk_rig_close(struct vmdk_rig *rig)
{
    pl_vmdk.close(rig->layer.state);
    rig_free_texts(&rig->layer);
    rig->layer = (struct pl_layer){ 0 };
}

static int create_file(const struct pl_create_args *args, const char *name, struct pl_storage **out,
                       struct pl_err *e)
{
    return pl_alias_storage(vmdk_rig_add(args->ctx, name, 0), out, e);
}

int vmdk_rig_create(struct vmdk_rig *rig, const char *options, struct pl_create_args how,
                    struct pl_err *e)
{
    struct pl_options *list = options_of(options);
    int result;

    how.file = rig->file[0].st;
    how.options = list;
    how.create_file = create_file;
    how.ctx = rig;
    result = pl_vmdk.create(&how, e);
    pl_options_free(list);
    return result;
}

int vmdk_rig_read(struct vmdk_rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
{
    return rig_read(&(struct rig){ .driver = &pl_vmdk, .layer = rig->layer }, at, buf, len, e);
}

int vmdk_rig_write(struct vmdk_rig *rig, uint64_t at, const void *buf, uint64_t len,
                   struct pl_err *e)
{
    return rig_write(&(struct rig){ .driver = &pl_vmdk, .layer = rig->layer }, at, buf, len, e);
}
