#!/usr/bin/env bash
# What check -r changes can be taken back byte for byte, for every format and every sort of damage,
# and in every sample image; a second repair finds nothing to do, and one that is taken back and
# made again gives the same image.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz
damage=$SRCDIR/tests/support/damage_qcow2.py
damage_vmdk=$SRCDIR/tests/support/damage_vmdk.py
SIZE=6292992 # the last block is short
make_content disk.raw "$SIZE" 4

states() { # FILE...: what identifies their content
    sha256sum "$@"
}

# Two repairs of one VHDX differ in what is random: the identifiers of a writer in the headers, and
# of its log.
same_repair() { # FORMAT FILE FILE
    if [[ $1 == vhdx ]]; then
        tail -c +2097153 "$2" >one.tail && tail -c +2097153 "$3" >two.tail
        same_content one.tail two.tail
    else
        same_content "$2" "$3"
    fi
}

# A repair; again, with nothing to do; back; once more.  FILE is the one to open, the others belong
# to it.  The repair may fail, too, or mend a part: taking it back works all the same.
there_and_back() { # FORMAT FILE [FILE]...
    local format=$1 image=$2 before repaired first file
    shift
    before=$(states "$@")
    rm -f "$image".undo
    run "$PLATTER" check -f "$format" -r all "$image"
    first=$status
    repaired=$(states "$@")
    if [[ ! -e $image.undo ]]; then
        same 'files without a journal' "$before" "$repaired"
        return
    fi
    if ((first == 0)); then
        must "$PLATTER" check -f "$format" "$image"
        cp "$image".undo kept.undo
        must "$PLATTER" check -f "$format" -r all "$image"
        same 'files after a second repair' "$repaired" "$(states "$@")"
        same_content kept.undo "$image".undo
        for file; do cp "$file" "$file".repaired; done
    fi
    must "$PLATTER" check --undo "$image" || return
    same 'files after taking back' "$before" "$(states "$@")"
    [[ ! -e $image.undo ]] || bad 'the journal is still there'
    ((first == 0)) || return 0
    must "$PLATTER" check -f "$format" -r all "$image"
    for file; do same_repair "$format" "$file".repaired "$file"; done
    rm -f -- "${@/%/.repaired}"
}

# ---- qcow2 ----
qemu-img convert -f raw -O qcow2 disk.raw plain.qcow2
qemu-img convert -f raw -O qcow2 -o cluster_size=4k,refcount_bits=32,lazy_refcounts=on disk.raw small.qcow2
cp small.qcow2 snapshots.qcow2
qemu-img snapshot -c first snapshots.qcow2
qemu-io -f qcow2 -c 'write -P 7 300k 1M' snapshots.qcow2 >/dev/null
qcow2() { # KIND IMAGE
    cp "$2" x.qcow2
    "$damage" "$1" x.qcow2 || { bad 'not damaged'; return; }
    there_and_back qcow2 x.qcow2
}
for image in plain small snapshots; do
    for kind in $("$damage" list); do
        it "qcow2 $image: $kind" qcow2 "$kind" $image.qcow2
    done
done
external_data() {
    qemu-img create -q -f qcow2 -o data_file=x.data x.qcow2 4M
    qemu-io -f qcow2 -c 'write -P 5 1M 1M' x.qcow2 >/dev/null
    "$damage" copied_missing x.qcow2 || return
    there_and_back qcow2 x.qcow2 x.data
}
it 'qcow2 with an external data file' external_data

# ---- vmdk ----
vmdk() { # KIND
    rm -f x.vmdk
    must "$PLATTER" convert -f raw -O vmdk disk.raw x.vmdk
    python3 "$damage_vmdk" x.vmdk "$1" || { bad 'not damaged'; return; }
    there_and_back vmdk x.vmdk
}
for kind in past-end into-header orphan twice one-copy primary unclean; do
    it "vmdk: $kind" vmdk $kind
done
split_vmdk() {
    truncate -s 4300M big.raw
    head -c 3M disk.raw | dd of=big.raw conv=notrunc status=none
    head -c 3M disk.raw | dd of=big.raw bs=1M seek=2047 conv=notrunc status=none
    must "$PLATTER" convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse big.raw y.vmdk
    rm big.raw
    python3 "$damage_vmdk" y-s001.vmdk twice && python3 "$damage_vmdk" y-s002.vmdk orphan ||
        { bad 'not damaged'; return; }
    there_and_back vmdk y.vmdk y-s001.vmdk y-s002.vmdk y-s003.vmdk
}
it 'vmdk: two damaged extents of three, one journal' split_vmdk

# ---- vhd, vhdx, vdi ----
set_entry() { # FORMAT IMAGE INDEX VALUE
    python3 "$SRCDIR/tests/support/set_entry.py" "$@"
}
entry() { # FORMAT OPTIONS VALUE
    rm -f x."$1"
    must "$PLATTER" convert -f raw -O "$1" -o "$2" disk.raw x."$1" || return
    set_entry "$1" x."$1" 1 "$3" && there_and_back "$1" x."$1"
}
while read -r format options value; do
    it "$format $options: entry $value" entry "$format" "$options" "$value"
done <<'CASES'
vhd subformat=dynamic 0x00ffff00
vhd subformat=dynamic first
vhd subformat=dynamic 2
vhd block_size=512k 3
vhd subformat=dynamic 0xffffffff
vhdx block_size=1M 0x10000000006
vhdx block_size=1M first
vhdx block_size=1M 0x100006
vhdx block_size=1M 0x500004
vhdx subformat=fixed,block_size=1M first
vdi static=off 0x00001000
vdi static=off first
vdi static=on first
vdi static=off 0xffffffff
CASES
overwritten() { # FORMAT OFFSET
    rm -f x."$1"
    must "$PLATTER" convert -f raw -O "$1" disk.raw x."$1" || return
    printf 'x' | dd of=x."$1" bs=1 seek="$2" conv=notrunc status=none
    there_and_back "$1" x."$1"
}
for at in 65540 131076 65800 196612 262148; do
    it "vhdx: byte $at of a header or region table" overwritten vhdx $at
done
it 'vhd: the copy of the footer' overwritten vhd 100

# ---- samples ----
sample() { # FORMAT FILE
    local name=sample.${2##*.}
    rm -f sample.*
    cp --sparse=always "$2" "$name"
    there_and_back "$1" "$name"
}
if [[ ${IMAGES:-} ]]; then
    for file in "$IMAGES"/malformed/* "$IMAGES"/{qcow2,vdi,vhd,vhdx,vmdk}/*; do
        [[ -f $file && $(stat -c %b "$file") -lt 40000 ]] || continue
        case $file in
        *.qcow2) format=qcow2 ;; *.vdi) format=vdi ;; *.vhd) format=vhd ;;
        *.vhdx) format=vhdx ;; *.vmdk) format=vmdk ;; *) continue ;;
        esac
        it "sample ${file#"$IMAGES"/}" sample $format "$file"
    done
else
    skip 'there are no sample images'
fi

finish
