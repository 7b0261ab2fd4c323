#include "formats/ovf/chunks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/storage/joined.h"
#include "formats/ovf/list.h"

/* Decimal digits of a chunk's number. */
#define DIGITS 9

struct chunks {
    const struct ovf_members *members;
    const struct ovf_file *file;
    struct pl_storage **parts;
    size_t count;
    uint64_t total; /* bytes of all parts */
};

static int wrong_size(const char *name, uint64_t size, uint64_t wanted, struct pl_err *e)
{
    pl_fail(e, PL_E_CORRUPT, "%.200s: has %" PRIu64 " bytes, the descriptor says %" PRIu64, name,
            size, wanted);
    return pl_hint(e, "the copy may be incomplete");
}

/* The size that is only known when the descriptor gives that of the whole file: 0 else. */
static uint64_t wanted_size(const struct chunks *chunks)
{
    const struct ovf_file *file = chunks->file;

    if (file->size == 0 || chunks->total >= file->size)
        return 0;
    return PL_MIN(file->chunk_size, file->size - chunks->total);
}

/* 1: there is no such chunk; 0: it is added; -1. */
static int add_chunk(struct chunks *chunks, struct pl_err *e)
{
    const uint64_t wanted = wanted_size(chunks);
    char name[OVF_CHUNK_NAME];
    struct pl_storage *st, **part;
    struct pl_err why = { 0 };

    snprintf(name, sizeof name, "%s.%0*zu", chunks->file->href, DIGITS, chunks->count);
    if (ovf_members_open(chunks->members, name, &st, &why) < 0) {
        if (why.kind == PL_E_NOT_FOUND && chunks->count > 0 && wanted == 0)
            return 1;
        if (e)
            *e = why;
        return -1;
    }
    if (wanted > 0 && pl_storage_size(st) != wanted) {
        wrong_size(name, pl_storage_size(st), wanted, e);
        pl_storage_close(st, NULL);
        return -1;
    }
    part = OVF_APPEND(chunks->parts, chunks->count);
    if (!part) {
        pl_storage_close(st, NULL);
        return pl_fail(e, PL_E_NOMEM, "%.200s: no memory for it", name);
    }
    *part = st;
    chunks->total += pl_storage_size(st);
    return 0;
}

/* Without the size of the whole, the first chunk that is shorter, or is not there, ends it. */
static bool complete(const struct chunks *chunks)
{
    const struct ovf_file *file = chunks->file;

    if (file->size > 0)
        return chunks->total >= file->size;
    return pl_storage_size(chunks->parts[chunks->count - 1]) != file->chunk_size;
}

static int collect(struct chunks *chunks, struct pl_err *e)
{
    int result;

    do {
        if (chunks->count >= OVF_CHUNKS_MAX)
            return pl_fail(e, PL_E_LIMIT, "%.200s: is cut into more than %d chunks",
                           chunks->file->href, OVF_CHUNKS_MAX);
        result = add_chunk(chunks, e);
    } while (result == 0 && !complete(chunks));
    if (result < 0)
        return -1;
    if (chunks->file->size > 0 && chunks->total != chunks->file->size)
        return wrong_size(chunks->file->href, chunks->total, chunks->file->size, e);
    return 0;
}

static int open_whole(const struct ovf_members *members, const struct ovf_file *file,
                      struct pl_storage **out, struct pl_err *e)
{
    if (ovf_members_open(members, file->href, out, e) < 0)
        return -1;
    if (file->size == 0 || pl_storage_size(*out) == file->size)
        return 0;
    wrong_size(file->href, pl_storage_size(*out), file->size, e);
    pl_storage_close(*out, NULL);
    return -1;
}

int ovf_chunks_open(const struct ovf_members *members, const struct ovf_file *file,
                    struct pl_storage **out, struct pl_err *e)
{
    struct chunks chunks = { .members = members, .file = file };
    int result;

    if (strlen(file->href) > OVF_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT, "a referenced file's name has more than %d bytes",
                       OVF_NAME_MAX);
    if (file->chunk_size == 0)
        return open_whole(members, file, out, e);
    result = collect(&chunks, e);
    if (result == 0) {
        result = pl_joined_storage(chunks.parts, chunks.count, file->href, out, e);
    } else {
        for (size_t i = 0; i < chunks.count; i++)
            pl_storage_close(chunks.parts[i], NULL);
    }
    free(chunks.parts);
    return result;
}

bool ovf_chunks_has(const struct ovf_file *file, const char *name)
{
    const size_t len = strlen(file->href);

    if (file->chunk_size == 0)
        return strcmp(name, file->href) == 0;
    return strncmp(name, file->href, len) == 0 && name[len] == '.' &&
           strspn(name + len + 1, "0123456789") == DIGITS && name[len + 1 + DIGITS] == '\0';
}
