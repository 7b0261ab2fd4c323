/* new_package.h - the package around a new image: an appliance with one disk. */
#ifndef PL_CORE_ENGINE_NEW_PACKAGE_H
#define PL_CORE_ENGINE_NEW_PACKAGE_H

#include "core/engine/new_image.h"

/* Begins the package in image->output, and in image->member the file of its one disk.  What was
 * begun before a failure is pl_new_image_abandon's. */
int pl_new_package_begin(struct pl_new_image *image, const struct pl_create_options *options,
                         struct pl_err *e) PL_CHECK;

/* The disk's image is complete, so is the package: closes the member, writes the rest. */
int pl_new_package_finish(struct pl_new_image *image, struct pl_err *e) PL_CHECK;

/* Opens the disk in the finished package, for reading, into image->img. */
int pl_new_package_open(struct pl_new_image *image, const struct pl_open_options *options,
                        struct pl_err *e) PL_CHECK;

#endif
