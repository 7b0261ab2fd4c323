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
        .can_convert_to = driver->create != NULL,
        .can_resize = driver->resize != NULL,
        .can_check = driver->check != NULL,
        .has_snapshots = driver->snapshots != NULL,
        .can_stream = driver->streams,
        .create_options = driver->create_options,
        .amend_options = driver->amend_options,
    };
}

static void describe_package(const struct pl_package_driver *kind, struct pl_format_info *info)
{
    *info = (struct pl_format_info){
        .name = kind->name,
        .spec = kind->spec,
        .is_package = true,
        .can_convert_to = kind->begin != NULL,
        .create_options = kind->create_options,
    };
}

bool pl_format_at(size_t index, struct pl_format_info *info)
{
    size_t drivers = 0, packages = 0;

    while (pl_drivers[drivers])
        drivers++;
    while (pl_packages[packages])
        packages++;
    if (index >= drivers + packages)
        return false;
    if (index < drivers)
        describe(pl_drivers[index], info);
    else
        describe_package(pl_packages[index - drivers], info);
    return true;
}

int pl_format_find(const char *name, struct pl_format_info *info, struct pl_err *e)
{
    const struct pl_package_driver *kind = pl_package_kind(name);
    const struct pl_driver *driver;

    if (kind) {
        describe_package(kind, info);
        return 0;
    }
    if (pl_driver_find(name, &driver, e) < 0)
        return -1;
    describe(driver, info);
    return 0;
}
