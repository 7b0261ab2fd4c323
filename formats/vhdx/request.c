/* request.c - the options of a new image, in qemu-img's names, and the layout that follows. */
#include <inttypes.h>

#include "formats/vhdx/create.h"

const struct pl_option_help vhdx_create_options[] = {
    { "size", "size", "Virtual disk size" },
    { "backing_file", "str", "Name of the parent, a VHDX image" },
    { "backing_fmt", "str", "Format of the parent: vhdx" },
    { "subformat", "str", "dynamic (blocks as they are written) or fixed (all of them at once)" },
    { "block_size", "size", "Bytes of a block: a power of two from 1M to 256M" },
    { "log_size", "size", "Bytes of the log: whole MiB" },
    { "logical_sector_size", "num", "Bytes of a sector that the guest sees: 512 or 4096" },
    { "physical_sector_size", "num", "Bytes of a sector of the disk itself: 512 or 4096" },
    { "block_state_zero", "bool (on/off)",
      "Say that blocks are zero instead of leaving them out; what is left out reads as zeros too" },
    { "preallocation", "str", "Room of a fixed image: off, falloc (reserved), full (written)" },
    { NULL, NULL, NULL },
};

/* As qemu-img chooses; children get the 2 MiB of Hyper-V's, which copies less of the parent. */
static uint64_t default_block_size(uint64_t size, bool has_parent)
{
    if (has_parent)
        return 2 * PL_MIB;
    if (size > 32 * PL_TIB)
        return 64 * PL_MIB;
    if (size > 100 * PL_GIB)
        return 32 * PL_MIB;
    return size > PL_GIB ? 16 * PL_MIB : 8 * PL_MIB;
}

static int read_sizes(const struct pl_options *options, struct vhdx_request *r, struct pl_err *e)
{
    if (pl_options_size(options, "block_size", &r->block_size, e) < 0 ||
        pl_options_size(options, "log_size", &r->log_size, e) < 0)
        return -1;
    if (r->block_size == 0) /* qemu-img's "choose one" */
        r->block_size = default_block_size(r->size, r->has_parent);
    if (!pl_is_pow2(r->block_size) || r->block_size < VHDX_BLOCK_SIZE_MIN ||
        r->block_size > VHDX_BLOCK_SIZE_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "option 'block_size': %" PRIu64 " is not a power of two from 1M to 256M",
                       r->block_size);
    if (r->log_size % VHDX_UNIT || r->log_size == 0 || r->log_size > UINT32_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "option 'log_size': %" PRIu64 " is no whole number of MiB from 1M to 4095M",
                       r->log_size);
    return 0;
}

static int read_sector(const struct pl_options *options, const char *key, uint32_t *bytes,
                       struct pl_err *e)
{
    uint64_t value = *bytes;

    if (pl_options_number(options, key, 512, 4096, &value, e) < 0)
        return -1;
    if (value != 512 && value != 4096)
        return pl_fail(e, PL_E_INVALID, "option '%s': %" PRIu64 " is not 512 or 4096", key, value);
    *bytes = (uint32_t)value;
    return 0;
}

static int read_choices(const struct pl_options *options, struct vhdx_request *r, struct pl_err *e)
{
    static const char *const subformats[] = { "dynamic", "fixed", NULL };
    static const char *const preallocs[] = { "off", "falloc", "full", NULL };
    static const enum pl_prealloc prealloc_values[] = { PL_PREALLOC_OFF, PL_PREALLOC_FALLOC,
                                                        PL_PREALLOC_FULL };
    unsigned subformat = 0, prealloc = 0;

    if (pl_options_choice(options, "subformat", subformats, &subformat, e) < 0 ||
        pl_options_choice(options, "preallocation", preallocs, &prealloc, e) < 0 ||
        pl_options_bool(options, "block_state_zero", &r->zero_state, e) < 0)
        return -1;
    r->fixed = subformat == 1;
    r->prealloc = prealloc_values[prealloc];
    if (r->fixed && r->has_parent)
        return pl_fail(e, PL_E_INVALID, "options: a fixed image cannot have a parent");
    if (r->zero_state && r->has_parent)
        return pl_fail(e, PL_E_INVALID, "options: block_state_zero would hide the parent");
    if (r->prealloc != PL_PREALLOC_OFF && !r->fixed)
        return pl_fail(e, PL_E_INVALID, "options: preallocation needs subformat=fixed");
    return 0;
}

int vhdx_read_request(const struct pl_options *options, uint64_t size, bool has_parent,
                      struct vhdx_request *request, struct pl_err *e)
{
    *request = (struct vhdx_request){
        .log_size = PL_MIB,
        .sector_size = 512,
        .physical_sector_size = 4096,
        .has_parent = has_parent,
    };
    if (read_sector(options, "logical_sector_size", &request->sector_size, e) < 0 ||
        read_sector(options, "physical_sector_size", &request->physical_sector_size, e) < 0)
        return -1;
    if (size > VHDX_DISK_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "a disk of %" PRIu64 " bytes is larger than the format's limit of 64 TiB",
                       size);
    request->size = pl_round_up(size, request->sector_size);
    if (read_sizes(options, request, e) < 0)
        return -1;
    return read_choices(options, request, e);
}

int vhdx_plan(const struct vhdx_request *request, struct vhdx *v, uint64_t *data, struct pl_err *e)
{
    uint64_t bat_bytes;

    v->size = request->size;
    v->block_size = (uint32_t)request->block_size;
    v->sector_size = request->sector_size;
    v->physical_sector_size = request->physical_sector_size;
    v->has_parent = request->has_parent;
    v->keep_blocks = request->fixed;
    if (vhdx_derive(v, e) < 0)
        return -1;
    bat_bytes = PL_MAX(8 * vhdx_bat_entries(v, v->size), 1); /* 513 MiB at most */
    v->log = (struct vhdx_range){ VHDX_UNIT, request->log_size };
    v->metadata = (struct vhdx_range){ v->log.off + v->log.len, VHDX_UNIT };
    v->bat =
        (struct vhdx_range){ v->metadata.off + v->metadata.len, pl_round_up(bat_bytes, VHDX_UNIT) };
    *data = v->bat.off + v->bat.len;
    return 0;
}
