/* fuzz_vmdk_sparse_write.c - any bytes as a sparse VMDK extent that is written to: an extent that a
 * check calls sound stays so, and no other does harm to the program. */
#include <string.h>

#include "formats/vmdk/extent.h"
#include "tests/fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 24
#define WRITE_MAX (256 * 1024)

/* Asks for room, fills it, links it. */
static void write_range(const struct vmdk_extent *x, uint64_t at, uint64_t len)
{
    struct pl_place place;
    uint8_t *bytes;

    if (x->ops->allocate(x->state, at, len, &place, NULL) < 0)
        return;
    if (place.len == 0 || place.at != at || place.len > len)
        abort();
    bytes = calloc(1, WRITE_MAX);
    if (!bytes || place.len > WRITE_MAX ||
        pl_storage_write(place.st, place.off, bytes, place.len, NULL) < 0) {
        if (place.fresh)
            x->ops->cancel(x->state, &place);
    } else if (place.fresh && x->ops->link(x->state, &place, NULL) < 0) {
        x->ops->cancel(x->state, &place);
    }
    free(bytes);
}

static void change(const struct vmdk_extent *x, uint64_t random)
{
    const uint64_t at = pl_round_down((random >> 8) % x->size, x->granule);
    uint64_t len = PL_MIN((1 + random % 5) * x->granule, x->size - at), freed;

    switch (random >> 4 & 7) {
    case 0:
        (void)!x->ops->zero(x->state, at, len, random & 8, NULL);
        break;
    case 1:
        (void)!x->ops->discard(x->state, at, len, NULL);
        break;
    case 2:
        (void)!x->ops->flush(x->state, NULL);
        break;
    case 3:
        if (random % 5 == 0)
            (void)!x->ops->compact(x->state, NULL, &freed, NULL);
        break;
    default:
        write_range(x, at, len);
    }
}

static bool is_sound(struct pl_storage *file, bool flushed)
{
    const struct vmdk_extent_args args = { .file = file, .check_only = true };
    struct pl_check_result result = { 0 };
    struct vmdk_extent x;
    bool sound;

    if (vmdk_sparse_open(&args, &x, NULL) < 0) {
        if (flushed)
            abort();
        return false;
    }
    sound = x.ops->check(x.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
            !result.corruptions && !result.check_errors;
    x.ops->close(x.state);
    return sound;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmdk_extent_args args = { .cache_bytes = 16 * 1024, .writable = true };
    struct vmdk_extent x;
    uint64_t random = 0;
    bool sound;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &args.file, NULL) < 0)
        return 0;
    memcpy(&random, data + size - PL_MIN(size, 8), PL_MIN(size, 8));
    args.has_parent = random & 1;
    sound = is_sound(args.file, false);
    if (vmdk_sparse_open(&args, &x, NULL) == 0) {
        for (unsigned i = 0; i < STEPS && x.size > 0; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            change(&x, random >> 16);
        }
        sound = x.ops->flush(x.state, NULL) == 0 && sound;
        if (sound && x.ops->resize(x.state, pl_round_up(x.size, 512) + 512 * (random >> 50),
                                   PL_PREALLOC_OFF, NULL) < 0)
            sound = false;
        sound = x.ops->flush(x.state, NULL) == 0 && sound;
        x.ops->close(x.state);
        if (sound && !is_sound(args.file, true))
            abort();
    }
    pl_storage_close(args.file, NULL);
    return 0;
}
