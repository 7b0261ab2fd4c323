/* digest.h - checksums of content, fed piece by piece (OpenSSL). */
#ifndef PL_CORE_BASE_DIGEST_H
#define PL_CORE_BASE_DIGEST_H

#include <stddef.h>

#include "core/base/err.h"

/* One computation; for one thread at a time. */
struct pl_digest;

/* Room for the longest digest in hexadecimal and its end. */
#define PL_DIGEST_TEXT 129

/* Starts the digest of that name: md5, sha1, sha224, sha256, sha384, sha512, blake2s256 or
 * blake2b512.  PL_E_INVALID lists them; PL_E_UNSUPPORTED where the host's OpenSSL withholds one
 * (FIPS mode); PL_E_NOMEM. */
int pl_digest_new(const char *name, struct pl_digest **out, struct pl_err *e) PL_CHECK;

/* Null is fine. */
void pl_digest_free(struct pl_digest *digest);

/* Feeds len bytes. */
int pl_digest_update(struct pl_digest *digest, const void *buf, size_t len, struct pl_err *e)
    PL_CHECK;

/* Writes the digest of all that was fed, in lower-case hexadecimal.  Only pl_digest_free may
 * follow. */
int pl_digest_finish(struct pl_digest *digest, char text[static PL_DIGEST_TEXT], struct pl_err *e)
    PL_CHECK;

#endif
