/* formats.c - what formats there are and what each can do, for people and programs. */
#include "core/engine/create.h"
#include "core/graph/node.h"

static void describe(const struct pl_driver *driver, struct pl_format_info *info)
{
    *info = (struct pl_format_info){
        .name = driver->name,
        .spec = driver->spec,
        .can_write = driver->allocate != NULL,
        .can_create = driver->create != NULL,
        .can_resize = driver->resize != NULL,
        .can_check = driver->check != NULL,
        .has_snapshots = driver->snapshots != NULL,
        .create_options = driver->create_options,
    };
}

bool pl_format_at(size_t index, struct pl_format_info *info)
{
    size_t count = 0;

    while (pl_drivers[count])
        count++;
    if (index >= count)
        return false;
    describe(pl_drivers[index], info);
    return true;
}

int pl_format_find(const char *name, struct pl_format_info *info, struct pl_err *e)
{
    const struct pl_driver *driver;

    if (pl_driver_find(name, &driver, e) < 0)
        return -1;
    describe(driver, info);
    return 0;
}
