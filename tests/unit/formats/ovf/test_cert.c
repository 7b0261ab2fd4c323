/* test_cert.c - signed packages, with keys and certificates made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/base/text.h"
#include "formats/ovf/cert.h"
#include "tests/support/images.h"
#include "tests/unit/formats/ovf/packages.h"

#define MANIFEST "SHA1(vm.ovf)= da39a3ee5e6b4b0d3255bfef95601890afd80709\n"

struct holder {
    EVP_PKEY *key;
    X509 *certificate;
};

/* A certificate for a new key, signed by `issuer` (null: by itself), valid for `days`. */
static struct holder new_holder(const char *name, const struct holder *issuer, long days)
{
    struct holder holder = { EVP_RSA_gen(2048), X509_new() };
    X509_NAME *subject = X509_get_subject_name(holder.certificate);
    X509_EXTENSION *may_sign =
        X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

    X509_set_version(holder.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(holder.certificate), issuer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(holder.certificate), -100 * 86400);
    X509_gmtime_adj(X509_getm_notAfter(holder.certificate), days * 86400);
    X509_set_pubkey(holder.certificate, holder.key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(holder.certificate,
                         X509_get_subject_name(issuer ? issuer->certificate : holder.certificate));
    if (!issuer)
        X509_add_ext(holder.certificate, may_sign, -1);
    X509_EXTENSION_free(may_sign);
    assert_true(X509_sign(holder.certificate, issuer ? issuer->key : holder.key, EVP_sha256()) > 0);
    return holder;
}

static void drop(struct holder *holder)
{
    EVP_PKEY_free(holder->key);
    X509_free(holder->certificate);
}

static char *pem_of(const struct holder *holder)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text, *copy;

    assert_int_equal(PEM_write_bio_X509(bio, holder->certificate), 1);
    copy = strndup(text, (size_t)BIO_get_mem_data(bio, &text));
    BIO_free(bio);
    return copy;
}

/* The content of a .cert file over `manifest`. */
static char *signed_by(const struct holder *holder, const char *manifest)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[512];
    char hex[1025], *pem = pem_of(holder), *text;
    size_t len = sizeof signature;

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, holder->key), 1);
    assert_int_equal(
        EVP_DigestSign(ctx, signature, &len, (const uint8_t *)manifest, strlen(manifest)), 1);
    EVP_MD_CTX_free(ctx);
    assert_true(asprintf(&text, "SHA256(vm.mf)= %s\n%s", pl_format_hex(signature, len, hex), pem) >
                0);
    free(pem);
    return text;
}

static int verify(const char *cert_text, const char *manifest, const char *authorities,
                  struct pl_err *why)
{
    struct ovf_cert *cert;
    int result;

    OK(ovf_cert_parse(cert_text, strlen(cert_text), &cert, &e));
    result =
        ovf_cert_verify(cert, manifest, strlen(manifest), authorities, strlen(authorities), why);
    ovf_cert_free(cert);
    return result;
}

static void a_signature_needs_a_known_signer(void **state)
{
    struct holder authority = new_holder("Authority", NULL, 100);
    struct holder other = new_holder("Other", NULL, 100);
    struct holder signer = new_holder("Sign\xc3\xa9r, Inc", &authority, 100);
    char *cert = signed_by(&signer, MANIFEST), *known = pem_of(&authority);
    char *unknown = pem_of(&other), *own = pem_of(&signer);
    struct ovf_cert *parsed;

    (void)state;
    OK(ovf_cert_parse(cert, strlen(cert), &parsed, &e));
    assert_string_equal(ovf_cert_subject(parsed), "CN=Sign\xc3\xa9r\\, Inc");
    ovf_cert_free(parsed);
    OK(verify(cert, MANIFEST, known, &e));
    OK(verify(cert, MANIFEST, own, &e));
    FAILS(PL_E_MISMATCH, "not known to the given authorities", verify(cert, MANIFEST, unknown, &e));
    FAILS(PL_E_MISMATCH, "is not what CN=", verify(cert, MANIFEST "\n", known, &e));
    FAILS(PL_E_INVALID, "no certificate", verify(cert, MANIFEST, "none", &e));
    free(cert);
    free(known);
    free(unknown);
    free(own);
    drop(&authority);
    drop(&other);
    drop(&signer);
}

static void an_old_certificate_is_refused(void **state)
{
    struct holder authority = new_holder("Authority", NULL, 100);
    struct holder signer = new_holder("Signer", &authority, -1);
    char *cert = signed_by(&signer, MANIFEST), *known = pem_of(&authority);

    (void)state;
    FAILS(PL_E_MISMATCH, "expired", verify(cert, MANIFEST, known, &e));
    free(cert);
    free(known);
    drop(&authority);
    drop(&signer);
}

static void refuses(enum pl_kind kind, const char *why, const char *text)
{
    struct ovf_cert *cert;

    FAILS(kind, why, ovf_cert_parse(text, strlen(text), &cert, &e));
}

static void wrong_files_are_refused(void **state)
{
    struct holder signer = new_holder("Signer", NULL, 100);
    char *pem = pem_of(&signer), *text;

    (void)state;
    refuses(PL_E_CORRUPT, "no certificate", "");
    refuses(PL_E_CORRUPT, "no certificate",
            "SHA1(a)= 00\n-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n");
    refuses(PL_E_CORRUPT, "no certificate",
            "SHA1(a)= 00\n-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
            "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"
            "-----END CERTIFICATE-----\n");
    refuses(PL_E_CORRUPT, "no signature", pem);
    assert_true(asprintf(&text, "SHA1(a)= 0g\n%s", pem) > 0);
    refuses(PL_E_CORRUPT, "not hexadecimal", text);
    free(text);
    assert_true(asprintf(&text, "SHA1(a)= 0\n%s", pem) > 0);
    refuses(PL_E_CORRUPT, "1 digits", text);
    free(text);
    assert_true(asprintf(&text, "MD5(a)= 00\n%s", pem) > 0);
    refuses(PL_E_UNSUPPORTED, "MD5", text);
    free(text);
    free(pem);
    drop(&signer);
}

/* A signed package whose manifest is `manifest`, verified with the signer's authority. */
static int verify_package(const char *manifest, bool with_cert, struct pl_err *why)
{
    struct holder signer = new_holder("Signer", NULL, 100);
    char *cert = signed_by(&signer, manifest), *known = pem_of(&signer);
    struct tar *tar = tar_begin(ARCHIVE_FORMAT_TAR_USTAR);
    struct pl_package_open_args args = { 0 };
    char *facts;
    void *package;
    int result;

    tar_text(tar, "vm.ovf", SMALL_OVF);
    tar_text(tar, "vm.mf", manifest);
    tar_text(tar, "disk.vmdk", "x");
    if (with_cert)
        tar_text(tar, "vm.cert", cert);
    args.file = tar_end(tar);
    args.authorities = named("known.pem", known, strlen(known));
    OK(pl_ova.open(&args, &package, &e));
    facts = facts_of(&pl_ova, package);
    if (with_cert)
        HAS(facts, ".signer=CN=Signer");
    result = pl_ova.verify(package, PL_PACKAGE_ALL, NULL, why);
    pl_ova.close(package);
    pl_storage_close(args.file, NULL);
    pl_storage_close(args.authorities, NULL);
    free(facts);
    free(cert);
    free(known);
    drop(&signer);
    return result;
}

static void a_signed_package_lists_all_its_files(void **state)
{
    (void)state;
    FAILS(PL_E_NOT_FOUND, "not signed", verify_package(MANIFEST, false, &e));
    FAILS(PL_E_MISMATCH, "disk.vmdk: the signed manifest has no digest",
          verify_package(MANIFEST, true, &e));
    FAILS(PL_E_MISMATCH, "vm.ovf: the signed manifest has no digest",
          verify_package("SHA1(disk.vmdk)= 11f6ad8ec52a2984abaafd7c3b516503785c2072\n", true, &e));
    FAILS(PL_E_MISMATCH, "vm.ovf: its sha1 is",
          verify_package(MANIFEST "SHA1(disk.vmdk)= 11f6ad8ec52a2984abaafd7c3b516503785c2072\n",
                         true, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signature_needs_a_known_signer),
        cmocka_unit_test(an_old_certificate_is_refused),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(a_signed_package_lists_all_its_files),
    };

    return cmocka_run_group_tests_name("OVF certificates", tests, NULL, NULL);
}
