#!/usr/bin/env bash
# Chains of VHD, VHDX and VDI differencing disks, five deep: the same changes made to raw disks give
# the same content in every layer, for libvhdi too; layers are converted, grown and compacted; broken
# chains are refused; parents are found where VirtualBox keeps them.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs python3 xz

SIZE=6292992 # the last block is short
DEPTH=5

make_contents() {
    local layer
    make_content 0.raw "$SIZE" 4
    for layer in $(seq "$DEPTH"); do
        cp "$((layer - 1)).raw" "$layer.raw"
        change_content "$layer.raw" "$layer"
    done
}
make_contents

# Every second layer by a convert over its parent, the others by writes to a new child.
make_chain() { # FORMAT OPTIONS
    local layer
    rm -rf chain && mkdir chain
    must "$PLATTER" convert -f raw -O "$1" -o "$2" 0.raw chain/0."$1" || return
    for layer in $(seq "$DEPTH"); do
        if ((layer % 2)); then
            must "$PLATTER" convert -f raw -O "$1" -B "$((layer - 1)).$1" -F "$1" \
                "$layer.raw" "chain/$layer.$1" || return
        else
            must "$PLATTER" create -q -f "$1" -b "$((layer - 1)).$1" -F "$1" "chain/$layer.$1" &&
                must "$PLATTER" convert -n -f raw -O "$1" "$layer.raw" "chain/$layer.$1" || return
        fi
    done
}

layers_agree() { # FORMAT
    local layer
    for layer in $(seq 0 "$DEPTH"); do
        must "$PLATTER" compare -f raw -F "$1" "$layer.raw" "chain/$layer.$1"
        must "$PLATTER" check "chain/$layer.$1"
    done
    must "$PLATTER" info --backing-chain "chain/$DEPTH.$1"
    same "the images of the chain" "$((DEPTH + 1))" "$(grep -c '^image:' run.out)"
}

is_a_chain() { # FORMAT OPTIONS
    make_chain "$@" && layers_agree "$1"
}

becomes_one() { # FORMAT
    local format
    for format in raw qcow2 vhd vhdx vdi vmdk; do
        must "$PLATTER" convert -O "$format" "chain/$DEPTH.$1" one && must "$PLATTER" compare -f raw \
            -F "$format" "$DEPTH.raw" one
    done
}

compacts() { # FORMAT
    must "$PLATTER" compact -q "chain/$DEPTH.$1"
    must "$PLATTER" compare -f raw -F "$1" "$DEPTH.raw" "chain/$DEPTH.$1"
    must "$PLATTER" check "chain/$DEPTH.$1"
}

grows() { # FORMAT
    must "$PLATTER" resize -q "chain/$DEPTH.$1" 9M
    cp "$DEPTH.raw" grown.raw && truncate -s 9M grown.raw
    must "$PLATTER" compare -f raw -F "$1" grown.raw "chain/$DEPTH.$1"
    must "$PLATTER" check "chain/$DEPTH.$1"
}

no_parent() { # FORMAT
    mkdir -p away && mv chain/2."$1" away/
    rm -f out.raw
    refused 'backing file' "$PLATTER" convert -O raw "chain/$DEPTH.$1" out.raw
    [[ ! -e out.raw ]] || bad "the parent's data became zeros"
    grep -q -e '--allow-dir' run.err || bad "the message does not name --allow-dir: $(<run.err)"
    must "$PLATTER" info "chain/$DEPTH.$1"
    must "$PLATTER" compare --allow-dir away --allow-dir chain -f raw -F "$1" \
        "$DEPTH.raw" "chain/$DEPTH.$1"
    mv away/2."$1" chain/
}

# Another disk in the place of a parent, under its name.
other_parent() { # FORMAT
    mv chain/2."$1" kept
    must "$PLATTER" create -q -f "$1" chain/2."$1" "$SIZE"
    refused 'identity' "$PLATTER" convert -O raw "chain/$DEPTH.$1" out.raw
    mv kept chain/2."$1"
}

# A younger image in the place of the oldest.
loop() { # FORMAT
    cp chain/0."$1" kept && cp chain/3."$1" chain/0."$1"
    LIMIT_SECONDS=10 refused 'already in the chain|identity|deeper' \
        "$PLATTER" convert -O raw "chain/$DEPTH.$1" out.raw
    mv kept chain/0."$1"
}

for options in vhd:subformat=dynamic vhd:subformat=fixed vhd:block_size=64k \
    vhdx:block_size=1M vhdx:subformat=fixed vdi:static=off vdi:static=on vdi:block_size=64k; do
    format=${options%%:*}
    it "$options: five children" is_a_chain "$format" "${options#*:}" || continue
    it "$options: compacted" compacts "$format"
    [[ $options =~ 64k|1M ]] || continue
    it "$format: the chain as one image" becomes_one "$format"
    it "$format: a parent that is gone, or elsewhere" no_parent "$format"
    it "$format: another disk under the parent's name" other_parent "$format"
    it "$format: a chain that comes back to itself" loop "$format"
    it "$format: the youngest grows" grows "$format"
done

# ---- libvhdi ----
libvhdi_agrees() { # FORMAT OPTIONS
    local layer
    make_chain "$@" || return
    mkdir -p mounted
    for layer in $(seq "$DEPTH"); do
        vhdimount "chain/$layer.$1" mounted >mount.out 2>&1 ||
            { bad "vhdimount of layer $layer: $(<mount.out)"; return; }
        cmp -s "mounted/vhdi$((layer + 1))" "$layer.raw" || bad "libvhdi reads layer $layer otherwise"
        umount mounted
    done
}
if command -v vhdimount >/dev/null && [[ -r /dev/fuse ]]; then
    it "vhd: libvhdi reads every layer" libvhdi_agrees vhd subformat=dynamic
    it "vhdx: libvhdi reads every layer" libvhdi_agrees vhdx block_size=1M
else
    skip "vhdimount cannot run: libvhdi does not look at the images" 2
fi

# ---- VirtualBox: children lie in a folder Snapshots below their parent's ----
in_snapshots() { # FORMAT
    local file="chain/Snapshots/{00112233}.$1"
    make_chain "$1" ""
    mkdir chain/Snapshots && mv chain/1."$1" "$file" && rm -f out.raw
    refused "no file in its folder has the identity uuid:|backing file" \
        "$PLATTER" convert -O raw "$file" out.raw
    [[ ! -e out.raw ]] || bad "the parent's data became zeros"
    grep -q '^hint: .*--allow-dir' run.err || bad "no hint of --allow-dir: $(<run.err)"
    refused "in its folder or the allowed ones has the identity uuid:|backing file" \
        "$PLATTER" convert --allow-dir "$SRCDIR/docs" -O raw "$file" out.raw
    must "$PLATTER" compare --allow-dir nowhere --allow-dir "$SRCDIR/docs" --allow-dir chain \
        -f raw -F "$1" 1.raw "$file"
    mv chain/0."$1" chain/"another name"
    must "$PLATTER" compare --allow-dir "$PWD/chain" -f raw -F "$1" 1.raw "$file"
    must "$PLATTER" info --backing-chain --allow-dir chain "$file"
    same "the images of the chain" 2 "$(grep -c '^image:' run.out)"
}
for format in vhd vhdx vdi; do
    it "$format: the parent is in a folder that --allow-dir names" in_snapshots "$format"
done

samples_in_snapshots() { # FORMAT DIGEST
    rm -rf machine && mkdir -p machine/Snapshots
    cp "$IMAGES/$1/vbox-diff/diff-parent.$1" machine/
    cp "$IMAGES/$1/vbox-diff/diff-child.$1" machine/Snapshots/
    rm -f out.raw
    refused 'backing file' "$PLATTER" convert -O raw machine/Snapshots/diff-child."$1" out.raw
    must "$PLATTER" convert --allow-dir machine -O raw machine/Snapshots/diff-child."$1" out.raw
    same "digest" b36ba2d20f78c773ae7346423138615db76c733c0ee2b45f32b1b40282e41a62 "$(digest_of out.raw)"
}
for format in vhd vdi vmdk; do
    if [[ -d ${IMAGES:-/nowhere}/$format/vbox-diff ]]; then
        it "$format: VirtualBox's own images in its own folders" samples_in_snapshots "$format"
    else
        skip "there are no sample images"
    fi
done

crowded() {
    make_chain vdi ""
    mkdir -p crowd away && (cd crowd && seq -f 'file%g' 1100 | xargs touch)
    mv chain/1.vdi away/
    refused 'too many to look through' "$PLATTER" convert --allow-dir crowd -O raw away/1.vdi out.raw
    must "$PLATTER" compare --allow-dir crowd --allow-dir chain -f raw -F vdi 1.raw away/1.vdi
    mv away/1.vdi crowd/
    must "$PLATTER" compare --allow-dir chain -f raw -F vdi 1.raw crowd/1.vdi
}
it "a folder of more files than are looked at is told as such" crowded
finish
