#!/usr/bin/env bash
# Sample images that other software made: raw, qcow and qcow2.
set -u
# shellcheck source=tests/support/sample_images.sh
. "$SRCDIR/tests/support/sample_images.sh"
sample_images raw qcow qcow2 other
