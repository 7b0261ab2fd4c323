/* undo_journal.c - what a journal says, entry by entry, and the questions that are asked of files
 * because of it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/digest.h"
#include "core/base/scope.h"
#include "core/storage/file.h"
#include "core/storage/undo_state.h"

#define DIGEST_PIECE (1u << 20)

static int bad_entry(const struct undo_journal *journal, const struct undo_entry *entry,
                     const char *what, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT, "%s: an entry of type %u for file %u at 0x%" PRIx64 " %s",
                   journal->name, (unsigned)entry->type, entry->file, entry->off, what);
}

static int add_file(struct undo_journal *journal, const struct undo_entry *entry, struct pl_err *e)
{
    PL_FREE char *name = strndup(entry->data, (size_t)entry->len);
    struct undo_file *files;
    struct undo_left *left;

    if (entry->file != journal->count || journal->count >= UNDO_FILES_MAX)
        return bad_entry(journal, entry, "is out of turn", e);
    if (!name)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", journal->name);
    if (strlen(name) != entry->len || (journal->count == 0) != !*name)
        return bad_entry(journal, entry, "has a name that no file can have", e);
    files = reallocarray(journal->files, journal->count + 1, sizeof *files);
    if (files)
        journal->files = files;
    left = reallocarray(journal->left, journal->count + 1, sizeof *left);
    if (left)
        journal->left = left;
    if (!files || !left)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", journal->name);
    journal->left[journal->count] = (struct undo_left){ 0 };
    journal->files[journal->count++] = (struct undo_file){ .name = pl_take(name),
                                                           .old_size = entry->off,
                                                           .old_changed = entry->more };
    return 0;
}

static int add_range(struct undo_journal *journal, const struct undo_entry *entry, struct pl_err *e)
{
    struct undo_file *file = &journal->files[entry->file];

    if (entry->len == 0 || !pl_inside(entry->off, entry->len, file->old_size))
        return bad_entry(journal, entry, "is past the end of that file", e);
    if (!pl_range_set_add(&file->saved, entry->off, entry->off + entry->len))
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", journal->name);
    return 0;
}

/* An entry of a file that is known. */
static int add_entry(struct undo_journal *journal, const struct undo_entry *entry, struct pl_err *e)
{
    switch (entry->type) {
    case UNDO_BYTES:
    case UNDO_ZEROS:
        journal->done = false;
        return add_range(journal, entry, e);
    case UNDO_LEFT_FILE:
        journal->left[entry->file] = (struct undo_left){ entry->off, entry->more };
        journal->seals += entry->file == 0;
        return 0;
    default:
        return 0;
    }
}

int undo_journal_visit(void *ctx, const struct undo_entry *entry, struct pl_err *e)
{
    struct undo_journal *journal = ctx;

    switch (entry->type) {
    case UNDO_FILE:
        return add_file(journal, entry, e);
    case UNDO_DONE:
        journal->done = true;
        journal->taking_back = false;
        return 0;
    case UNDO_TAKING_BACK:
        journal->taking_back = true;
        return 0;
    default:
        if (entry->file < journal->count)
            return add_entry(journal, entry, e);
        return bad_entry(journal, entry, "is of a file that was not named before", e);
    }
}

void undo_journal_free(struct undo_journal *journal)
{
    for (unsigned i = 0; i < journal->count; i++) {
        pl_range_set_free(&journal->files[i].saved);
        free(journal->files[i].name);
    }
    free(journal->files);
    free(journal->left);
    *journal = (struct undo_journal){ 0 };
}

/* "2026-11-27 07:31:11 UTC" */
static const char *format_time(uint64_t ns, char text[32])
{
    const time_t seconds = (time_t)(ns / UINT64_C(1000000000));
    struct tm tm;

    if (!gmtime_r(&seconds, &tm) || !strftime(text, 32, "%F %T UTC", &tm))
        return "an unknown time";
    return text;
}

int undo_written_since(struct pl_storage *file, uint64_t changed, struct pl_err *e)
{
    char text[32];

    pl_fail(e, PL_E_MISMATCH, "%s: was written to after the repair (at %s)", file->name,
            format_time(changed, text));
    return pl_hint(e, "if it was only copied, or if what was written must not be kept, --force "
                      "takes the repair back all the same");
}

static int refuse_older(struct pl_storage *file, uint64_t changed, struct pl_err *e)
{
    char text[32];

    pl_fail(e, PL_E_MISMATCH, "%s: is not the file that was repaired, but an older one (of %s)",
            file->name, format_time(changed, text));
    return pl_hint(e, "if it is the same all the same, --force takes the repair back");
}

int undo_check_age(struct pl_storage *journal, struct pl_storage *file, uint64_t old_changed,
                   struct pl_err *e)
{
    uint64_t kept, changed;

    if (!pl_file_changed_at(journal, &kept) || !pl_file_changed_at(file, &changed))
        return 0;
    if (changed < old_changed)
        return refuse_older(file, changed, e);
    return changed > kept + UNDO_YOUNGER_NS ? undo_written_since(file, changed, e) : 0;
}

static void free_digest(struct pl_digest *const *digest)
{
    pl_digest_free(*digest);
}

static int finish_digest(struct pl_digest *digest, char digits[UNDO_DIGEST], struct pl_err *e)
{
    char text[PL_DIGEST_TEXT];

    if (pl_digest_finish(digest, text, e) < 0)
        return -1;
    memcpy(digits, text, UNDO_DIGEST);
    return 0;
}

int undo_digest(struct pl_storage *st, uint64_t off, uint64_t len, uint64_t end,
                char digits[UNDO_DIGEST], struct pl_err *e)
{
    __attribute__((cleanup(free_digest))) struct pl_digest *digest = NULL;
    PL_FREE uint8_t *piece = pl_buffer(DIGEST_PIECE);

    if (!piece)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", st->name);
    if (pl_digest_new("sha256", &digest, e) < 0)
        return -1;
    len = off < end ? PL_MIN(len, end - off) : 0;
    while (len > 0) {
        const size_t now = (size_t)PL_MIN(len, DIGEST_PIECE);

        if (pl_storage_read_padded(st, off, piece, now, e) < 0 ||
            pl_digest_update(digest, piece, now, e) < 0)
            return -1;
        off += now;
        len -= now;
    }
    return finish_digest(digest, digits, e);
}

int undo_digest_bytes(const uint8_t *bytes, uint64_t len, char digits[UNDO_DIGEST],
                      struct pl_err *e)
{
    static const uint8_t zeros[4096];
    __attribute__((cleanup(free_digest))) struct pl_digest *digest = NULL;

    if (pl_digest_new("sha256", &digest, e) < 0)
        return -1;
    while (len > 0) {
        const size_t now = (size_t)(bytes ? len : PL_MIN(len, sizeof zeros));

        if (pl_digest_update(digest, bytes ? bytes : zeros, now, e) < 0)
            return -1;
        bytes = bytes ? bytes + now : NULL;
        len -= now;
    }
    return finish_digest(digest, digits, e);
}
