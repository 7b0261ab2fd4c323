#!/usr/bin/env bash
# Sample images that other software made: VMDK and OVA.
set -u
# shellcheck source=tests/support/sample_images.sh
. "$SRCDIR/tests/support/sample_images.sh"
sample_images vmdk ova
