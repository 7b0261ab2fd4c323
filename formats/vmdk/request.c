/* request.c - the options of a new disk: qemu-img's, with its defaults, and some of platter's own.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/descriptor.h"

#define GRAIN_DEFAULT (64 * PL_KIB)
#define GRAIN_MIN (4 * PL_KIB)
#define GRAIN_MAX (8 * PL_MIB)
/* ESXi makes its deltas with grains of one sector. */
#define COWD_GRAIN_DEFAULT 512u
/* What VMware and VirtualBox put in one file of a split disk: less than 2 GiB with its tables. */

const struct pl_option_help vmdk_create_options[] = {
    { "size", "size", "Virtual disk size" },
    { "adapter_type", "str",
      "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX" },
    { "backing_file", "str", "File name of a base image" },
    { "backing_fmt", "str", "Must be 'vmdk' if present" },
    { "compat6", "bool (on/off)", "VMDK version 6 image" },
    { "hwversion", "str", "VMDK hardware version" },
    { "toolsversion", "str", "VMware guest tools version" },
    { "subformat", "str",
      "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | "
      "twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized | vmfs | vmfsSparse}" },
    { "zeroed_grain", "bool (on/off)",
      "Enable efficient zero writes using the zeroed-grain GTE feature" },
    { "grain_size", "size", "Bytes of a grain: a power of two from 4K to 8M (vmfsSparse: 512)" },
    { "preallocation", "str",
      "Room made ahead for flat extents: off, falloc (reserved), full (zeros written)" },
    { NULL, NULL, NULL },
};

static const char *const subformats[] = { "monolithicSparse",     "monolithicFlat",
                                          "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
                                          "streamOptimized",      "vmfs",
                                          "vmfsSparse",           NULL };
static const char *const adapters[] = { "ide", "lsilogic", "buslogic", "legacyESX", NULL };

bool vmdk_is_flat(enum vmdk_subformat subformat)
{
    return subformat == VMDK_MONOLITHIC_FLAT || subformat == VMDK_TWO_GB_FLAT ||
           subformat == VMDK_VMFS_DISK;
}

bool vmdk_is_embedded(enum vmdk_subformat subformat)
{
    return subformat == VMDK_MONOLITHIC_SPARSE || subformat == VMDK_STREAM_OPTIMIZED;
}

static int read_choices(const struct pl_options *options, struct vmdk_request *r, struct pl_err *e)
{
    static const char *const preallocs[] = { "off", "falloc", "full", NULL };
    static const enum pl_prealloc prealloc_values[] = { PL_PREALLOC_OFF, PL_PREALLOC_FALLOC,
                                                        PL_PREALLOC_FULL };
    unsigned subformat = 0, adapter = 0, prealloc = 0;

    if (pl_options_choice(options, "subformat", subformats, &subformat, e) < 0 ||
        pl_options_choice(options, "adapter_type", adapters, &adapter, e) < 0 ||
        pl_options_choice(options, "preallocation", preallocs, &prealloc, e) < 0)
        return -1;
    r->subformat = (enum vmdk_subformat)subformat;
    r->adapter = adapters[adapter];
    r->prealloc = prealloc_values[prealloc];
    return 0;
}

/* Numbers that are only texts in the descriptor; qemu-img's default says "undefined". */
static int read_version(const struct pl_options *options, const char *key, const char **text,
                        struct pl_err *e)
{
    const char *given = pl_options_text(options, key);
    uint64_t unused;

    if (!given || strcmp(given, "undefined") == 0)
        return 0;
    if (pl_options_number(options, key, 0, INT32_MAX, &unused, e) < 0)
        return -1;
    *text = given;
    return 1;
}

static int read_versions(const struct pl_options *options, struct vmdk_request *r, struct pl_err *e)
{
    bool compat6 = false;
    int given;

    r->hw_version = "4";
    r->tools_version = "2147483647";
    if (pl_options_bool(options, "compat6", &compat6, e) < 0 ||
        read_version(options, "toolsversion", &r->tools_version, e) < 0)
        return -1;
    given = read_version(options, "hwversion", &r->hw_version, e);
    if (given < 0)
        return -1;
    if (given && compat6)
        return pl_fail(e, PL_E_INVALID, "compat6 cannot be enabled with hwversion set");
    if (compat6)
        r->hw_version = "6";
    return 0;
}

static int read_grain_size(const struct pl_options *options, struct vmdk_request *r,
                           struct pl_err *e)
{
    const bool cowd = r->subformat == VMDK_VMFS_SPARSE;
    const uint64_t min = cowd ? COWD_GRAIN_DEFAULT : GRAIN_MIN;

    r->grain_size = cowd ? COWD_GRAIN_DEFAULT : GRAIN_DEFAULT;
    if (pl_options_size(options, "grain_size", &r->grain_size, e) < 0)
        return -1;
    if (!pl_is_pow2(r->grain_size) || r->grain_size < min || r->grain_size > GRAIN_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "option 'grain_size': %" PRIu64 " is not a power of two from %" PRIu64
                       " to %" PRIu64,
                       r->grain_size, min, GRAIN_MAX);
    if (vmdk_is_flat(r->subformat))
        r->grain_size = 1;
    return 0;
}

/* The rules; the first that is broken is the message. */
static int check_request(const struct vmdk_request *r, bool has_parent, struct pl_err *e)
{
    const bool flat = vmdk_is_flat(r->subformat);
    const bool hosted =
        r->subformat == VMDK_MONOLITHIC_SPARSE || r->subformat == VMDK_TWO_GB_SPARSE;
    const struct {
        bool broken;
        const char *message;
    } rules[] = {
        { flat && has_parent, "Flat image can't have backing file" },
        { r->subformat == VMDK_STREAM_OPTIMIZED && has_parent,
          "a streamOptimized image cannot have a backing file" },
        { flat && r->zeroed_grain, "Flat image can't enable zeroed grain" },
        { r->zeroed_grain && !hosted, "zeroed_grain needs a sparse subformat that is not vmfs" },
        { !flat && r->prealloc != PL_PREALLOC_OFF, "preallocation needs a flat subformat" },
    };

    for (size_t i = 0; i < PL_COUNT(rules); i++)
        if (rules[i].broken)
            return pl_fail(e, PL_E_INVALID, "%s", rules[i].message);
    return 0;
}

static int plan_extents(struct vmdk_request *r, struct pl_err *e)
{
    const bool split = r->subformat == VMDK_TWO_GB_FLAT || r->subformat == VMDK_TWO_GB_SPARSE;

    r->extent_size = split ? pl_round_down(VMDK_SPLIT_MAX, r->grain_size) : r->size;
    r->extents = split ? PL_MAX(pl_div_up(r->size, r->extent_size), 1u) : 1;
    if (r->extents <= VMDK_EXTENTS_MAX)
        return 0;
    pl_fail(e, PL_E_LIMIT,
            "a disk of %" PRIu64 " bytes needs %" PRIu64 " extents, more than the limit of %u",
            r->size, r->extents, VMDK_EXTENTS_MAX);
    return pl_hint(e, "use subformat=monolithicFlat");
}

int vmdk_read_request(const struct pl_options *options, uint64_t size, bool has_parent,
                      struct vmdk_request *request, struct pl_err *e)
{
    *request = (struct vmdk_request){ 0 };
    if (size > PL_OFFSET_MAX - VMDK_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "a disk of %" PRIu64 " bytes is too big", size);
    request->size = pl_round_up(size, VMDK_SECTOR);
    if (read_choices(options, request, e) < 0 || read_versions(options, request, e) < 0 ||
        pl_options_bool(options, "zeroed_grain", &request->zeroed_grain, e) < 0 ||
        read_grain_size(options, request, e) < 0 || check_request(request, has_parent, e) < 0)
        return -1;
    return plan_extents(request, e);
}

uint64_t vmdk_extent_size(const struct vmdk_request *r, uint64_t index)
{
    const uint64_t before = index * r->extent_size;

    return PL_MIN(r->extent_size, r->size - before);
}

/* The last part of the file's name, with or without ".vmdk". */
static const char *base_name(const struct pl_storage *file, bool whole, int *len)
{
    const char *path = file->path ? file->path : file->name;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const size_t all = strlen(name);

    *len = (int)all;
    if (!whole && all > 5 && strcasecmp(name + all - 5, ".vmdk") == 0)
        *len -= 5;
    return name;
}

char *vmdk_extent_name(const struct vmdk_request *r, const struct pl_storage *file, uint64_t index)
{
    int len, printed;
    const char *name = base_name(file, vmdk_is_embedded(r->subformat), &len);
    char *text;

    switch (r->subformat) {
    case VMDK_MONOLITHIC_FLAT:
    case VMDK_VMFS_DISK:
        printed = asprintf(&text, "%.*s-flat.vmdk", len, name);
        break;
    case VMDK_VMFS_SPARSE:
        printed = asprintf(&text, "%.*s-delta.vmdk", len, name);
        break;
    case VMDK_TWO_GB_FLAT:
        printed = asprintf(&text, "%.*s-f%03" PRIu64 ".vmdk", len, name, index + 1);
        break;
    case VMDK_TWO_GB_SPARSE:
        printed = asprintf(&text, "%.*s-s%03" PRIu64 ".vmdk", len, name, index + 1);
        break;
    default: /* a stream to a pipe has no name: what ovftool writes */
        printed = asprintf(&text, "%.*s", file->sequential ? 21 : len,
                           file->sequential ? "generated-stream.vmdk" : name);
    }
    return printed < 0 ? NULL : text;
}
