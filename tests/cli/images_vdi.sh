#!/usr/bin/env bash
# Sample images that other software made: VDI, and broken ones of every format.
set -u
# shellcheck source=tests/support/sample_images.sh
. "$SRCDIR/tests/support/sample_images.sh"
sample_images vdi malformed
