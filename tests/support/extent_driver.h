/* extent_driver.h - sparse VMDK extents as images of their own, for the rig: a driver over the
 * slots of an extent. */
#ifndef TESTS_SUPPORT_EXTENT_DRIVER_H
#define TESTS_SUPPORT_EXTENT_DRIVER_H

#include "formats/vmdk/extent.h"
#include "tests/support/rig.h"

/* create takes grain_size=, cowd=, zeroed_grain= and descriptor=.  open expects a rig, and takes
 * its extent_size for what the extent line says (0: the header's). */
extern const struct pl_driver extent_driver;

/* The open extent. */
static inline struct vmdk_extent *extent_of(const struct rig *rig)
{
    return rig->layer.state;
}

/* An extent grows only; the layer is not told. */
static inline int extent_resize(const struct rig *rig, uint64_t size, enum pl_prealloc how,
                                struct pl_err *e)
{
    return extent_of(rig)->ops->resize(extent_of(rig)->state, size, how, e);
}

#endif
