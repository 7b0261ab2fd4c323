#!/usr/bin/env bash
# Children of VMDK and VDI disks get other parents, none, or lose what they have to their parent: all
# read the same before and after, for qemu-img and libvmdk too.
# shellcheck disable=SC2154 # run sets $status
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
# shellcheck source=tests/support/parents.sh
. "$SRCDIR/tests/support/parents.sh"
needs python3 qemu-img
for command in commit rebase; do
    "$PLATTER" --help | grep -q "^ *$command " || { echo "there is no $command"; exit 77; }
done
libvmdk=1
command -v vmdkinfo >/dev/null || { libvmdk=0; skip "vmdkinfo is not installed"; }

SIZE=3000320 # the last grain and the last block are short

# FILE LAYER: changes to a raw disk, bytes and zeros, which depend on the layer alone.
change() {
    python3 - "$@" <<'PYTHON'
import random, sys
name, layer = sys.argv[1], int(sys.argv[2])
source = random.Random(layer)
with open(name, "r+b") as disk:
    size = disk.seek(0, 2)
    for turn in range(10):
        length = source.choice([512, 3000, 70000])
        disk.seek(source.randrange(size - length))
        disk.write([source.randbytes(length), bytes(length)][turn % 2])
PYTHON
}
make_layers "$SIZE"

same_disk() { # FORMAT LAYER RAW
    must "$PLATTER" compare -q -f raw -F "$1" "../$3.raw" "$2.$1"
    must "$PLATTER" check -q "$2.$1"
    [[ $1 == vmdk ]] || return 0
    must qemu-img compare -q -f raw -F vmdk "../$3.raw" "$2.vmdk"
    must qemu-img check -q "$2.vmdk"
    # it does not know version 2 of the header
    ((libvmdk)) && [[ $options != *zeroed* ]] && must vmdkinfo "$2.vmdk"
}
chain_agrees() { # FORMAT LAYER WANTED...: for qemu-img, too
    chain_is "$@"
    [[ $1 == vmdk ]] || return 0
    must qemu-img info --backing-chain "$2.vmdk"
    is "${*:3}" "$(sed -n 's/^image: //p' run.out | sed 's/\.vmdk//' | xargs)" || bad "another chain for qemu-img"
}

to_others() { # FORMAT OPTIONS
    local options=$2
    begin "$1" "$2"
    must "$PLATTER" rebase -F "$1" -b "1.$1" "3.$1" && same_disk "$1" 3 3 && chain_agrees "$1" 3 3 1 0
    must "$PLATTER" rebase -F "$1" -b "other.$1" "3.$1" && same_disk "$1" 3 3 &&
        chain_agrees "$1" 3 3 other
    must "$PLATTER" rebase -b "" "3.$1" && same_disk "$1" 3 3 && chain_agrees "$1" 3 3
    must "$PLATTER" rebase -F "$1" -b "2.$1" "3.$1" && same_disk "$1" 3 3 && chain_agrees "$1" 3 3 2 1 0
    same_disk "$1" 2 2
    cd ..
}
flattened() { # FORMAT OPTIONS
    local options=$2
    begin "$1" "$2"
    must "$PLATTER" rebase -b "" "2.$1" && rm -f 0* 1* && same_disk "$1" 2 2 && same_disk "$1" 3 3
    [[ $2 == block_size=64k ]] && { cd ..; return; } # it knows blocks of 1 MiB alone
    must qemu-img compare -q -f raw -F "$1" ../2.raw "2.$1"
    must qemu-img check -q "2.$1"
    chain_agrees "$1" 3 3 2
    cd ..
}
committed() { # FORMAT OPTIONS
    local options=$2 size
    begin "$1" "$2"
    size=$(du -cB1 3* | tail -n 1 | cut -f 1)
    must "$PLATTER" commit -q "3.$1" && same_disk "$1" 2 3 && same_disk "$1" 3 3 &&
        chain_agrees "$1" 3 3 2 1 0
    (($(du -cB1 3* | tail -n 1 | cut -f 1) < size)) || bad "it was not emptied"
    must "$PLATTER" commit -q --force "2.$1" && same_disk "$1" 1 3 && same_disk "$1" 3 3
    # what was emptied takes changes again
    must "$PLATTER" convert -n -f raw -O "$1" ../other.raw "3.$1" && same_disk "$1" 3 other &&
        same_disk "$1" 2 3
    must "$PLATTER" commit -q --force -b "0.$1" "3.$1" && same_disk "$1" 0 other
    cd ..
}
by_name_alone() { # FORMAT OPTIONS
    local options=$2
    begin "$1" "$2"
    must "$PLATTER" convert -f raw -O "$1" ../2.raw "twin.$1"
    must "$PLATTER" rebase -u -F "$1" -b "twin.$1" "3.$1" && same_disk "$1" 3 3 &&
        chain_agrees "$1" 3 3 twin
    cd ..
}

while read -r format options; do
    it "another parent, and none, and one again: $format $options" to_others "$format" "$options"
    it "no parent any more: $format $options" flattened "$format" "$options"
    it "what a child has goes to its parent: $format $options" committed "$format" "$options"
    it "another name alone: $format $options" by_name_alone "$format" "$options"
done <<'EOF'
vmdk subformat=monolithicSparse
vmdk subformat=monolithicSparse,zeroed_grain=on,grain_size=8k
vmdk subformat=twoGbMaxExtentSparse,grain_size=8k
vmdk subformat=vmfsSparse
vmdk subformat=vmfsSparse,grain_size=4k
vdi block_size=1M
vdi block_size=64k
EOF

refuses() { # REGEX COMMAND...
    local regex=$1
    shift
    run "$@" || return 1
    ((status == 1)) || bad "status $status instead of 1: $*"
    tr '\n' ' ' <run.err | grep -qiE -- "$regex" ||
        bad "the message does not match '$regex': $(<run.err)"
}
of_other_formats() {
    local options=''
    begin vmdk subformat=monolithicSparse
    must "$PLATTER" convert -f raw -O qcow2 ../2.raw p.qcow2 && cp 3.vmdk kept
    refuses 'must be a vmdk image, not qcow2.*hint:' "$PLATTER" rebase -F qcow2 -b p.qcow2 3.vmdk
    refuses 'no CID.*hint:' "$PLATTER" rebase -u -F vmdk -b gone.vmdk 3.vmdk
    must "$PLATTER" convert -f raw -O vmdk -o subformat=monolithicFlat ../2.raw flat.vmdk
    refuses 'its own.*hint:' "$PLATTER" rebase -u -F vmdk -b 2.vmdk flat.vmdk
    same_disk vmdk 3 3 && same_disk vmdk flat 2
    cd ..
    begin vdi block_size=64k
    must "$PLATTER" convert -f raw -O qcow2 ../2.raw p.qcow2
    refuses 'must be a vdi image, not qcow2.*hint:' "$PLATTER" rebase -F qcow2 -b p.qcow2 3.vdi
    refuses 'not known.*hint:' "$PLATTER" rebase -u -F vdi -b gone.vdi 3.vdi
    same_disk vdi 3 3
    cd ..
}
it "parents that the format cannot name are refused" of_other_formats

qemus_child() {
    local options=''
    rm -rf chain && mkdir chain && cd chain || exit 1
    qemu-img convert -O vmdk ../0.raw 0.vmdk
    qemu-img convert -O vmdk ../1.raw 1.vmdk
    qemu-img create -q -f vmdk -b 0.vmdk -F vmdk 2.vmdk
    qemu-io -c 'write -P 6 70k 9k' -c 'write -z 0 64k' 2.vmdk >/dev/null
    qemu-img convert -O raw 2.vmdk ../q.raw
    must "$PLATTER" rebase -F vmdk -b 1.vmdk 2.vmdk && same_disk vmdk 2 q && chain_agrees vmdk 2 2 1
    must "$PLATTER" commit -q 2.vmdk && same_disk vmdk 1 q && same_disk vmdk 2 q
    cd ..
}
it "the same for disks that qemu-img made" qemus_child
finish
