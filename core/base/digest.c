#include "core/base/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/text.h"

_Static_assert(PL_DIGEST_TEXT == 2 * EVP_MAX_MD_SIZE + 1, "room for the longest digest");

struct pl_digest {
    EVP_MD_CTX *context;
};

/* OpenSSL knows more names, among them aliases and digests of no fixed length. */
static const char *const known[] = { "md5",    "sha1",   "sha224",     "sha256",
                                     "sha384", "sha512", "blake2s256", "blake2b512" };

static int check_known(const char *name, struct pl_err *e)
{
    char all[128] = "";

    for (unsigned i = 0; i < PL_COUNT(known); i++) {
        if (!strcmp(name, known[i]))
            return 0;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", known[i]);
    }
    pl_fail(e, PL_E_INVALID, "there is no digest '%.64s'", name);
    return pl_hint(e, "known are %s", all);
}

int pl_digest_new(const char *name, struct pl_digest **out, struct pl_err *e)
{
    struct pl_digest *digest;
    EVP_MD *md;
    int started;

    if (check_known(name, e))
        return -1;
    md = EVP_MD_fetch(NULL, name, NULL);
    if (!md)
        return pl_fail(e, PL_E_UNSUPPORTED, "the OpenSSL of this host does not offer %s", name);
    digest = calloc(1, sizeof *digest);
    if (digest)
        digest->context = EVP_MD_CTX_new();
    started = digest && digest->context && EVP_DigestInit_ex2(digest->context, md, NULL);
    EVP_MD_free(md);
    if (!started) {
        pl_digest_free(digest);
        return pl_fail(e, PL_E_NOMEM, "digest %s: out of memory", name);
    }
    *out = digest;
    return 0;
}

void pl_digest_free(struct pl_digest *digest)
{
    if (digest)
        EVP_MD_CTX_free(digest->context);
    free(digest);
}

static int failed(const struct pl_digest *digest, struct pl_err *e)
{
    return pl_fail(e, PL_E_UNSUPPORTED, "digest %s: OpenSSL refuses to go on",
                   EVP_MD_get0_name(EVP_MD_CTX_get0_md(digest->context)));
}

int pl_digest_update(struct pl_digest *digest, const void *buf, size_t len, struct pl_err *e)
{
    return EVP_DigestUpdate(digest->context, buf, len) ? 0 : failed(digest, e);
}

int pl_digest_finish(struct pl_digest *digest, char text[static PL_DIGEST_TEXT], struct pl_err *e)
{
    uint8_t byte[EVP_MAX_MD_SIZE];
    unsigned len;

    if (!EVP_DigestFinal_ex(digest->context, byte, &len))
        return failed(digest, e);
    pl_format_hex(byte, len, text);
    return 0;
}
