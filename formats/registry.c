/* registry.c - the one list of formats, and that of packages.  Order: the order of probing. */
#include "core/driver.h"
#include "core/package.h"

extern const struct pl_driver pl_qcow2, pl_qcow, pl_vmdk, pl_vdi, pl_vhd, pl_vhdx, pl_raw;
extern const struct pl_package_driver pl_ova, pl_ovf;

const struct pl_driver *const pl_drivers[] = {
    &pl_qcow2, &pl_qcow, &pl_vmdk, &pl_vdi, &pl_vhd, &pl_vhdx, &pl_raw, NULL,
};

const struct pl_package_driver *const pl_packages[] = { &pl_ova, &pl_ovf, NULL };
