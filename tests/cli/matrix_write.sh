#!/usr/bin/env bash
# Images that platter makes, of every pair of qcow2 features: qemu-img finds nothing wrong with them
# and reads the same bytes, so does libqcow where it knows the features; the bytes of the file
# depend on the content and the options alone.
# shellcheck disable=SC2154 # matrix_row sets the variables of a row, run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
# shellcheck source=tests/support/qcow2_matrix.sh
. "$SRCDIR/tests/support/qcow2_matrix.sh"
needs qemu-img python3 xz
same_json=$SRCDIR/tests/support/same_json.py

# What the backing file and the new image have in common is most of it, but not all.
make_sources() {
    make_content content.raw "$size" 5
    [[ ! $backing_format ]] || matrix_backing back
    ((size >= 1000448)) || return 0
    noise 5000 9 | dd of=content.raw bs=5000 seek=40 conv=notrunc status=none
    dd if=/dev/zero of=content.raw bs=1000 seek=300 count=150 conv=notrunc status=none
}

qemu_agrees() { # IMAGE RAW
    qemu-img check -f qcow2 "$1" >check.out 2>&1 || bad "qemu-img check: $(tail -n 5 check.out)"
    qemu-img compare -f raw -F qcow2 "$2" "$1" >check.out 2>&1 ||
        bad "qemu-img compare: $(<check.out)"
}

libqcow_knows() {
    [[ $codec != zstd && $extended_l2 == off && $data_file == none && $backing == none ]] &&
        ((size > 0 && libqcow))
}

libqcow_agrees() { # IMAGE RAW
    mkdir -p mounted
    qcowmount "$1" mounted >mount.out 2>&1 || { bad "qcowmount: $(<mount.out)"; return; }
    cmp -s mounted/qcow1 "$2" || bad "libqcow reads something else"
    fusermount -u mounted 2>/dev/null || umount mounted
}

converts() {
    local -a more=()
    [[ ! $backing_format ]] || more+=(-B back -F "$backing_format")
    [[ $codec == none ]] || more+=(-c)
    must "$PLATTER" convert -f raw -O qcow2 -o "$(matrix_options image.qcow2.data)" "${more[@]}" \
        content.raw image.qcow2 || return
    qemu_agrees image.qcow2 content.raw
    must "$PLATTER" check -f qcow2 image.qcow2
    ! libqcow_knows || libqcow_agrees image.qcow2 content.raw
    [[ $data_file != raw ]] || same_content image.qcow2.data content.raw
    "$PLATTER" convert -f qcow2 -O raw image.qcow2 - | cmp -s - content.raw || bad "platter reads something else"
}

# An empty image is that of qemu-img, as far as anyone can see.
creates() {
    local -a more=()
    [[ ! $backing_format ]] || more=(-b back -F "$backing_format")
    must "$PLATTER" create -f qcow2 -o "$(matrix_options new.qcow2.data)" "${more[@]}" \
        new.qcow2 "$size" || return
    truncate -s "$size" zero.raw
    [[ ! $backing_format ]] || dd if=backing.raw of=zero.raw bs=64K iflag=count_bytes \
        count="$((size < backing_size ? size : backing_size))" conv=notrunc status=none
    qemu_agrees new.qcow2 zero.raw
    mkdir -p qemu && (cd qemu && ln -sf ../back ../backing.raw . && matrix_create new.qcow2 back)
    (cd qemu && qemu-img info --output=json new.qcow2) >theirs
    qemu-img info --output=json new.qcow2 >ours
    "$same_json" info theirs ours || bad "qemu-img says something else of it"
    rm -rf qemu
    if [[ $preallocation == f* && $data_file == none ]]; then
        (($(stat -c %b new.qcow2) * 512 >= size)) || bad "no room was made"
    fi
}

libqcow=1
if ! command -v qcowmount >/dev/null || [[ ! -r /dev/fuse ]]; then
    libqcow=0
    skip "qcowmount cannot run: libqcow does not look at the images"
fi
while read -r line; do
    [[ $line ]] || continue
    matrix_row "$line"
    case_begin "$kind"
    make_sources && converts && creates
    case_end
    matrix_clean
done <<<"$MATRIX"

# ---- the same input gives the same file ---------------------------------------------------------
same_for_any_workers() { # OPTION...
    local n
    rm -f -- with.*
    for n in 1 2 7; do
        must "$PLATTER" convert -m "$n" "$@" with."$n" || return
    done
    cmp with.1 with.2 && cmp with.1 with.7 || bad "the files differ"
}
same_twice() { # OPTION...
    must "$PLATTER" convert --reproducible "$@" with.1 && sleep 1.1 &&
        must "$PLATTER" convert --reproducible "$@" with.2 && same_content with.1 with.2
}
make_content big.raw 8388608
qemu-img convert -c -O qcow2 big.raw packed.qcow2
qemu-img create -q -f qcow2 -b packed.qcow2 -F qcow2 over.qcow2
make_content other.raw 8388608 2
for options in '-f raw -O qcow2 big.raw' '-f raw -O qcow2 -c big.raw' \
    '-f raw -O qcow2 -c -o compression_type=zstd big.raw' '-O qcow2 -c packed.qcow2' \
    '-O qcow2 -o cluster_size=4096 packed.qcow2' '-O qcow2 -c -o cluster_size=2M over.qcow2' \
    '-f raw -O qcow2 -o extended_l2=on,cluster_size=128k big.raw' \
    '-f raw -O qcow2 -S 0 big.raw' '-f raw -O qcow2 -B packed.qcow2 -F qcow2 other.raw' \
    '-O raw over.qcow2'; do
    read -r -a words <<<"$options"
    it "1, 2 and 7 workers write the same: $options" same_for_any_workers "${words[@]}"
done
it "--reproducible gives the same file later" same_twice -f raw -O qcow2 -c big.raw
finish
