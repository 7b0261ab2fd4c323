/* probe.c - which format a file is of, by name or by its first bytes. */
#include <stdio.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/graph/node.h"

/* Reads [off, off + len) as it will be after the change. */
static int read_changed(struct pl_storage *file, const struct pl_probe_change *change, uint64_t off,
                        uint8_t *buf, size_t len, struct pl_err *e)
{
    uint64_t from, to;

    if (pl_storage_read_padded(file, off, buf, len, e) < 0)
        return -1;
    if (!change)
        return 0;
    from = PL_MAX(off, change->off);
    to = PL_MIN(off + len, change->off + change->len);
    if (from < to)
        memcpy(buf + (from - off), change->bytes + (from - change->off), to - from);
    return 0;
}

/* What is known of a file, and the bytes that tell. */
struct look {
    uint8_t head[PL_PROBE_HEAD], tail[PL_PROBE_TAIL];
    struct pl_probe probe;
};

static int look_at(struct pl_storage *file, const struct pl_probe_change *change, struct look *look,
                   struct pl_err *e)
{
    const uint64_t size = pl_storage_size(file);
    const char *slash = file->path ? strrchr(file->path, '/') : NULL;

    look->probe = (struct pl_probe){
        .head = look->head,
        .len = (size_t)PL_MIN(size, sizeof look->head),
        .tail = size >= sizeof look->tail ? look->tail : NULL,
        .file_size = size,
        .name = slash        ? slash + 1
                : file->path ? file->path
                             : "",
    };
    if (read_changed(file, change, 0, look->head, sizeof look->head, e) < 0)
        return -1;
    if (!look->probe.tail)
        return 0;
    return read_changed(file, change, size - sizeof look->tail, look->tail, sizeof look->tail, e);
}

int pl_probe_file(struct pl_storage *file, const struct pl_probe_change *change,
                  const struct pl_driver **found, struct pl_err *e)
{
    struct look look;

    *found = NULL;
    if (look_at(file, change, &look, e) < 0)
        return -1;
    for (const struct pl_driver *const *driver = pl_drivers; *driver && !*found; driver++)
        if ((*driver)->probe && (*driver)->probe(&look.probe))
            *found = *driver;
    return 0;
}

int pl_probe_perhaps(struct pl_storage *file, const struct pl_driver **found, struct pl_err *e)
{
    struct look look;

    *found = NULL;
    if (look_at(file, NULL, &look, e) < 0)
        return -1;
    for (const struct pl_driver *const *driver = pl_drivers; *driver && !*found; driver++)
        if ((*driver)->perhaps && (*driver)->perhaps(&look.probe))
            *found = *driver;
    return 0;
}

static bool has_name(const struct pl_driver *driver, const char *name)
{
    if (strcmp(driver->name, name) == 0)
        return true;
    for (const char *const *alias = driver->aliases; alias && *alias; alias++)
        if (strcmp(*alias, name) == 0)
            return true;
    return false;
}

int pl_driver_find(const char *name, const struct pl_driver **out, struct pl_err *e)
{
    char known[160] = "";
    size_t len = 0;

    for (const struct pl_driver *const *driver = pl_drivers; *driver; driver++) {
        if (has_name(*driver, name)) {
            *out = *driver;
            return 0;
        }
        if (len < sizeof known)
            len += (size_t)snprintf(known + len, sizeof known - len, " %s", (*driver)->name);
    }
    for (const struct pl_package_driver *const *kind = pl_packages; *kind; kind++)
        if (len < sizeof known)
            len += (size_t)snprintf(known + len, sizeof known - len, " %s", (*kind)->name);
    pl_fail(e, PL_E_INVALID, "Unknown file format '%s'", name);
    return pl_hint(e, "formats:%s", known);
}

int pl_no_slot(const struct pl_image *img, const char *what, struct pl_err *e)
{
    return pl_fail(e, PL_E_UNSUPPORTED, "%s: %s is not supported by the format %s", img->path, what,
                   img->driver->name);
}
