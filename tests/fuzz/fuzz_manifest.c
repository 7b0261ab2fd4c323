/* fuzz_manifest.c - any bytes as a manifest and as a certificate. */
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/ovf/cert.h"
#include "formats/ovf/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PL_FREE char *text = malloc(size + 1);
    struct ovf_manifest manifest;
    struct ovf_cert *cert;

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (ovf_manifest_parse(text, size, &manifest, NULL) == 0)
        for (size_t i = 0; i < manifest.count; i++)
            if (strlen(manifest.list[i].hex) != manifest.list[i].hex_len ||
                !ovf_manifest_has(&manifest, manifest.list[i].name))
                abort();
    ovf_manifest_free(&manifest);
    if (ovf_cert_parse(text, size, &cert, NULL) == 0) {
        if (ovf_cert_verify(cert, "", 0, text, size, NULL) == 0)
            abort(); /* nobody signed nothing */
        ovf_cert_free(cert);
    }
    return 0;
}
