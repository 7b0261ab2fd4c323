/* fuzz_ovf.c - any bytes as an OVF descriptor, with files beside it. */
#include "tests/fuzz/packages.h"

extern const struct pl_package_driver pl_ovf;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exercise_package(&pl_ovf, data, size);
    return 0;
}
