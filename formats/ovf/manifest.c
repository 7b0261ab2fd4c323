#include "formats/ovf/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/digest.h"
#include "core/base/scope.h"
#include "formats/ovf/list.h"

#define PIECE (1u << 20)

static const char blanks[] = " \t\r";

static char *trim(char *start, char *end)
{
    while (end > start && strchr(blanks, end[-1]))
        end--;
    *end = '\0';
    return start + strspn(start, blanks);
}

/* "SHA256", in any case, with a hyphen or without. */
static int find_algorithm(const char *word, struct ovf_digest *digest, struct pl_err *e)
{
    static const struct {
        const char *word, *dashed, *algorithm;
        size_t hex_len;
    } known[] = {
        { "SHA1", "SHA-1", "sha1", 40 },
        { "SHA256", "SHA-256", "sha256", 64 },
        { "SHA384", "SHA-384", "sha384", 96 },
        { "SHA512", "SHA-512", "sha512", 128 },
    };

    for (unsigned i = 0; i < PL_COUNT(known); i++)
        if (strcasecmp(word, known[i].word) == 0 || strcasecmp(word, known[i].dashed) == 0) {
            digest->algorithm = known[i].algorithm;
            digest->hex_len = known[i].hex_len;
            return 0;
        }
    return pl_fail(e, PL_E_UNSUPPORTED,
                   "the digest \"%.32s\" is none of SHA1, SHA256, SHA384, SHA512", word);
}

/* The parts of a line: text up to the first "(", the name up to the last ")", what follows "=". */
static int split(char *line, char **word, char **name, char **rest, struct pl_err *e)
{
    char *open = strchr(line, '(');
    char *close = open ? strrchr(open, ')') : NULL;

    if (!close)
        return pl_fail(e, PL_E_CORRUPT, "\"%.60s\" is no line like \"SHA256(file)= digest\"", line);
    *rest = close + 1 + strspn(close + 1, blanks);
    if (**rest != '=')
        return pl_fail(e, PL_E_CORRUPT, "\"%.60s\": there is no = behind the name", line);
    *rest += 1 + strspn(*rest + 1, blanks);
    *word = trim(line, open);
    *name = open + 1;
    *close = '\0';
    if (!**name)
        return pl_fail(e, PL_E_CORRUPT, "there is no name between the brackets");
    return 0;
}

int ovf_digest_parse(char *line, size_t len, struct ovf_digest *digest, const char **value,
                     struct pl_err *e)
{
    char *start = trim(line, line + len);
    char *word = NULL, *name = NULL, *rest = NULL;

    *digest = (struct ovf_digest){ 0 };
    if (!*start)
        return 1;
    if (split(start, &word, &name, &rest, e) < 0)
        return -1;
    digest->name = name;
    *value = rest;
    return find_algorithm(word, digest, e);
}

static int add_line(struct ovf_manifest *manifest, char *line, size_t len, struct pl_err *e)
{
    struct ovf_digest digest, *added;
    const int blank = ovf_digest_parse(line, len, &digest, &digest.hex, e);

    if (blank != 0)
        return blank < 0 ? -1 : 0;
    if (strlen(digest.hex) != digest.hex_len ||
        strspn(digest.hex, "0123456789abcdefABCDEF") != digest.hex_len)
        return pl_fail(e, PL_E_CORRUPT, "\"%.140s\" is no %s digest of %zu hexadecimal digits",
                       digest.hex, digest.algorithm, digest.hex_len);
    if (manifest->count >= OVF_MANIFEST_LINES_MAX)
        return pl_fail(e, PL_E_LIMIT, "more than %d digests", OVF_MANIFEST_LINES_MAX);
    added = OVF_APPEND(manifest->list, manifest->count);
    if (!added)
        return pl_fail(e, PL_E_NOMEM, "no memory for %zu digests", manifest->count + 1);
    *added = digest;
    return 0;
}

static int by_name_and_algorithm(const void *a, const void *b)
{
    const struct ovf_digest *one = a, *other = b;
    const int names = strcmp(one->name, other->name);

    return names ? names : strcmp(one->algorithm, other->algorithm);
}

/* Two digests of one kind for one file: which one counts is anybody's guess. */
static int sort(struct ovf_manifest *manifest, struct pl_err *e)
{
    if (manifest->count > 1)
        qsort(manifest->list, manifest->count, sizeof *manifest->list, by_name_and_algorithm);
    for (size_t i = 1; i < manifest->count; i++) {
        const struct ovf_digest *one = &manifest->list[i - 1];

        if (by_name_and_algorithm(one, one + 1) == 0 && strcasecmp(one->hex, one[1].hex) != 0)
            return pl_fail(e, PL_E_CORRUPT, "the manifest has two different %s digests of %.200s",
                           one->algorithm, one->name);
    }
    return 0;
}

int ovf_manifest_parse(const char *text, size_t len, struct ovf_manifest *manifest,
                       struct pl_err *e)
{
    char *line;
    size_t number = 1;

    *manifest = (struct ovf_manifest){ 0 };
    if (len > OVF_MANIFEST_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT, "the manifest has %zu bytes, more than the limit of %u", len,
                       OVF_MANIFEST_BYTES_MAX);
    if (memchr(text, '\0', len))
        return pl_fail(e, PL_E_CORRUPT, "the manifest is no text");
    manifest->text = strndup(text, len);
    if (!manifest->text)
        return pl_fail(e, PL_E_NOMEM, "no memory for the manifest");
    for (line = manifest->text; line; number++) {
        char *end = strchrnul(line, '\n');
        char *next = *end ? end + 1 : NULL;

        if (add_line(manifest, line, (size_t)(end - line), e) < 0)
            return pl_within(e, "manifest: line %zu", number);
        line = next;
    }
    return sort(manifest, e);
}

void ovf_manifest_free(struct ovf_manifest *manifest)
{
    free(manifest->list);
    free(manifest->text);
}

bool ovf_manifest_has(const struct ovf_manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->count; i++)
        if (strcmp(manifest->list[i].name, name) == 0)
            return true;
    return false;
}

static int feed_all(struct pl_digest *digest, struct pl_storage *st, struct ovf_progress *progress,
                    struct pl_err *e)
{
    PL_FREE uint8_t *buf = pl_buffer(PIECE);
    const uint64_t size = pl_storage_size(st);
    uint64_t off = 0;

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to read it", st->name);
    while (off < size) {
        const size_t len = (size_t)PL_MIN(PIECE, size - off);

        if (pl_check_cancelled(progress->report, e) < 0 ||
            pl_storage_read(st, off, buf, len, e) < 0 || pl_digest_update(digest, buf, len, e) < 0)
            return -1;
        off += len;
        progress->done += len;
        pl_progress(progress->report, progress->done, progress->total);
    }
    return 0;
}

int ovf_digest_check(const struct ovf_digest *wanted, struct pl_storage *st,
                     struct ovf_progress *progress, struct pl_err *e)
{
    char found[PL_DIGEST_TEXT];
    struct pl_digest *digest;
    int result;

    if (pl_digest_new(wanted->algorithm, &digest, e) < 0)
        return -1;
    result = feed_all(digest, st, progress, e);
    if (result == 0)
        result = pl_digest_finish(digest, found, e);
    pl_digest_free(digest);
    if (result < 0 || strcasecmp(found, wanted->hex) == 0)
        return result;
    pl_fail(e, PL_E_MISMATCH, "%.200s: its %s is %.16s..., the manifest says %.16s...",
            wanted->name, wanted->algorithm, found, wanted->hex);
    return pl_hint(e, "the file was damaged or changed after the package was made");
}
