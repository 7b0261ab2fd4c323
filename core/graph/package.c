/* package.c - opens packages and finds the disk that is meant.
 *
 * The image of a disk owns the package that it comes from: image.c closes both. */
#include "core/graph/package.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/graph/node.h"

/* A tar with a long name in front has its first member's name in its third block. */
#define PROBE_BYTES (64 * PL_KIB)

const struct pl_package_driver *pl_package_kind(const char *name)
{
    for (const struct pl_package_driver *const *kind = pl_packages; *kind; kind++)
        if (strcmp((*kind)->name, name) == 0)
            return *kind;
    return NULL;
}

int pl_package_probe(struct pl_storage *file, const struct pl_package_driver **kind,
                     struct pl_err *e)
{
    const size_t len = (size_t)PL_MIN(pl_storage_size(file), PROBE_BYTES);
    PL_FREE uint8_t *head = malloc(len ? len : 1);

    *kind = NULL;
    if (!head)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to look at it", file->name);
    if (pl_storage_read_padded(file, 0, head, len, e) < 0)
        return -1;
    for (const struct pl_package_driver *const *at = pl_packages; *at && !*kind; at++)
        if ((*at)->probe(head, len))
            *kind = *at;
    return 0;
}

static int open_named_file(const struct pl_package_open_args *args, const char *name,
                           struct pl_storage **out, struct pl_err *e)
{
    const struct pl_package *package = args->ctx;

    return pl_open_named(&package->opener, package->file, name, PL_READ, out, e);
}

static int open_state(struct pl_package *package, const struct pl_open_options *options,
                      struct pl_err *e)
{
    struct pl_package_open_args args = {
        .file = package->file,
        .report = options->report,
        .open_file = open_named_file,
        .ctx = package,
    };

    if (options->authorities &&
        pl_open_path(&package->opener, options->authorities, PL_READ, &package->authorities, e) < 0)
        return -1;
    args.authorities = package->authorities;
    return package->driver->open(&args, &package->state, e) < 0
               ? pl_within(e, "%s", package->file->name)
               : 0;
}

int pl_package_open(struct pl_storage *file, bool borrowed, const struct pl_package_driver *kind,
                    const struct pl_open_options *options, struct pl_package **out,
                    struct pl_err *e)
{
    struct pl_package *package = calloc(1, sizeof *package);

    if (!package)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open it", file->name);
    *package = (struct pl_package){
        .driver = kind,
        .file = file,
        .borrowed = true, /* until it is open */
        .opener = { .allowed = options->allowed_dirs, .force_share = options->force_share },
    };
    if (open_state(package, options, e) < 0) {
        pl_package_close(package);
        return -1;
    }
    package->borrowed = borrowed;
    *out = package;
    return 0;
}

void pl_package_close(struct pl_package *package)
{
    if (!package)
        return;
    if (package->state)
        package->driver->close(package->state);
    pl_storage_close(package->authorities, NULL);
    if (!package->borrowed)
        pl_storage_close(package->file, NULL);
    free(package);
}

static bool is_called(const struct pl_package_disk *disk, size_t index, const char *wanted)
{
    char number[24];

    snprintf(number, sizeof number, "%zu", index + 1);
    return strcmp(wanted, disk->id) == 0 || (disk->name && strcmp(wanted, disk->name) == 0) ||
           strcmp(wanted, number) == 0;
}

/* "1 (disk1.vmdk), 2 (data.vmdk)", as far as it goes. */
static void list_disks(const struct pl_package_disk *list, size_t count, char text[static 160])
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < count && used < 120; i++)
        used += (size_t)snprintf(text + used, 160 - used, "%s%zu (%s)", i ? ", " : "", i + 1,
                                 list[i].name ? list[i].name : list[i].id);
    if (used >= 160)
        memcpy(text + 156, "...", 4);
}

static int no_such_disk(const struct pl_package *package, const struct pl_package_disk *list,
                        size_t count, const char *wanted, struct pl_err *e)
{
    char text[160];

    list_disks(list, count, text);
    if (!wanted)
        pl_fail(e, PL_E_INVALID, "%s: holds %zu disks, and none was chosen", package->file->name,
                count);
    else
        pl_fail(e, PL_E_NOT_FOUND, "%s: holds no disk \"%s\"", package->file->name, wanted);
    return pl_hint(e, "choose by --disk: %s", text);
}

int pl_package_find_disk(struct pl_package *package, const char *wanted, size_t *disk,
                         struct pl_err *e)
{
    const struct pl_package_disk *list;
    const size_t count = package->driver->disks(package->state, &list);

    if (count == 0)
        return pl_fail(e, PL_E_NOT_FOUND, "%s: holds no disk", package->file->name);
    *disk = 0;
    if (!wanted && count == 1)
        return 0;
    for (size_t i = 0; wanted && i < count; i++)
        if (is_called(&list[i], i, wanted)) {
            *disk = i;
            return 0;
        }
    return no_such_disk(package, list, count, wanted, e);
}

int pl_verify_package(struct pl_image *img, const struct pl_report *report, struct pl_err *e)
{
    int result;

    if (!img->package)
        return 0;
    result = img->package->driver->verify(img->package->state, img->package_disk, report, e);
    return result < 0 ? pl_within(e, "%s", img->package->file->name) : result;
}

int pl_package_facts(const char *path, const struct pl_open_options *options, const char **format,
                     struct pl_fact **facts, struct pl_err *e)
{
    static const struct pl_open_options defaults;
    const struct pl_open_options *o = options ? options : &defaults;
    const struct pl_opener opener = { .allowed = o->allowed_dirs, .force_share = o->force_share };
    const struct pl_package_driver *kind = o->format ? pl_package_kind(o->format) : NULL;
    struct pl_package *package = NULL;
    struct pl_storage *file;
    int result = 1;

    *facts = NULL;
    if (o->format && !kind)
        return 1;
    if (pl_open_path(&opener, path, PL_READ, &file, e) < 0)
        return -1;
    if (!kind && pl_package_probe(file, &kind, e) < 0)
        result = -1;
    if (kind && result == 1)
        result = pl_package_open(file, true, kind, o, &package, e);
    if (result == 0) {
        *format = kind->name;
        *facts = pl_facts_new();
        result = *facts ? kind->facts(package->state, *facts, e)
                        : pl_fail(e, PL_E_NOMEM, "%s: no memory for what is known of it", path);
    }
    pl_package_close(package);
    pl_storage_close(file, NULL);
    if (result < 0)
        pl_facts_free(pl_take(*facts));
    return result;
}
