/* fuzz_ova.c - any bytes as an OVA archive. */
#include "tests/fuzz/packages.h"

extern const struct pl_package_driver pl_ova;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exercise_package(&pl_ova, data, size);
    return 0;
}
