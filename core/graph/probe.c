/* probe.c - which format a file is of, by name or by its first bytes. */
#include <stdio.h>
#include <string.h>

#include "core/graph/node.h"

const struct pl_driver *pl_probe_bytes(const uint8_t *head, size_t len, uint64_t file_size)
{
    for (const struct pl_driver *const *driver = pl_drivers; *driver; driver++)
        if ((*driver)->probe && (*driver)->probe(head, len, file_size))
            return *driver;
    return NULL;
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
    pl_fail(e, PL_E_INVALID, "Unknown file format '%s'", name);
    return pl_hint(e, "formats:%s", known);
}

int pl_no_slot(const struct pl_image *img, const char *what, struct pl_err *e)
{
    return pl_fail(e, PL_E_UNSUPPORTED, "%s: %s is not supported by the format %s", img->path, what,
                   img->driver->name);
}
