#!/usr/bin/env bash
# qcow2 images that qemu-img and qemu-io made, of every pair of features, changed in place by
# platter: written onto with convert -n, grown and shrunk.  qemu-img finds nothing wrong afterwards
# and reads what was meant; a snapshot inside still has its old content.
# shellcheck disable=SC2154 # matrix_row sets the variables of a row, run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
# shellcheck source=tests/support/qcow2_matrix.sh
. "$SRCDIR/tests/support/qcow2_matrix.sh"
needs qemu-img qemu-io xz

make_image() {
    matrix_backing back || return
    matrix_create image.qcow2 back && matrix_fill image.qcow2 || return
    if matrix_has_snapshots; then
        qemu-img snapshot -c first image.qcow2 || return
        qemu-img convert -f qcow2 -l first -O raw image.qcow2 snapshot.raw
    fi
    make_content wanted.raw "$size" 3
    ((size < 1000448)) || dd if=/dev/zero of=wanted.raw bs=64K seek=3 count=2 conv=notrunc status=none
    qemu-img check -q -f qcow2 image.qcow2
}

is_as_wanted() { # WHAT
    qemu-img check -f qcow2 image.qcow2 >check.out 2>&1 ||
        bad "$1: qemu-img check: $(tail -n 5 check.out)"
    same "$1: size" "$(stat -c %s wanted.raw)" "$(qemu-img info -f qcow2 --output=json image.qcow2 |
        sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')"
    qemu-img compare -f raw -F qcow2 wanted.raw image.qcow2 >check.out 2>&1 ||
        bad "$1: qemu-img compare: $(<check.out)"
    must "$PLATTER" check -f qcow2 image.qcow2
    must "$PLATTER" compare -f raw -F qcow2 wanted.raw image.qcow2
    # qemu-img makes a raw data file that ends with a whole cluster
    [[ $data_file != raw ]] || cmp -s -n "$(stat -c %s wanted.raw)" image.qcow2.data wanted.raw ||
        bad "$1: the data file is another disk"
}

# qemu-img pads what it extracts to the current size, and cuts it.
snapshot_is_kept() {
    local at=$((size < $(stat -c %s wanted.raw) ? size : $(stat -c %s wanted.raw)))
    [[ -f snapshot.raw ]] || return 0
    qemu-img convert -f qcow2 -l first -O raw image.qcow2 now.raw
    cmp -s -n "$at" snapshot.raw now.raw || bad "the snapshot has changed"
    must "$PLATTER" convert -f qcow2 -l first -O raw image.qcow2 now.raw &&
        same_content snapshot.raw now.raw
}

overwrites() {
    local -a more=()
    [[ $codec == none ]] || more+=(-c)
    must "$PLATTER" convert -n -f raw -O qcow2 "${more[@]}" wanted.raw image.qcow2 || return
    is_as_wanted "convert -n"
    snapshot_is_kept
}

# qemu-img cannot give a version 2 image with snapshots another size, nor can anyone: the snapshot
# has no size of its own there.
can_resize() { [[ $compat != 0.10 || ! -f snapshot.raw ]]; }

resize_to() { # SIZE [OPTION]...
    must "$PLATTER" resize -f qcow2 "${@:2}" image.qcow2 "$1" || return
    truncate -s "$1" wanted.raw
    is_as_wanted "resize $*"
    snapshot_is_kept
}

resizes() {
    if ! can_resize; then
        refused 'snapshot' "$PLATTER" resize -f qcow2 image.qcow2 $((size + 512))
        return
    fi
    resize_to $((size + 1049088)) || return
    resize_to $((size + 1311744)) --preallocation "$preallocation" || return
    refused 'shrink' "$PLATTER" resize -f qcow2 image.qcow2 $((size / 2 / 512 * 512 + 512))
    resize_to $((size / 2 / 512 * 512 + 512)) --shrink || return
    resize_to $((size + 66048)) # what was cut off does not come back
}

while read -r line; do
    [[ $line ]] || continue
    matrix_row "$line"
    case_begin "$kind"
    if make_image >make.out 2>&1; then
        overwrites && resizes
    else
        bad "qemu-img could not make it: $(<make.out)"
    fi
    case_end
    matrix_clean
done <<<"$MATRIX"
finish
