/* fuzz_undo.c - any bytes as the undo journal of a repair: the sums are made right, then the file
 * is put back, which keeps inside the files and the memory there are. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/crc32c.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"
#include "core/storage/undo.h"

#define LIMIT (4u << 20)
#define PAGE 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_data(void *ctx, const char *name, struct pl_storage **out, struct pl_err *e)
{
    (void)ctx;
    if (strchr(name, '/'))
        return pl_fail(e, PL_E_POLICY, "%s", name);
    return pl_memory_storage(NULL, 1000, LIMIT, out, e);
}

/* Header and batches get the sums that they should have, or random bytes would get nowhere. */
static void make_sums(uint8_t *bytes, size_t size)
{
    if (size >= 64)
        store_le32(bytes + 60, pl_crc32c(0, bytes, 60));
    for (size_t at = PAGE; at + 64 <= size;) {
        const uint64_t len = PL_MIN(load_le64(bytes + at + 32), size - at - 64);

        store_le32(bytes + at + 4, pl_crc32c(0, bytes + at + 8, 56 + (size_t)len));
        at += (size_t)pl_round_up(64 + len, PAGE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PL_FREE uint8_t *bytes = malloc(size + 1);
    struct pl_undo_source source = { .open_file = open_data, .force = size % 2 };
    struct pl_undo_facts facts;

    if (!bytes)
        return 0;
    memcpy(bytes, data, size);
    make_sums(bytes, size);
    if (pl_memory_storage(bytes, size, LIMIT, &source.journal, NULL) < 0)
        return 0;
    if (pl_memory_storage(NULL, 100000, LIMIT, &source.file, NULL) == 0) {
        (void)!pl_undo_take_back(&source, &facts, NULL);
        pl_storage_close(source.file, NULL);
    }
    pl_storage_close(source.journal, NULL);
    return 0;
}
