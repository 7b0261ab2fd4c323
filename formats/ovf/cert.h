/* cert.h - who signed a package: NAME.cert (DSP0243, clause 6): a signature of the manifest, then
 * the signer's certificate, perhaps with those that lead to an authority.
 *
 *     SHA256(NAME.mf)= 7f4b8efb...
 *     -----BEGIN CERTIFICATE-----  */
#ifndef PL_FORMATS_OVF_CERT_H
#define PL_FORMATS_OVF_CERT_H

#include <stddef.h>

#include "core/base/err.h"

#define OVF_CERT_BYTES_MAX (1u << 20)

struct ovf_cert;

/* Reads `len` bytes of text with a zero behind them.  PL_E_CORRUPT, PL_E_UNSUPPORTED (digest),
 * PL_E_NOMEM. */
int ovf_cert_parse(const char *text, size_t len, struct ovf_cert **out, struct pl_err *e) PL_CHECK;

/* Null is fine. */
void ovf_cert_free(struct ovf_cert *cert);

/* Who the signer claims to be, e.g. "CN=Example,O=Example Inc"; lives as long as the cert. */
const char *ovf_cert_subject(const struct ovf_cert *cert);

/* Whether the signer signed these bytes (the manifest), and is known to one of the `authorities`
 * (certificates in PEM) today.  PL_E_MISMATCH: no; PL_E_INVALID: no certificate in authorities;
 * PL_E_NOMEM. */
int ovf_cert_verify(const struct ovf_cert *cert, const char *manifest, size_t manifest_len,
                    const char *authorities, size_t authorities_len, struct pl_err *e) PL_CHECK;

#endif
