#!/usr/bin/env bash
# Images that qemu-img and qemu-io made, of every pair of qcow2 features: platter reads the same
# bytes, finds nothing wrong, and says the same of them.
# shellcheck disable=SC2154 # matrix_row sets the variables of a row, run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
# shellcheck source=tests/support/qcow2_matrix.sh
. "$SRCDIR/tests/support/qcow2_matrix.sh"
needs qemu-img qemu-io python3 xz
same_json=$SRCDIR/tests/support/same_json.py

reads_same() { # IMAGE [-l SNAPSHOT]
    local image=$1
    shift
    rm -f got.raw
    must "$PLATTER" convert -t unsafe -f qcow2 "$@" -O raw "$image" got.raw && same_content wanted.raw got.raw
    must "$PLATTER" convert -f qcow2 "$@" -O raw "$image" - && same_content wanted.raw run.out
}

says_same() { # info|map
    qemu-img "$1" -f qcow2 --output=json image.qcow2 >theirs
    must "$PLATTER" "$1" -f qcow2 --output=json image.qcow2 || return
    "$same_json" "$1" theirs run.out || bad "$1 says something else"
}

make_image() {
    local snapshot_size=$size
    matrix_backing back || return
    matrix_create image.qcow2 back && matrix_fill image.qcow2 || return
    if matrix_has_snapshots; then
        qemu-img convert -f qcow2 -O raw image.qcow2 snapshot.raw
        truncate -s "$snapshot_size" snapshot.raw
        qemu-img snapshot -c first image.qcow2 && matrix_change image.qcow2 || return
    fi
    qemu-img convert -f qcow2 -O raw image.qcow2 wanted.raw
    qemu-img check -q -f qcow2 image.qcow2
}

row() {
    make_image >make.out 2>&1 || { bad "qemu-img could not make it: $(<make.out)"; return; }
    reads_same image.qcow2
    must "$PLATTER" check -f qcow2 image.qcow2
    says_same info
    says_same map
    must "$PLATTER" compare -f raw -F qcow2 wanted.raw image.qcow2
    [[ ! -f snapshot.raw ]] || { mv snapshot.raw wanted.raw; reads_same image.qcow2 -l first; }
}

while read -r line; do
    [[ $line ]] || continue
    matrix_row "$line"
    case_begin "$kind"
    row
    case_end
    matrix_clean
done <<<"$MATRIX"
finish
