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
#include "tests/fuzz/exercise.h"

extern const struct pl_driver pl_vhdx;
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
        .parent_name = kind->parent ? "parent" : NULL,
        .parent_identity = kind->parent,
    };

    if (!options || pl_options_set(options, kind->option, kind->value, NULL) < 0 ||
        pl_memory_storage(NULL, 0, FILE_LIMIT, &args.file, NULL) < 0 ||
        pl_vhdx.create(&args, NULL) < 0)
        abort();
    pl_options_free(options);
    return args.file;
}

static void change_image(struct pl_storage *file, const uint8_t *data, size_t size)
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

static int open_image(struct pl_storage *file, bool writable, bool check_only,
                      struct pl_layer *layer)
{
    const struct pl_open_args args = { .file = file,
                                       .writable = writable,
                                       .check_only = check_only };

    return exercise_open(&pl_vhdx, args, layer);
}

static void close_image(struct pl_layer *layer)
{
    exercise_close(&pl_vhdx, layer);
}

static bool is_sound(struct pl_storage *file, bool surely)
{
    struct pl_check_result result = { 0 };
    struct pl_layer layer;
    bool sound;

    if (open_image(file, false, false, &layer) < 0) {
        if (surely)
            abort();
        return false;
    }
    exercise_map(&pl_vhdx, &layer);
    exercise_facts(&pl_vhdx, &layer);
    sound = pl_vhdx.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
            !result.corruptions && !result.check_errors;
    close_image(&layer);
    return sound;
}

static void write_range(const struct pl_layer *layer, uint64_t at, uint64_t len)
{
    static const uint8_t bytes[64 * PL_KIB] = { 1 };
    struct pl_place place;

    if (pl_vhdx.allocate(layer->state, at, len, &place, NULL) < 0)
        return;
    if (place.len == 0 || place.at != at || place.len > len)
        abort();
    if (pl_storage_write(place.st, place.off, bytes, PL_MIN(place.len, sizeof bytes), NULL) < 0 ||
        (place.fresh && pl_vhdx.link(layer->state, &place, NULL) < 0))
        pl_vhdx.cancel(layer->state, &place);
}

static void change(const struct pl_layer *layer, uint64_t random)
{
    const uint64_t at = pl_round_down((random >> 8) % layer->size, layer->granule);
    const uint64_t len = PL_MIN((1 + random % 16) * layer->granule, layer->size - at);
    uint64_t freed;

    switch (random >> 4 & 7) {
    case 0:
        (void)!pl_vhdx.zero(layer->state, at, len, random & 8, NULL);
        break;
    case 1:
        (void)!pl_vhdx.discard(layer->state, at, PL_MIN(3 * PL_MIB, layer->size - at), NULL);
        break;
    case 2:
        (void)!pl_vhdx.flush(layer->state, NULL);
        break;
    case 3:
        (void)!pl_vhdx.compact(layer->state, NULL, &freed, NULL);
        break;
    default:
        write_range(layer, at, len);
    }
}

/* Small disks only: a pass over all of a large one tells nothing new. */
static void write_to(struct pl_storage *file, uint64_t random)
{
    struct pl_layer layer;
    const bool sound = is_sound(file, false);
    bool done;

    if (open_image(file, true, false, &layer) < 0)
        return;
    for (unsigned i = 0; i < STEPS && layer.size > 0; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        change(&layer, random >> 16);
    }
    done = pl_vhdx.flush(layer.state, NULL) == 0 && pl_vhdx.seal(layer.state, NULL) == 0;
    close_image(&layer);
    if (sound && done && !is_sound(file, true))
        abort();
}

static void repair(struct pl_storage *file)
{
    struct pl_check_result result = { 0 };
    struct pl_layer layer;
    bool mended;

    if (open_image(file, true, true, &layer) < 0)
        return;
    mended = pl_vhdx.check(layer.state, PL_REPAIR_ALL, NULL, &result, NULL) == 0 &&
             !result.corruptions && !result.check_errors && pl_vhdx.flush(layer.state, NULL) == 0 &&
             pl_vhdx.seal(layer.state, NULL) == 0;
    close_image(&layer);
    if (mended && !is_sound(file, true))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;
    uint64_t random = size;

    if (size == 0)
        return 0;
    memcpy(&random, data + size - PL_MIN(size, 8), PL_MIN(size, 8));
    file = make_image(data[0]);
    change_image(file, data + 1, size - 1);
    make_sums_right(file);
    is_sound(file, false);
    if (data[0] & 0x10)
        repair(file);
    write_to(file, random);
    pl_storage_close(file, NULL);
    return 0;
}
