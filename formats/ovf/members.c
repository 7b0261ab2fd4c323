#include "formats/ovf/members.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/window.h"
#include "formats/ovf/tar_index.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ovf_member *)a)->name, ((const struct ovf_member *)b)->name);
}

/* A folder may come twice: tar lists it again when something was added. */
static int refuse_duplicates(const struct ovf_members *members, struct pl_err *e)
{
    for (size_t i = 1; i < members->count; i++) {
        const struct ovf_member *one = &members->list[i - 1], *other = &members->list[i];

        if (strcmp(one->name, other->name) == 0 && !(one->folder && other->folder))
            return pl_fail(e, PL_E_CORRUPT, "the archive has two members named %.200s", one->name);
    }
    return 0;
}

static bool is_descriptor(const struct ovf_member *member)
{
    const size_t len = strlen(member->name);

    return len > 4 && strcasecmp(member->name + len - 4, ".ovf") == 0;
}

static int find_descriptor(struct ovf_members *members, struct pl_err *e)
{
    const struct ovf_member *found = NULL;

    for (size_t i = 0; i < members->count; i++) {
        if (!is_descriptor(&members->list[i]))
            continue;
        if (found)
            return pl_fail(e, PL_E_CORRUPT, "the archive has two descriptors, %.100s and %.100s",
                           found->name, members->list[i].name);
        found = &members->list[i];
    }
    if (!found)
        return pl_fail(e, PL_E_FORMAT, "the archive has no descriptor (a member NAME.ovf)");
    members->descriptor = strdup(found->name);
    return members->descriptor ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for the archive's members");
}

int ovf_members_of_archive(const struct pl_package_open_args *args, struct ovf_members *members,
                           struct pl_err *e)
{
    *members = (struct ovf_members){ .args = *args, .archive = true };
    if (ovf_tar_list(args->file, &members->list, &members->count, e) < 0)
        return -1;
    if (members->count > 1)
        qsort(members->list, members->count, sizeof *members->list, by_name);
    return refuse_duplicates(members, e) < 0 ? -1 : find_descriptor(members, e);
}

int ovf_members_beside(const struct pl_package_open_args *args, struct ovf_members *members,
                       struct pl_err *e)
{
    const char *slash = strrchr(args->file->name, '/');

    *members = (struct ovf_members){ .args = *args };
    members->descriptor = strdup(slash ? slash + 1 : args->file->name);
    return members->descriptor ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for the descriptor's name");
}

void ovf_members_free(struct ovf_members *members)
{
    ovf_tar_list_free(members->list, members->count);
    free(members->descriptor);
}

/* "archive.ova/disk.vmdk" says more than the range of the window. */
static int name_after(struct pl_storage *window, const struct pl_storage *archive, const char *name,
                      struct pl_err *e)
{
    char *own;

    if (asprintf(&own, "%s/%s", archive->name, name) < 0)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for its name", name);
    free(window->name);
    window->name = own;
    return 0;
}

static int open_member(const struct ovf_members *members, const struct ovf_member *member,
                       struct pl_storage **out, struct pl_err *e)
{
    if (member->flaw)
        return pl_fail(e, PL_E_CORRUPT, "member %.200s is %s, not a plain file", member->name,
                       member->flaw);
    if (pl_window_storage(members->args.file, member->off, member->size, out, e) < 0)
        return -1;
    (*out)->writable = false;
    if (name_after(*out, members->args.file, member->name, e) < 0) {
        pl_storage_close(*out, NULL);
        return -1;
    }
    return 0;
}

/* `name` is relative to the folder that the descriptor is in. */
static int open_in_archive(const struct ovf_members *members, const char *name,
                           struct pl_storage **out, struct pl_err *e)
{
    const char *slash = strrchr(members->descriptor, '/');
    const int folder_len = slash ? (int)(slash + 1 - members->descriptor) : 0;
    struct ovf_member key = { 0 };
    const struct ovf_member *found;
    PL_FREE char *full = NULL;

    if (strncmp(name, "./", 2) == 0)
        name += 2;
    if (asprintf(&full, "%.*s%s", folder_len, members->descriptor, name) < 0) {
        full = NULL;
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for its name", name);
    }
    key.name = full;
    found = bsearch(&key, members->list, members->count, sizeof key, by_name);
    if (!found)
        return pl_fail(e, PL_E_NOT_FOUND, "the archive has no member %.200s", full);
    return open_member(members, found, out, e);
}

static int open_plain(const struct ovf_members *members, const char *name, struct pl_storage **out,
                      struct pl_err *e)
{
    if (members->archive)
        return open_in_archive(members, name, out, e);
    if (!members->args.open_file)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "%.200s: files beside a descriptor that comes as a "
                       "stream cannot be opened",
                       name);
    return members->args.open_file(&members->args, name, out, e);
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | ('a' - 'A')) : NULL;

    return c >= '0' && c <= '9' ? c - '0' : at ? (int)(at - digits) : -1;
}

/* The name with %XX replaced; null when there is none, or something is wrong with one. */
static char *unescaped(const char *name)
{
    PL_FREE char *plain = strdup(name);
    char *to = plain;

    if (!plain || !strchr(name, '%'))
        return NULL;
    for (const char *from = name; *from; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        if (hex_digit(from[1]) < 0 || hex_digit(from[2]) < 0)
            return NULL;
        *to = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
        if (*to++ == '\0')
            return NULL;
        from += 2;
    }
    *to = '\0';
    return pl_take(plain);
}

int ovf_members_open(const struct ovf_members *members, const char *name, struct pl_storage **out,
                     struct pl_err *e)
{
    PL_FREE char *plain = unescaped(name);
    struct pl_err first = { 0 };

    if (!plain)
        return open_plain(members, name, out, e);
    if (open_plain(members, name, out, &first) == 0)
        return 0;
    if (first.kind == PL_E_NOT_FOUND)
        return open_plain(members, plain, out, e);
    if (e)
        *e = first;
    return -1;
}

const char *ovf_members_descriptor(const struct ovf_members *members)
{
    const char *slash = strrchr(members->descriptor, '/');

    return slash ? slash + 1 : members->descriptor;
}

int ovf_members_open_companion(const struct ovf_members *members, const char *ending,
                               struct pl_storage **out, struct pl_err *e)
{
    const char *name = ovf_members_descriptor(members);
    const char *dot = strrchr(name, '.');
    PL_FREE char *companion = NULL;

    if (asprintf(&companion, "%.*s%s", dot ? (int)(dot - name) : (int)strlen(name), name, ending) <
        0) {
        companion = NULL;
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a name like it", name);
    }
    return open_plain(members, companion, out, e);
}

int ovf_read_text(struct pl_storage *st, size_t max, char **text, size_t *len, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(st);
    PL_FREE char *bytes = NULL;

    if (size > max)
        return pl_fail(e, PL_E_LIMIT, "%s: has %" PRIu64 " bytes, more than the limit of %zu",
                       st->name, size, max);
    bytes = malloc((size_t)size + 1);
    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", st->name);
    if (pl_storage_read(st, 0, bytes, (size_t)size, e) < 0)
        return -1;
    bytes[size] = '\0';
    *len = (size_t)size;
    *text = pl_take(bytes);
    return 0;
}
