#!/usr/bin/env bash
# VHDX both ways beside qemu-img and libvhdi: what platter makes is sound and the same to them, what
# they make is the same to platter; chains, resizing, the log of a sample, and huge disks.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img

SIZE=$((21 * 1048576 + 512 * 3))
make_content disk.raw "$SIZE"
truncate -s $((21 * 1048576 + 4096)) disk4k.raw
dd if=disk.raw of=disk4k.raw bs=1M conv=notrunc status=none

mounts=0
command -v vhdimount >/dev/null && [[ -r /dev/fuse ]] && mounts=1

vhdi_agrees() { # IMAGE RAW
    ((mounts)) || return 0
    mkdir -p mounted
    vhdimount "$1" mounted >mount.out 2>&1 || { bad "vhdimount: $(<mount.out)"; return; }
    # shellcheck disable=SC2012 # the names are vhdi and a number
    # of a chain the last one is the whole disk
    cmp -s "mounted/$(ls mounted | sort -V | tail -n 1)" "$2" || bad "libvhdi reads something else"
    fusermount -u mounted 2>/dev/null || umount mounted
}

vhdi_knows() { # IMAGE TYPE
    command -v vhdiinfo >/dev/null || return 0
    vhdiinfo "$1" >vhdi.out 2>&1 || { bad "vhdiinfo: $(tail -n 2 vhdi.out)"; return; }
    grep -q "Disk type.*$2" vhdi.out || bad "vhdiinfo: $(grep 'Disk type' vhdi.out)"
}

qemu_agrees() { # IMAGE RAW
    qemu-img check -f vhdx "$1" >check.out 2>&1 || bad "qemu-img check: $(tail -n 3 check.out)"
    qemu-img compare -f raw -F vhdx "$2" "$1" >check.out 2>&1 ||
        bad "qemu-img compare: $(<check.out)"
}

reads_back() { # IMAGE RAW
    must "$PLATTER" check "$1"
    "$PLATTER" convert -O raw "$1" - | cmp -s - "$2" || bad "platter reads something else"
}

makes() { # OPTIONS TYPE
    must "$PLATTER" convert -f raw -O vhdx ${1:+-o "$1"} disk.raw ours.vhdx || return
    qemu_agrees ours.vhdx disk.raw
    vhdi_knows ours.vhdx "$2"
    vhdi_agrees ours.vhdx disk.raw
    reads_back ours.vhdx disk.raw
    (($(stat -c %s ours.vhdx) % 1048576 == 0)) || bad "the file is no whole number of MiB"
}

for options in "" subformat=dynamic,block_size=1M block_size=2M block_size=32M block_size=256M \
    log_size=4M block_state_zero=on block_size=1M,block_state_zero=on physical_sector_size=512; do
    it "dynamic: ${options:-the defaults}" makes "$options" Dynamic
done
for options in subformat=fixed subformat=fixed,block_size=1M \
    subformat=fixed,preallocation=falloc subformat=fixed,preallocation=full; do
    it "fixed: $options" makes "$options" Fixed
done

makes_4k() {
    must "$PLATTER" convert -f raw -O vhdx -o logical_sector_size=4096,block_size=1M \
        disk4k.raw ours.vhdx || return
    vhdi_knows ours.vhdx Dynamic
    vhdi_agrees ours.vhdx disk4k.raw
    reads_back ours.vhdx disk4k.raw
}
it "sectors of 4096 bytes" makes_4k

takes() { # OPTIONS
    qemu-img convert -f raw -O vhdx ${1:+-o "$1"} disk.raw theirs.vhdx || return
    reads_back theirs.vhdx disk.raw
}
for options in "" subformat=fixed block_size=1M block_size=1M,block_state_zero=off block_size=256M \
    log_size=8M; do
    it "qemu-img's: ${options:-the defaults}" takes "$options"
done

# Writing to an image that another program made, and to one of our own.
overwrites() { # IMAGE
    make_content other.raw "$SIZE" 3
    must "$PLATTER" convert -n -f raw -O vhdx other.raw "$1" || return
    qemu_agrees "$1" other.raw
    reads_back "$1" other.raw
}
qemu-img convert -f raw -O vhdx -o block_size=1M disk.raw theirs.vhdx
it "qemu-img's image is written to" overwrites theirs.vhdx
"$PLATTER" convert -f raw -O vhdx disk.raw ours.vhdx
it "our image is written to" overwrites ours.vhdx

resizes() { # FROM TO
    rm -f ours.vhdx
    must "$PLATTER" convert -f raw -O vhdx -o block_size=1M disk.raw ours.vhdx || return
    must "$PLATTER" resize --shrink ours.vhdx "$1" || return
    cp disk.raw wanted.raw
    truncate -s "$1" wanted.raw
    qemu_agrees ours.vhdx wanted.raw
    must "$PLATTER" resize ours.vhdx "$2" || return
    truncate -s "$2" wanted.raw
    qemu_agrees ours.vhdx wanted.raw
    reads_back ours.vhdx wanted.raw
}
it "smaller, then larger" resizes 5000192 30M

# qemu-img would read all of it.
outgrows_its_bat() {
    rm -f ours.vhdx
    must "$PLATTER" convert -f raw -O vhdx -o block_size=1M disk.raw ours.vhdx || return
    must "$PLATTER" resize ours.vhdx 200G || return
    cp disk.raw wanted.raw && truncate -s 200G wanted.raw
    must "$PLATTER" compare -f raw -F vhdx wanted.raw ours.vhdx
    must "$PLATTER" check ours.vhdx
    qemu-img check -f vhdx ours.vhdx >check.out 2>&1 || bad "qemu-img check: $(<check.out)"
    rm -f wanted.raw
}
it "larger than the region of the BAT" outgrows_its_bat

# A chain of our own, read by us and by libvhdi.
chain() {
    rm -f base.vhdx mid.vhdx top.vhdx
    must "$PLATTER" convert -f raw -O vhdx disk.raw base.vhdx || return
    must "$PLATTER" create -f vhdx -b base.vhdx -F vhdx mid.vhdx || return
    reads_back mid.vhdx disk.raw
    make_content other.raw "$SIZE" 3
    must "$PLATTER" convert -f raw -O vhdx -B mid.vhdx -F vhdx other.raw top.vhdx || return
    reads_back top.vhdx other.raw
    reads_back mid.vhdx disk.raw
    vhdi_knows top.vhdx Differential
    vhdi_agrees top.vhdx other.raw
    qemu-img convert -f vhdx -O raw top.vhdx q.raw 2>/dev/null && bad "qemu-img knows parents now"
    rm -f mid.vhdx
    refused 'mid.vhdx' "$PLATTER" info --backing-chain top.vhdx
}
it "a chain of three" chain

wrong_parents() {
    rm -f base.vhdx child.vhdx
    must "$PLATTER" convert -f raw -O vhdx disk.raw base.vhdx || return
    must "$PLATTER" create -f vhdx -b base.vhdx -F vhdx child.vhdx || return
    must "$PLATTER" convert -f raw -O vhdx disk.raw base.vhdx || return
    refused 'identity' "$PLATTER" convert -O raw child.vhdx out.raw
    refused 'raw' "$PLATTER" create -f vhdx -b disk.raw -F raw child.vhdx
}
it "a parent with another identifier is refused" wrong_parents

# 64 TiB: no longer than 2 x the time of a small one, and next to no room.
huge() {
    local begin small
    must "$PLATTER" create -f vhdx -o block_size=1M huge.vhdx 64T || return
    must "$PLATTER" create -f vhdx small.vhdx 1G || return
    (($(du -k huge.vhdx | cut -f 1) < 1024)) || bad "$(du -k huge.vhdx) KiB for an empty disk"
    begin=$(date +%s%N)
    for _ in 1 2 3 4 5 6 7 8 9 10; do "$PLATTER" info small.vhdx >/dev/null; done
    small=$(($(date +%s%N) - begin)) begin=$(date +%s%N)
    for _ in 1 2 3 4 5 6 7 8 9 10; do "$PLATTER" info huge.vhdx >/dev/null; done
    (($(date +%s%N) - begin < 3 * small + 50000000)) || bad "info takes too long"
    must "$PLATTER" map huge.vhdx
    must "$PLATTER" check huge.vhdx
    refused '64 TiB' "$PLATTER" create -f vhdx larger.vhdx 65T
}
it "a disk of 64 TiB" huge

dirty_sample() {
    local digest=3ba3b309425b7ff5e8e0199edceed95226250f880c53b24e8eae93865f3fad5e
    cp "$IMAGES/vhdx/windows10-log-dirty.vhdx" dirty.vhdx && chmod u+w dirty.vhdx
    must "$PLATTER" convert -O raw dirty.vhdx out.raw && same "digest" $digest "$(digest_of out.raw)"
    cmp -s "$IMAGES/vhdx/windows10-log-dirty.vhdx" dirty.vhdx || bad "reading changed the file"
    must "$PLATTER" check -r all dirty.vhdx
    must "$PLATTER" convert -O raw dirty.vhdx out.raw && same "digest" $digest "$(digest_of out.raw)"
    qemu-img convert -f vhdx -O raw dirty.vhdx q.raw || bad "qemu-img cannot read it"
    same "digest to qemu-img" $digest "$(digest_of q.raw)"
    rm -f out.raw q.raw
}
if [[ ${IMAGES:-} && -f $IMAGES/vhdx/windows10-log-dirty.vhdx ]]; then
    it "a log that holds something" dirty_sample
else
    skip "there are no sample images"
fi

shows() {
    must "$PLATTER" info --output=json ours.vhdx
    for word in '"subformat": "dynamic"' '"block-size": 1048576' '"logical-sector-size": 512' \
        '"log": "empty"' disk-id data-write-guid; do
        grep -qF "$word" run.out || bad "info does not say $word"
    done
}
it "info" shows
finish
