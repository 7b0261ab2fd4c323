#!/usr/bin/env bash
# Children of VHD and VHDX disks get other parents, none, or lose what they have to their parent: all
# read the same before and after.  qemu-img reads what lost its parent, libvhdi the chains; disks that
# Windows and VirtualBox made are treated the same.
# shellcheck disable=SC2154 # run sets $status
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
# shellcheck source=tests/support/parents.sh
. "$SRCDIR/tests/support/parents.sh"
needs python3 qemu-img

libvhdi=1
if ! command -v vhdimount >/dev/null || [[ ! -r /dev/fuse ]]; then
    libvhdi=0
    skip "vhdimount cannot run: libvhdi does not look at the images"
fi
# The last file of the mount point is the disk; it misreads zeros and odd sectors of a child.
libvhdi_agrees() { # IMAGE RAW
    ((libvhdi)) || return 0
    mkdir -p mounted
    vhdimount "$1" mounted >mount.out 2>&1 || { bad "vhdimount: $(<mount.out)"; return; }
    # shellcheck disable=SC2012 # the names are vhdi and a number
    cmp -s "mounted/$(ls mounted | sort -V | tail -n 1)" "$2" || bad "libvhdi reads something else"
    umount mounted
}

SIZE=6300160 # the last block is short
# FILE LAYER: blocks of 4 KiB of a raw disk change, which depend on the layer alone.
change() {
    python3 - "$@" <<'PYTHON'
import random, sys
name, layer = sys.argv[1], int(sys.argv[2])
source = random.Random(layer)
with open(name, "r+b") as disk:
    size = disk.seek(0, 2)
    for _ in range(8):
        length = source.choice([4096, 12288, 69632])
        disk.seek(source.randrange((size - length) // 4096) * 4096)
        disk.write(source.randbytes(length))
PYTHON
}
make_layers "$SIZE"

same_disk() { # FORMAT LAYER RAW
    must "$PLATTER" compare -q -f raw -F "$1" "../$3.raw" "$2.$1"
    must "$PLATTER" check -q "$2.$1"
}
qemus() { [[ $1 == vhd ]] && echo vpc || echo "$1"; }

to_others() { # FORMAT OPTIONS
    begin "$1" "$2"
    must "$PLATTER" rebase -q -F "$1" -b "1.$1" "3.$1" && same_disk "$1" 3 3 && chain_is "$1" 3 3 1 0
    [[ $2 == block_size=4k ]] || libvhdi_agrees "3.$1" ../3.raw
    must "$PLATTER" rebase -q -F "$1" -b "other.$1" "3.$1" && same_disk "$1" 3 3 &&
        chain_is "$1" 3 3 other
    [[ $2 == block_size=4k ]] || libvhdi_agrees "3.$1" ../3.raw
    must "$PLATTER" rebase -q -b "" "3.$1" && same_disk "$1" 3 3 && chain_is "$1" 3 3
    must qemu-img compare -q -f raw -F "$(qemus "$1")" ../3.raw "3.$1"
    must "$PLATTER" rebase -q -F "$1" -b "2.$1" "3.$1" && same_disk "$1" 3 3 &&
        chain_is "$1" 3 3 2 1 0
    same_disk "$1" 2 2
    cd ..
}
flattened() { # FORMAT OPTIONS: its own children do not notice
    begin "$1" "$2"
    must "$PLATTER" rebase -q -b "" "2.$1" && rm -f 0* 1* && same_disk "$1" 2 2 && same_disk "$1" 3 3
    must qemu-img compare -q -f raw -F "$(qemus "$1")" ../2.raw "2.$1"
    [[ $1 == vhd ]] || must qemu-img check -q "2.$1"
    chain_is "$1" 3 3 2
    cd ..
}
committed() { # FORMAT OPTIONS
    local size
    begin "$1" "$2"
    size=$(du -B1 "3.$1" | cut -f 1)
    must "$PLATTER" commit -q "3.$1" && same_disk "$1" 2 3 && same_disk "$1" 3 3 &&
        chain_is "$1" 3 3 2 1 0
    (($(du -B1 "3.$1" | cut -f 1) < size)) || bad "it was not emptied"
    must "$PLATTER" commit -q --force "2.$1" && same_disk "$1" 1 3 && same_disk "$1" 3 3
    # what was emptied takes changes again
    must "$PLATTER" convert -n -f raw -O "$1" ../other.raw "3.$1" && same_disk "$1" 3 other &&
        same_disk "$1" 2 3
    must "$PLATTER" commit -q --force -b "0.$1" "3.$1" && same_disk "$1" 0 other
    cd ..
}
renamed() { # FORMAT OPTIONS
    begin "$1" "$2"
    mkdir sub && mv "2.$1" sub/ && mv "1.$1" "0.$1" sub/
    must "$PLATTER" rebase -u -F "$1" -b "sub/2.$1" "3.$1" && same_disk "$1" 3 3
    libvhdi_agrees "sub/2.$1" ../2.raw
    cd ..
}

while read -r format options; do
    it "another parent, and none, and one again: $format $options" to_others "$format" "$options"
    it "no parent any more: $format $options" flattened "$format" "$options"
    it "what a child has goes to its parent: $format $options" committed "$format" "$options"
    it "a parent in another folder: $format $options" renamed "$format" "$options"
done <<'END'
vhd block_size=2M
vhd block_size=4k
vhdx block_size=1M
vhdx block_size=8M
END

grown_and_compacted() { # FORMAT: the parent's children go on knowing it
    begin "$1" ""
    must "$PLATTER" compact -q "0.$1" && same_disk "$1" 3 3
    must "$PLATTER" compact -q "2.$1" && same_disk "$1" 3 3
    cd ..
}
it "compacting a parent leaves its children alone: vhd" grown_and_compacted vhd
it "compacting a parent leaves its children alone: vhdx" grown_and_compacted vhdx

# ---- disks that others made ----
if [[ -n ${IMAGES:-} ]]; then
    theirs() { # CHILD PARENT DIGEST
        local format=${1##*.} child=${1##*/} parent=${2##*/} size=
        rm -rf chain && mkdir chain && cd chain || exit 1
        cp "$IMAGES/$1" "$IMAGES/$2" . && chmod u+w ./*
        must "$PLATTER" convert -O "$format" "$child" "twin.$format"
        must "$PLATTER" convert -O "$format" "$parent" "copy.$format"
        must "$PLATTER" rebase -q -F "$format" -b "copy.$format" "$child" && rm "$parent"
        must "$PLATTER" convert -O raw "$child" out.raw && same "digest" "$3" "$(digest_of out.raw)"
        must "$PLATTER" check -q "$child"
        must "$PLATTER" rebase -q -b "" "$child" && rm "copy.$format"
        must "$PLATTER" convert -O raw "$child" out.raw && same "digest" "$3" "$(digest_of out.raw)"
        # it takes the geometry for the size of what VirtualBox made
        [[ $format == vhdx ]] || size=,force_size_calc=current_size
        must qemu-img compare -q --image-opts driver=raw,file.filename=out.raw \
            "driver=$(qemus "$format"),file.filename=$child$size"
        must "$PLATTER" rebase -q -F "$format" -b "twin.$format" "$child"
        must "$PLATTER" compare -q -f raw out.raw "$child"
        must "$PLATTER" commit -q "$child" && must "$PLATTER" compare -q -f raw out.raw "$child"
        cd ..
    }
    while read -r child parent digest; do
        it "the same for $child" theirs "$child" "$parent" "$digest"
    done <<'END'
vhd/windows10-diff/fat-differential.vhd vhd/windows10-diff/fat-parent.vhd f4b61a33ee2f7e8c19f737792a4107e46340026a9a829e4169b751901cc3ef02
vhd/vbox-diff/diff-child.vhd vhd/vbox-diff/diff-parent.vhd b36ba2d20f78c773ae7346423138615db76c733c0ee2b45f32b1b40282e41a62
vhdx/windows10-diff/fat-differential.vhdx vhdx/windows10-diff/fat-parent.vhdx a538161f34bc44c12bf9a542ce9218741c62728723ea18d0e4f6ea92e9f32e93
END
else
    skip "there are no sample images"
fi
finish
