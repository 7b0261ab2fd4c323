#!/usr/bin/env bash
# VDI images that platter makes are sound and hold the same bytes for qemu-img, and the reverse;
# children find their parents by UUID; copies have UUIDs of their own.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz

qemu_agrees() { # IMAGE RAW
    qemu-img check -f vdi "$1" >check.out 2>&1 || bad "qemu-img check: $(tail -n 5 check.out)"
    qemu-img compare -f raw -F vdi "$2" "$1" >check.out 2>&1 ||
        bad "qemu-img compare: $(<check.out)"
}

we_agree() { # IMAGE RAW
    must "$PLATTER" check "$1"
    must "$PLATTER" compare -f vdi -F raw "$1" "$2"
}

fact() { # IMAGE NAME: of the format's own
    "$PLATTER" info --output=json "$1" | python3 -c '
import json, sys
print(json.load(sys.stdin)["format-specific"]["data"].get(sys.argv[1], ""))' "$2"
}

# ---- both ways ----
converts() { # SIZE OPTIONS
    make_content content.raw "$1" 3
    must "$PLATTER" convert -f raw -O vdi -o "$2" content.raw image.vdi || return
    qemu_agrees image.vdi content.raw
    we_agree image.vdi content.raw
    must "$PLATTER_ASAN" convert --verify -f raw -O vdi -o "$2" content.raw image2.vdi
    must "$PLATTER" convert -f vdi -O raw image.vdi out.raw
    cmp -n "$1" out.raw content.raw >cmp.out 2>&1 || bad "$(<cmp.out)"
}

reads() { # SIZE OPTIONS
    make_content content.raw "$1" 4
    rm -f image.vdi
    qemu-img convert -f raw -O vdi -o "$2" content.raw image.vdi || bad "qemu-img convert"
    we_agree image.vdi content.raw
    must "$PLATTER" convert -f vdi -O vdi image.vdi image2.vdi
    qemu_agrees image2.vdi content.raw
    must "$PLATTER" convert -f vdi -O qcow2 image.vdi image.qcow2
    must "$PLATTER" compare -f vdi -F qcow2 image.vdi image.qcow2
}

for size in 512 1000 1048576 1049088 6292992 20000256; do
    for static in off on; do
        it "$size bytes, static=$static, read by qemu-img" converts "$size" static=$static
        it "$size bytes, static=$static, by qemu-img" reads "$size" static=$static
    done
done

preallocates() { # MODE
    make_content content.raw 5000192 3
    must "$PLATTER" convert -f raw -O vdi -o preallocation="$1" content.raw image.vdi
    qemu_agrees image.vdi content.raw
    same "subformat" static "$(fact image.vdi subformat)"
}
it "preallocation=metadata makes a static image" preallocates metadata
it "preallocation=falloc makes a static image" preallocates falloc
it "preallocation=full makes a static image" preallocates full

other_blocks() { # BLOCK-SIZE: qemu-img reads 1 MiB only
    make_content content.raw 6292992 3
    must "$PLATTER" convert -f raw -O vdi -o block_size="$1" content.raw image.vdi
    we_agree image.vdi content.raw
    same "block size" "$2" "$(fact image.vdi block-size)"
}
it "blocks of 512 bytes" other_blocks 512 512
it "blocks of 64 KiB" other_blocks 64k 65536
it "blocks of 16 MiB" other_blocks 16M 16777216

empty() {
    must "$PLATTER" create -f vdi empty.vdi 3G
    truncate -s 3G zero.raw
    qemu_agrees empty.vdi zero.raw
    [[ $(stat -c %b empty.vdi) -lt 64 ]] || bad "an empty image takes $(stat -c %b empty.vdi) blocks"
    same "allocated" 0 "$(fact empty.vdi allocated-blocks)"
}
it "an empty image is small" empty

# ---- changes ----
overwrites() { # OPTIONS
    make_content content.raw 9000448 5
    make_content other.raw 9000448 6
    rm -f image.vdi
    qemu-img convert -f raw -O vdi -o "$1" content.raw image.vdi || bad "qemu-img convert"
    must "$PLATTER" convert -n -f raw -O vdi other.raw image.vdi
    we_agree image.vdi other.raw
    [[ $1 == static=off ]] && must "$PLATTER" check -r all image.vdi
    qemu_agrees image.vdi other.raw
}
it "an image of qemu-img is written over" overwrites static=off
it "a static image of qemu-img is written over" overwrites static=on

qemu_writes() {
    make_content content.raw 9000448 5
    must "$PLATTER" convert -f raw -O vdi content.raw image.vdi
    qemu-io -f vdi -c "write -P 7 5242880 4000" -c "write -P 8 8999936 512" image.vdi >io.out 2>&1 ||
        bad "qemu-io: $(<io.out)"
    qemu-io -f raw -c "write -P 7 5242880 4000" -c "write -P 8 8999936 512" content.raw >io.out 2>&1
    we_agree image.vdi content.raw
}
it "qemu-io writes to our image" qemu_writes

resizes() { # OPTIONS
    make_content content.raw 5000192 5
    must "$PLATTER" convert -f raw -O vdi -o "$1" content.raw image.vdi
    must "$PLATTER" resize image.vdi 12M
    truncate -s 12M content.raw
    qemu_agrees image.vdi content.raw
    must "$PLATTER" resize --shrink image.vdi 3000832
    truncate -s 3000832 content.raw
    qemu_agrees image.vdi content.raw
    must "$PLATTER" resize image.vdi 2T # the map moves
    truncate -s 2T content.raw
    must "$PLATTER" check image.vdi
    qemu-img check -f vdi image.vdi >check.out 2>&1 || bad "qemu-img check: $(<check.out)"
    must "$PLATTER" compare -f vdi -F raw image.vdi content.raw
    refused "shrink" "$PLATTER" resize image.vdi 1M
}
it "a dynamic image is resized" resizes static=off

resizes_static() {
    make_content content.raw 5000192 5
    must "$PLATTER" convert -f raw -O vdi -o static=on content.raw image.vdi
    must "$PLATTER" resize image.vdi 12M
    truncate -s 12M content.raw
    qemu_agrees image.vdi content.raw
    same "allocated" 12 "$(fact image.vdi allocated-blocks)"
}
it "a static image is resized" resizes_static

no_gaps() { # BLOCKS THAT BECOME ZEROS, THOSE LEFT
    noise 6000128 8 >content.raw && truncate -s 6000128 content.raw
    must "$PLATTER" convert -f raw -O vdi content.raw image.vdi
    local block size
    for block in $1; do
        dd if=/dev/zero of=content.raw bs=1M seek="$block" count=1 conv=notrunc status=none
    done
    truncate -s 6000128 content.raw
    size=$(stat -c %s image.vdi)
    must "$PLATTER" convert -n -f raw -O vdi content.raw image.vdi
    qemu_agrees image.vdi content.raw
    we_agree image.vdi content.raw
    same "allocated" "$2" "$(fact image.vdi allocated-blocks)"
    (($(stat -c %s image.vdi) == size - (6 - $2) * 1048576)) || bad "the file keeps the room"
}
it "blocks that become zeros leave no gaps" no_gaps "1 3" 4
it "the last blocks become zeros" no_gaps "4 5" 4
it "all blocks become zeros" no_gaps "0 1 2 3 4 5" 0

# ---- identifiers ----
uuids() {
    make_content content.raw 2000384 5
    must "$PLATTER" convert -f raw -O vdi content.raw one.vdi
    must "$PLATTER" convert -O vdi one.vdi two.vdi
    [[ $(fact one.vdi uuid) != "$(fact two.vdi uuid)" ]] || bad "a copy has the same UUID"
    must "$PLATTER" convert -O vdi -o "uuid=$(fact one.vdi uuid)" one.vdi three.vdi
    same "UUID" "$(fact one.vdi uuid)" "$(fact three.vdi uuid)"
    must "$PLATTER" convert -m 1 --reproducible -O vdi one.vdi a.vdi
    must "$PLATTER" convert -m 8 --reproducible -O vdi one.vdi b.vdi
    same_content a.vdi b.vdi
    printf x | dd of=content.raw conv=notrunc status=none
    must "$PLATTER" convert --reproducible -f raw -O vdi content.raw c.vdi
    [[ $(fact a.vdi uuid) != "$(fact c.vdi uuid)" ]] || bad "other content, the same UUID"
}
it "copies get UUIDs of their own, unless asked otherwise" uuids

# ---- children ----
make_chain() { # four layers, each with a sector of its own
    rm -rf chain
    mkdir chain
    make_content content.raw 5000192 7
    must "$PLATTER" convert -f raw -O vdi content.raw chain/layer0.vdi
    local i
    for i in 1 2 3; do
        must "$PLATTER" create -f vdi -b "layer$((i - 1)).vdi" -F vdi "chain/layer$i.vdi"
        printf "layer %d" $i | dd of=content.raw bs=1 seek=$((i * 900000)) conv=notrunc status=none
        truncate -s 5000192 content.raw
        must "$PLATTER" convert -n -f raw -O vdi content.raw "chain/layer$i.vdi"
    done
}

reads_chain() {
    make_chain
    must "$PLATTER" compare -f vdi -F raw chain/layer3.vdi content.raw
    mv chain/layer1.vdi chain/"another name"
    must "$PLATTER" compare -f vdi -F raw chain/layer3.vdi content.raw
    mkdir chain/apart
    cp chain/layer3.vdi chain/apart
    rm -f out.raw
    refused "no file in its folder has the identity uuid:" \
        "$PLATTER" convert -O raw chain/apart/layer3.vdi out.raw
    [[ ! -e out.raw ]] || bad "zeros instead of the parent's data"
}
it "children find their parents by UUID" reads_chain

warns() {
    make_chain
    must "$PLATTER" info chain/layer1.vdi
    [[ ! -s run.err ]] || bad "warned: $(<run.err)"
    must "$PLATTER" convert -n -f raw -O vdi content.raw chain/layer0.vdi
    must "$PLATTER" convert -O raw chain/layer1.vdi out.raw
    grep -q "layer0.vdi was changed after it was made from it" run.err ||
        bad "no warning: $(<run.err)"
}
it "a parent that was modified earns a warning" warns

sparse_child() { # what equals the parent is not in the child
    make_chain
    must "$PLATTER" convert -O vdi -B layer2.vdi -F vdi chain/layer3.vdi chain/layer4.vdi
    must "$PLATTER" compare -f vdi -F raw chain/layer4.vdi content.raw
    same "allocated" 1 "$(fact chain/layer4.vdi allocated-blocks)"
}
it "a child holds what differs" sparse_child

loops() {
    make_chain
    # layer0 becomes a child of layer2
    python3 - <<'PYTHON'
a, b = open("chain/layer0.vdi", "r+b"), open("chain/layer2.vdi", "rb")
b.seek(392)
uuid = b.read(16)
a.seek(76)
a.write(b"\4\0\0\0")
a.seek(424)
a.write(uuid)
PYTHON
    LIMIT_SECONDS=10 refused "no file in its folder|already in the chain" \
        "$PLATTER" convert -O raw chain/layer3.vdi out.raw
}
it "a chain that comes back to itself is refused" loops

it "a raw parent is refused" refused "only a VDI image can be its parent" \
    "$PLATTER" create -f vdi -b content.raw -F raw child.vdi
it "a parent that is not there is refused" refused "No such file|UUID of its parent" \
    "$PLATTER" create -u -f vdi -b missing.vdi -F vdi child.vdi 1M

# ---- defects ----
mends() {
    make_content content.raw 5000192 7
    must "$PLATTER" convert -f raw -O vdi content.raw image.vdi
    printf '\0\0\0\1' | dd of=image.vdi bs=1 seek=$((1 << 20)) conv=notrunc status=none
    run "$PLATTER" check image.vdi
    same "status" 2 "$status"
    refused "past the end of the file" "$PLATTER" convert -O raw image.vdi out.raw
    refused "not changed" "$PLATTER" convert -n -f raw -O vdi content.raw image.vdi
    must "$PLATTER" check -r all image.vdi
    qemu-img check -f vdi image.vdi >check.out 2>&1 || bad "qemu-img check: $(<check.out)"
    must "$PLATTER" convert -n -f raw -O vdi content.raw image.vdi
    qemu_agrees image.vdi content.raw
}
it "an entry past the end of the file is found and mended" mends

big() {
    local in_little_memory=(bash -c 'ulimit -v 200000 && exec "$@"' -)
    must "$PLATTER" create -f vdi big.vdi 15T
    must "${in_little_memory[@]}" "$PLATTER" info big.vdi
    must "${in_little_memory[@]}" "$PLATTER" check big.vdi
    truncate -s 15T big.raw
    printf end | dd of=big.raw bs=1 seek=$(((15 << 40) - 512)) conv=notrunc status=none
    must "${in_little_memory[@]}" "$PLATTER" convert -m 2 -n -f raw -O vdi big.raw big.vdi
    same "allocated" 1 "$(fact big.vdi allocated-blocks)"
    rm -f big.vdi
    refused "block_size" "$PLATTER" create -f vdi big.vdi 2P
}
it "15 TiB need little memory" big

finish
