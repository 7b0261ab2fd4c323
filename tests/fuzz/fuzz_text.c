/* What users and scripts type: sizes, numbers, lists of options. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/options.h"
#include "core/base/scope.h"
#include "core/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct pl_options *options)
{
    static const char *const choices[] = { "off", "metadata", "full", NULL };
    uint64_t n = 0;
    unsigned choice = 0;
    bool flag = false;
    int failed = 0;

    failed += pl_options_size(options, "cluster_size", &n, NULL) < 0;
    failed += pl_options_number(options, "refcount_bits", 1, 64, &n, NULL) < 0;
    failed += pl_options_bool(options, "lazy_refcounts", &flag, NULL) < 0;
    failed += pl_options_choice(options, "preallocation", choices, &choice, NULL) < 0;
    failed += pl_options_check_all_known(options, "qcow2", NULL) < 0;
    if (failed == 0 && choice > 2)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PL_FREE char *text = malloc(size + 1);
    struct pl_options *options = pl_options_new();
    uint64_t n;

    if (text && options) {
        memcpy(text, data, size);
        text[size] = '\0';
        if (pl_parse_size(text, 1, &n, NULL) == 0 && n > INT64_MAX)
            abort();
        if (pl_parse_number(text, 3, 70, &n, NULL) == 0 && (n < 3 || n > 70))
            abort();
        if (pl_options_add(options, text, NULL) == 0)
            ask(options);
    }
    pl_options_free(options);
    return 0;
}
