#!/usr/bin/env bash
# Sample images that other software made: VHD and VHDX.
set -u
# shellcheck source=tests/support/sample_images.sh
. "$SRCDIR/tests/support/sample_images.sh"
sample_images vhd vhdx
