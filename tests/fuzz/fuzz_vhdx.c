/* fuzz_vhdx.c - changes of a good VHDX image: read it, check it, repair it, write to it.
 *
 * A VHDX file has 4 MiB at least, so an input is not a file but a list of changes: one byte that
 * chooses the image, then records of an area (1 byte), an offset in it in units of 4 bytes (2
 * bytes), a length (1 byte) and the bytes.  Checksums are made right afterwards, or nothing behind
 * them would ever be reached. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "formats/vhdx/layout.h"
#include "tests/fuzz/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_LIMIT (24 * PL_MIB)
#define DISK (5 * PL_MIB)
#define LOG_AT PL_MIB
#define ENTRY_MAX (64 * PL_KIB) /* the longest log entry whose sum is made right */
#define STEPS 12

static const struct kind {
    const char *option, *value;
    const char *parent;
} kinds[] = {
    { "block_size", "1M", NULL },
    { "block_size", "2M", "uuid:83ed0ec3-24c8-49a6-a959-5e4bf1288bfb" },
    { "logical_sector_size", "4096", NULL },
    { "subformat", "fixed", NULL },
};

/* Headers, region tables, metadata table, its items, BAT, log, behind all that. */
static const uint64_t areas[] = {
    VHDX_HEADER_AT(0),
    VHDX_HEADER_AT(1),
    VHDX_REGION_TABLE_AT(0),
    VHDX_REGION_TABLE_AT(1),
    2 * PL_MIB,
    2 * PL_MIB + 64 * PL_KIB,
    3 * PL_MIB,
    LOG_AT,
    4 * PL_MIB,
    LOG_AT + PL_MIB - PL_KIB * 4,
};

static struct pl_storage *make_image(uint8_t choice)
{
    const struct kind *kind = &kinds[choice % PL_COUNT(kinds)];
    struct pl_options *options = pl_options_new();
    struct pl_create_args args = {
        .size = DISK,
        .options = options,
        .parent.name = kind->parent ? "parent" : NULL,
        .parent.identity = kind->parent,
    };

    if (!options || pl_options_set(options, kind->option, kind->value, NULL) < 0 ||
        pl_memory_storage(NULL, 0, FILE_LIMIT, &args.file, NULL) < 0 ||
        pl_vhdx.create(&args, NULL) < 0)
        abort();
    pl_options_free(options);
    return args.file;
}

static void change_structures(struct pl_storage *file, const uint8_t *data, size_t size)
{
    while (size >= 4) {
        const uint64_t off = areas[data[0] % PL_COUNT(areas)] + 4 * (uint64_t)load_le16(data + 1);
        const size_t len = PL_MIN(data[3], size - 4);

        if (len && pl_storage_write(file, off, data + 4, len, NULL) < 0)
            return;
        data += 4 + len;
        size -= 4 + len;
    }
}

static void sum_again(struct pl_storage *file, uint64_t at, size_t len)
{
    uint8_t *raw = malloc(len);

    if (raw && pl_storage_read_padded(file, at, raw, len, NULL) == 0) {
        memset(raw + VHDX_CHECKSUM_AT, 0, 4);
        store_le32(raw + VHDX_CHECKSUM_AT, pl_crc32c(0, raw, len));
        (void)!pl_storage_write(file, at, raw, len, NULL);
    }
    free(raw);
}

static void make_sums_right(struct pl_storage *file)
{
    for (unsigned i = 0; i < 2; i++) {
        sum_again(file, VHDX_HEADER_AT(i), VHDX_HEADER_BYTES);
        sum_again(file, VHDX_REGION_TABLE_AT(i), VHDX_REGION_TABLE_BYTES);
    }
    for (uint64_t at = LOG_AT; at < LOG_AT + PL_MIB; at += VHDX_SECTOR) {
        uint8_t head[16];
        uint32_t len;

        if (pl_storage_read_padded(file, at, head, sizeof head, NULL) < 0)
            return;
        len = load_le32(head + 8);
        if (memcmp(head, "loge", 4) == 0 && len >= VHDX_SECTOR && len <= ENTRY_MAX)
            sum_again(file, at, len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct change_how how = { .steps = STEPS, .kinds = CHANGE_COMPACT };

    if (size == 0)
        return 0;
    how.args.file = make_image(data[0]);
    change_structures(how.args.file, data + 1, size - 1);
    make_sums_right(how.args.file);
    change_is_sound(&pl_vhdx, how.args, false);
    if (data[0] & 0x10 && change_repair(&pl_vhdx, how.args))
        change_is_sound(&pl_vhdx, how.args, true);
    change_image(&pl_vhdx, how, change_seed(data, size));
    pl_storage_close(how.args.file, NULL);
    return 0;
}
