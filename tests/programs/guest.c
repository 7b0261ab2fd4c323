/* guest.c - writes to a disk as a virtual machine does, for the tests.
 *
 * usage: guest IMAGE ACTION...
 *
 *   noise:SEED:AT:LEN   bytes that no codec makes smaller, the same for the same seed
 *   null:AT:LEN         zeros, written as bytes    zero:AT:LEN   zeros, said to be zeros
 *   discard:AT:LEN      room given back
 *   flush               a recorder is told when it is over
 *
 * Numbers may end in K or M.  Without flush nothing is flushed but by closing. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/graph/image.h"

#define NUMBERS 3

static void fill(uint8_t *bytes, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(seed >> 56);
    }
}

/* Noise, or null bytes without a seed. */
static int write_bytes(struct pl_image *img, const uint64_t *seed, const uint64_t range[2],
                       struct pl_err *e)
{
    PL_FREE uint8_t *bytes = calloc(1, range[1] + 1);

    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for %ju bytes", (uintmax_t)range[1]);
    if (seed)
        fill(bytes, range[1], *seed);
    return pl_write(img, range[0], bytes, range[1], e);
}

static int flush(struct pl_image *img, struct pl_err *e)
{
    void (*mark)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "record_mark");

    if (pl_flush(img, e) < 0)
        return -1;
    if (mark)
        mark();
    return 0;
}

static void numbers_of(const char *action, uint64_t number[NUMBERS])
{
    const char *at = strchr(action, ':');

    for (int i = 0; at && i < NUMBERS; i++, at = strchr(at, ':')) {
        char *end;

        number[i] = strtoull(at + 1, &end, 0);
        number[i] *= *end == 'K' ? PL_KIB : *end == 'M' ? PL_MIB : 1;
        at = end;
    }
}

static int act(struct pl_image *img, const char *action, struct pl_err *e)
{
    uint64_t number[NUMBERS] = { 0 };

    numbers_of(action, number);
    if (strncmp(action, "noise:", 6) == 0)
        return write_bytes(img, &number[0], &number[1], e);
    if (strncmp(action, "null:", 5) == 0)
        return write_bytes(img, NULL, &number[0], e);
    if (strncmp(action, "zero:", 5) == 0)
        return pl_zero(img, number[0], number[1], false, e);
    if (strncmp(action, "discard:", 8) == 0)
        return pl_discard(img, number[0], number[1], e);
    if (strcmp(action, "flush") == 0)
        return flush(img, e);
    return pl_fail(e, PL_E_INVALID, "%s: no such action", action);
}

static int act_all(const char *path, char **action, int count, struct pl_err *e)
{
    const struct pl_open_options options = { .writable = true };
    struct pl_image *img;
    int result = 0;

    if (pl_open(path, &options, &img, e) < 0)
        return -1;
    for (int i = 0; i < count && result == 0; i++)
        result = act(img, action[i], e);
    if (result < 0)
        pl_close(img, NULL);
    else
        result = pl_close(img, e);
    return result;
}

int main(int argc, char **argv)
{
    struct pl_err e = { 0 };

    if (argc < 2)
        return 2;
    if (act_all(argv[1], argv + 2, argc - 2, &e) == 0)
        return 0;
    fprintf(stderr, "platter: %s\n", e.msg);
    if (e.hint[0])
        fprintf(stderr, "platter: hint: %s\n", e.hint);
    return 1;
}
