#include "formats/ovf/cert.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/ovf/manifest.h"

/* Certificates that one file may hold: chains have three or four. */
#define CERTIFICATES_MAX 512
/* Of a signature: RSA with 16384 bits. */
#define SIGNATURE_MAX 2048

struct ovf_cert {
    STACK_OF(X509) * chain; /* the signer first */
    char *subject;
    const char *algorithm; /* of the signature's digest */
    uint8_t signature[SIGNATURE_MAX];
    size_t signature_len;
};

/* A certificate that is packed with a password is none; OpenSSL would ask at the terminal. */
static int no_password(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

/* Reads all certificates of a PEM text; null: none, or out of memory. */
static STACK_OF(X509) * read_certificates(const char *text, size_t len)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509 *one = NULL;

    while (all && bio && sk_X509_num(all) < CERTIFICATES_MAX &&
           (one = PEM_read_bio_X509(bio, NULL, no_password, NULL)))
        if (!sk_X509_push(all, one)) {
            X509_free(one);
            break;
        }
    BIO_free(bio);
    ERR_clear_error(); /* the end of the text is one */
    if (all && sk_X509_num(all) > 0)
        return all;
    sk_X509_free(all);
    return NULL;
}

static char *subject_of(X509 *certificate)
{
    const unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text, *copy = NULL;
    long len;

    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, flags) >= 0) {
        len = BIO_get_mem_data(bio, &text);
        copy = strndup(len > 0 ? text : "", len > 0 ? (size_t)len : 0);
    }
    BIO_free(bio);
    return copy;
}

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);

    return c && at ? (int)(at - digits) : -1;
}

static int read_signature(struct ovf_cert *cert, const char *hex, struct pl_err *e)
{
    const size_t len = strlen(hex);

    if (len == 0 || len % 2 != 0 || len / 2 > SIGNATURE_MAX)
        return pl_fail(e, PL_E_CORRUPT, "the signature has %zu digits", len);
    for (size_t i = 0; i < len / 2; i++) {
        const int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return pl_fail(e, PL_E_CORRUPT, "the signature is not hexadecimal");
        cert->signature[i] = (uint8_t)(high * 16 + low);
    }
    cert->signature_len = len / 2;
    return 0;
}

/* The first line that is not blank, before the certificates. */
static int parse_signature(struct ovf_cert *cert, const char *text, const char *end,
                           struct pl_err *e)
{
    PL_FREE char *copy = strndup(text, (size_t)(end - text));
    struct ovf_digest digest;
    const char *hex;
    int result = 1;

    if (!copy)
        return pl_fail(e, PL_E_NOMEM, "no memory for the signature");
    for (char *line = copy, *next; line && result == 1; line = next) {
        char *line_end = strchrnul(line, '\n');

        next = *line_end ? line_end + 1 : NULL;
        result = ovf_digest_parse(line, (size_t)(line_end - line), &digest, &hex, e);
    }
    if (result < 0)
        return -1;
    if (result == 1)
        return pl_fail(e, PL_E_CORRUPT, "there is no signature before the certificate");
    cert->algorithm = digest.algorithm;
    return read_signature(cert, hex, e);
}

static int parse(struct ovf_cert *cert, const char *text, size_t len, struct pl_err *e)
{
    const char *pem = strstr(text, "-----BEGIN");

    if (len > OVF_CERT_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT, "%zu bytes are more than the limit of %u", len,
                       OVF_CERT_BYTES_MAX);
    cert->chain = pem ? read_certificates(pem, len - (size_t)(pem - text)) : NULL;
    if (!cert->chain)
        return pl_fail(e, PL_E_CORRUPT, "there is no certificate in it");
    cert->subject = subject_of(sk_X509_value(cert->chain, 0));
    if (!cert->subject)
        return pl_fail(e, PL_E_NOMEM, "no memory for the signer's name");
    return parse_signature(cert, text, pem, e);
}

int ovf_cert_parse(const char *text, size_t len, struct ovf_cert **out, struct pl_err *e)
{
    struct ovf_cert *cert = calloc(1, sizeof *cert);

    if (!cert)
        return pl_fail(e, PL_E_NOMEM, "no memory for the certificate");
    if (parse(cert, text, len, e) < 0) {
        ovf_cert_free(cert);
        return pl_within(e, "certificate");
    }
    *out = cert;
    return 0;
}

void ovf_cert_free(struct ovf_cert *cert)
{
    if (!cert)
        return;
    sk_X509_pop_free(cert->chain, X509_free);
    free(cert->subject);
    free(cert);
}

const char *ovf_cert_subject(const struct ovf_cert *cert)
{
    return cert->subject;
}

static int check_signature(const struct ovf_cert *cert, const char *manifest, size_t len,
                           struct pl_err *e)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const EVP_MD *md = EVP_get_digestbyname(cert->algorithm);
    EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(cert->chain, 0));
    int good = 0;

    if (ctx && md && key && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1)
        good = EVP_DigestVerify(ctx, cert->signature, cert->signature_len,
                                (const uint8_t *)manifest, len);
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    if (good == 1)
        return 0;
    pl_fail(e, PL_E_MISMATCH, "certificate: the manifest is not what %.200s signed", cert->subject);
    return pl_hint(e, "the package was changed after it was signed");
}

/* An authority may be the signer's own certificate or one in the middle of its chain. */
static X509_STORE *new_store(STACK_OF(X509) * authorities)
{
    X509_STORE *store = X509_STORE_new();

    for (int i = 0; store && i < sk_X509_num(authorities); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(authorities, i)) != 1) {
            X509_STORE_free(store);
            return NULL;
        }
    if (store)
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    return store;
}

static int check_chain(const struct ovf_cert *cert, STACK_OF(X509) * authorities, struct pl_err *e)
{
    X509_STORE *store = new_store(authorities);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509 *signer = sk_X509_value(cert->chain, 0);
    int result = -1;

    if (!store || !ctx || X509_STORE_CTX_init(ctx, store, signer, cert->chain) != 1)
        pl_fail(e, PL_E_NOMEM, "certificate: no memory to verify it");
    else if (X509_verify_cert(ctx) == 1)
        result = 0;
    else
        pl_fail(e, PL_E_MISMATCH, "certificate: %.200s is not known to the given authorities: %s",
                cert->subject, X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return result;
}

int ovf_cert_verify(const struct ovf_cert *cert, const char *manifest, size_t manifest_len,
                    const char *authorities, size_t authorities_len, struct pl_err *e)
{
    STACK_OF(X509) *known = read_certificates(authorities, authorities_len);
    int result;

    if (!known)
        return pl_fail(e, PL_E_INVALID, "the file of authorities has no certificate (PEM)");
    result = check_signature(cert, manifest, manifest_len, e);
    if (result == 0)
        result = check_chain(cert, known, e);
    sk_X509_pop_free(known, X509_free);
    return result;
}
