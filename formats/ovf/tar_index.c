/* tar_index.c - see tar_index.h.
 *
 * libarchive reads the headers (ustar, GNU long names and sizes, pax) through callbacks over the
 * storage and skips the data; where it stands after a header is where the member's bytes begin,
 * since nothing is decompressed. */
#include "formats/ovf/tar_index.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/ovf/list.h"

/* What libarchive is given at a time: headers lie scattered between large members. */
#define PIECE 32768

/* The archive as libarchive sees it: a storage, or bytes in memory. */
struct source {
    struct pl_storage *st;
    uint64_t at, size;
    struct pl_err *e; /* of a read that failed */
    bool failed;
    uint8_t buf[PIECE];
};

static la_ssize_t source_read(struct archive *a, void *ctx, const void **bytes)
{
    struct source *source = ctx;
    const size_t len = (size_t)PL_MIN(PIECE, source->size - source->at);

    *bytes = source->buf;
    if (pl_storage_read(source->st, source->at, source->buf, len, source->e) < 0) {
        archive_set_error(a, EIO, "reading failed");
        source->failed = true;
        return -1;
    }
    source->at += len;
    return (la_ssize_t)len;
}

static la_int64_t source_skip(struct archive *a, void *ctx, la_int64_t wanted)
{
    struct source *source = ctx;
    const uint64_t len = wanted > 0 ? PL_MIN((uint64_t)wanted, source->size - source->at) : 0;

    (void)a;
    source->at += len;
    return (la_int64_t)len;
}

static struct archive *new_reader(void)
{
    struct archive *a = archive_read_new();

    if (a && archive_read_support_format_tar(a) == ARCHIVE_OK &&
        archive_read_set_skip_callback(a, source_skip) == ARCHIVE_OK)
        return a;
    archive_read_free(a);
    return NULL;
}

/* What a member is when it is no plain file. */
static const char *flaw_of(struct archive_entry *entry)
{
    if (archive_entry_hardlink(entry) || archive_entry_hardlink_w(entry))
        return "a hard link";
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return archive_entry_sparse_count(entry) > 0 ? "a sparse member" : NULL;
    case AE_IFLNK:
        return "a symbolic link";
    case AE_IFDIR:
        return "a folder";
    default:
        return "no plain file";
    }
}

/* Names are bytes; where libarchive could not turn them into the locale's, they are UTF-8. */
static const char *name_of(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);

    return name ? name : archive_entry_pathname_utf8(entry);
}

/* Whether a part between slashes is "..". */
static bool climbs(const char *name)
{
    for (const char *part = name;; part = strchr(part, '/') + 1) {
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return true;
        if (!strchr(part, '/'))
            return false;
    }
}

static int check_name(const char *name, struct pl_err *e)
{
    if (!name || !*name)
        return pl_fail(e, PL_E_CORRUPT, "a member of the archive has no name");
    if (strlen(name) > OVF_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT, "a member's name has %zu bytes, more than the limit of %d",
                       strlen(name), OVF_NAME_MAX);
    if (name[0] == '/' || climbs(name))
        return pl_fail(e, PL_E_POLICY, "member %.200s: its name leads out of the archive", name);
    return 0;
}

static const char *without_dots(const char *name)
{
    while (strncmp(name, "./", 2) == 0)
        for (name += 2; *name == '/'; name++)
            ;
    return name;
}

/* Sparse members are shorter in the archive than they say; they are not opened. */
static int check_inside(const struct ovf_member *member, uint64_t archive_size, struct pl_err *e)
{
    if (!member->flaw && !pl_inside(member->off, member->size, archive_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "member %.200s: [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of the "
                       "archive (0x%" PRIx64 ")",
                       member->name, member->off, member->size, archive_size);
    return 0;
}

/* The name without "./" in front and slashes at the end, as the caller frees it; empty for the
 * folder that the archive was made of. */
static char *tidy_name(const char *name)
{
    size_t len;

    name = without_dots(name);
    len = strcmp(name, ".") == 0 ? 0 : strlen(name);
    while (len > 0 && name[len - 1] == '/')
        len--;
    return strndup(name, len);
}

static int add_member(struct archive *a, struct archive_entry *entry, uint64_t archive_size,
                      struct ovf_member **list, size_t *count, struct pl_err *e)
{
    const char *name = name_of(entry);
    PL_FREE char *tidy = NULL;
    struct ovf_member *member;

    if (check_name(name, e) < 0)
        return -1;
    tidy = tidy_name(name);
    if (tidy && !*tidy)
        return 0;
    if (*count >= OVF_MEMBERS_MAX)
        return pl_fail(e, PL_E_LIMIT, "the archive has more than %d members", OVF_MEMBERS_MAX);
    member = tidy ? OVF_APPEND(*list, *count) : NULL;
    if (!member)
        return pl_fail(e, PL_E_NOMEM, "no memory for the archive's members");
    member->name = pl_take(tidy);
    member->flaw = flaw_of(entry);
    member->folder = archive_entry_filetype(entry) == AE_IFDIR;
    member->off = (uint64_t)archive_filter_bytes(a, 0);
    if (archive_entry_size(entry) < 0)
        return pl_fail(e, PL_E_CORRUPT, "member %.200s: its size is negative", member->name);
    member->size = (uint64_t)archive_entry_size(entry);
    return check_inside(member, archive_size, e);
}

static int unreadable(struct archive *a, const struct source *source, struct pl_err *e)
{
    const char *why = archive_error_string(a);

    if (source->failed)
        return pl_within(e, "tar archive");
    return pl_fail(e, PL_E_CORRUPT, "tar archive: no member's header near 0x%" PRIx64 ": %s",
                   (uint64_t)archive_filter_bytes(a, 0), why ? why : "unknown reason");
}

/* Headers that libarchive warns about (odd owners, names in another charset) are good enough. */
static int list_members(struct archive *a, struct source *source, struct ovf_member **list,
                        size_t *count, struct pl_err *e)
{
    struct archive_entry *entry;
    unsigned headers = 0;
    int result;

    for (;;) {
        result = archive_read_next_header(a, &entry);
        if (result == ARCHIVE_EOF)
            return 0;
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return unreadable(a, source, e);
        if (headers++ > 2 * OVF_MEMBERS_MAX)
            return pl_fail(e, PL_E_LIMIT, "the archive has too many headers");
        if (add_member(a, entry, source->size, list, count, e) < 0)
            return -1;
    }
}

int ovf_tar_list(struct pl_storage *archive, struct ovf_member **list, size_t *count,
                 struct pl_err *e)
{
    PL_FREE struct source *source = calloc(1, sizeof *source);
    struct archive *a = new_reader();
    int result;

    *list = NULL;
    *count = 0;
    if (!source || !a) {
        archive_read_free(a);
        return pl_fail(e, PL_E_NOMEM, "no memory to read the archive");
    }
    source->st = archive;
    source->size = pl_storage_size(archive);
    source->e = e;
    if (archive_read_open(a, source, NULL, source_read, NULL) == ARCHIVE_OK)
        result = list_members(a, source, list, count, e);
    else
        result = source->failed ? -1 : pl_fail(e, PL_E_FORMAT, "not a tar archive");
    archive_read_free(a);
    return result;
}

void ovf_tar_list_free(struct ovf_member *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i].name);
    free(list);
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t len = strlen(name), ending_len = strlen(ending);

    return len > ending_len && strcasecmp(name + len - ending_len, ending) == 0;
}

static bool may_be_in_ova(const char *name)
{
    static const char *const endings[] = { ".mf",  ".cert", ".vmdk", ".vhd", ".vhdx",  ".vdi",
                                           ".img", ".raw",  ".iso",  ".gz",  ".qcow2", ".nvram" };

    for (unsigned i = 0; i < PL_COUNT(endings); i++)
        if (ends_with(name, endings[i]))
            return true;
    return false;
}

bool ovf_tar_probe(const uint8_t *head, size_t len)
{
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    bool descriptor = false, others = false, foreign = false;

    if (a && archive_read_support_format_tar(a) == ARCHIVE_OK &&
        archive_read_open_memory(a, head, len) == ARCHIVE_OK)
        while (!descriptor && archive_read_next_header(a, &entry) >= ARCHIVE_WARN) {
            const char *name = name_of(entry);

            descriptor = name && ends_with(name, ".ovf");
            others = others || (name && may_be_in_ova(name));
            foreign = foreign || (name && !may_be_in_ova(name) && !ends_with(name, "/"));
        }
    archive_read_free(a);
    return descriptor || (others && !foreign);
}
