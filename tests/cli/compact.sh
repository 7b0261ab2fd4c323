#!/usr/bin/env bash
# `platter compact` gives the room of zeros back and changes nothing that the guest sees.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs python3 xz

SIZE=24117760

# Noise, of which some is overwritten with zeros: whole MiB and odd pieces.
make_contents() {
    noise $SIZE 3 >full.raw
    truncate -s $SIZE full.raw
    cp full.raw zeroed.raw
    local range
    for range in 0,1048576 3145728,8388608 12582912,5000 15728640,3000320 23068672,1049088; do
        dd if=/dev/zero of=zeroed.raw bs=64K iflag=count_bytes oflag=seek_bytes conv=notrunc \
            status=none seek="${range%,*}" count="${range#*,}"
    done
    must "$PLATTER" convert -f raw -O qcow2 -o preallocation=off zeroed.raw model.qcow2
}
make_contents

blocks_of() { stat -c %b "$1"; } # FILE

member() { # NAME: of run.out
    python3 -c 'import json, sys; print(json.load(open("run.out"))[sys.argv[1]])' "$1"
}

# The zeros are in the file as bytes: written over the noise, where the format does not notice.
fill() { # FORMAT IMAGE OPTIONS
    must "$PLATTER" convert -S 0 -f raw -O "$1" -o "$3" zeroed.raw "$2"
}

compacts() { # FORMAT OPTIONS SHORTER
    rm -f image
    fill "$1" image "$2"
    local blocks size
    blocks=$(blocks_of image) size=$(stat -c %s image)
    must "$PLATTER_ASAN" compact -f "$1" --output=json image || return
    (($(member zeros) >= 9 << 20)) || bad "only $(member zeros) bytes given back"
    ((blocks - $(blocks_of image) >= 9 << 11)) ||
        bad "the file has $(blocks_of image) blocks, it had $blocks"
    (($(member actual-size-freed) == (blocks - $(blocks_of image)) * 512)) ||
        bad "actual-size-freed: $(member actual-size-freed)"
    same "file-size-freed" "$((size - $(stat -c %s image)))" "$(member file-size-freed)"
    [[ $3 == no ]] || (($(member file-size-freed) >= 9 << 20)) || bad "the file is not shorter"
    must "$PLATTER" compare -f "$1" -F qcow2 image model.qcow2
    [[ $1 == raw ]] || must "$PLATTER" check -f "$1" image
    must "$PLATTER" compact -f "$1" --output=json image
    same "zeros of a second run" 0 "$(member zeros)"
}

it "raw" compacts raw preallocation=off no
it "qcow2" compacts qcow2 compat=1.1 no
it "qcow2 with subclusters" compacts qcow2 extended_l2=on,cluster_size=128k no
it "qcow2 of version 2" compacts qcow2 compat=0.10 no
it "vdi" compacts vdi static=off yes
it "vdi in small blocks" compacts vdi block_size=64k yes
it "vhd" compacts vhd subformat=dynamic,block_size=1M yes
it "vhdx" compacts vhdx subformat=dynamic,block_size=1M yes

static_vdi() {
    rm -f image
    fill vdi image static=on
    local size
    size=$(stat -c %s image)
    must "$PLATTER" compact -f vdi image
    same "size" "$size" "$(stat -c %s image)"
    must "$PLATTER" compare -f vdi -F qcow2 image model.qcow2
    ! command -v qemu-img >/dev/null || must qemu-img check -f vdi image
}
it "a static vdi keeps its places" static_vdi

# Zeros over a parent are not the parent's data again.
over_parent() { # FORMAT
    rm -f base child
    must "$PLATTER" convert -f raw -O "$1" full.raw base
    must "$PLATTER" create -f "$1" -b base -F "$1" child
    cp child empty
    must "$PLATTER" convert -n -S 0 -f raw -O "$1" zeroed.raw child
    local before after
    before=$(digest_of base)
    must "$PLATTER" compact -f "$1" child
    after=$(digest_of base)
    same "the parent" "$before" "$after"
    must "$PLATTER" compare -f "$1" -F qcow2 child model.qcow2
    must "$PLATTER" compact -f "$1" --output=json empty
    same "zeros of an empty child" 0 "$(member zeros)"
}
it "qcow2 over a parent" over_parent qcow2
it "vdi over a parent" over_parent vdi
it "vhd over a parent" over_parent vhd
it "vhdx over a parent" over_parent vhdx

says() {
    rm -f image
    fill vdi image static=off
    must "$PLATTER" compact image
    grep -qE "^Image compacted: [0-9.]+ MiB of zeros given back, [0-9.]+ MiB of room freed\.$" run.out ||
        bad "$(<run.out)"
    must "$PLATTER" compact -q image
    [[ ! -s run.out ]] || bad "-q printed $(<run.out)"
    must "$PLATTER" compact -p image
    grep -q "(100.00/100%)" run.out || bad "no progress: $(<run.out)"
}
it "what it says" says

it "no image" refused "expecting one image" "$PLATTER" compact
it "a missing image" refused "No such file" "$PLATTER" compact nothing.vdi
read_only() {
    [[ -n ${IMAGES:-} ]] || return 0
    local sample
    sample=$(find "$IMAGES/qcow" -type f | head -n 1)
    cp "$sample" sample.qcow
    refused "not supported" "$PLATTER" compact sample.qcow
}
it "a format that is only read" read_only

finish
