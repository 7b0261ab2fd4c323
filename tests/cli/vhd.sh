#!/usr/bin/env bash
# VHD images beside qemu-img and libvhdi: what one writes the other reads, to the byte; sizes are
# exact; differencing disks find their parents, or say that they do not.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img python3 xz

size_in() { # PROGRAM IMAGE [OPTION]...
    "$1" info -f vpc --output=json "$2" | sed -n 's/^ *"virtual-size": \([0-9]*\).*/\1/p' | head -n 1
}

# A disk through libvhdi, the file of its mount point that is NUMBER of a chain; parents come first.
libvhdi=1
if ! command -v vhdimount >/dev/null || [[ ! -r /dev/fuse ]]; then
    libvhdi=0
    skip "vhdimount cannot run: libvhdi does not look at the images"
fi
libvhdi_agrees() { # IMAGE RAW [NUMBER]
    ((libvhdi)) || return 0
    mkdir -p mounted
    vhdimount "$1" mounted >mount.out 2>&1 || { bad "vhdimount: $(<mount.out)"; return; }
    cmp -s "mounted/vhdi${3:-1}" "$2" || bad "libvhdi reads something else"
    umount mounted
}

# ---- both ways ----------------------------------------------------------------------------------
goes_round() { # SIZE OPTIONS
    make_content disk.raw "$1" 4
    must "$PLATTER" convert -f raw -O vpc -o "$2" disk.raw image.vhd || return
    must qemu-img compare -q -f raw -F vpc disk.raw image.vhd
    same "the size for qemu-img" "$1" "$(size_in qemu-img image.vhd)"
    must "$PLATTER" check image.vhd
    libvhdi_agrees image.vhd disk.raw
    must "$PLATTER" convert -f vpc -O raw image.vhd back.raw && same_content disk.raw back.raw
    must "$PLATTER" convert -O qcow2 image.vhd back.qcow2 &&
        must qemu-img compare -q -f raw -F qcow2 disk.raw back.qcow2
}
for size in 512 104448 2097152 6292992 9438208; do
    for options in subformat=dynamic subformat=fixed block_size=512k block_size=4k,force_size=on; do
        it "$size bytes there and back: $options" goes_round "$size" "$options"
    done
done

reads_theirs() { # OPTIONS
    make_content disk.raw 6292992 4
    qemu-img convert -f raw -O vpc -o "$1" disk.raw image.vhd
    qemu-img convert -f vpc -O raw image.vhd theirs.raw
    must "$PLATTER" convert -O raw image.vhd ours.raw && same_content theirs.raw ours.raw
    must "$PLATTER" check image.vhd
    make_content disk.raw "$(stat -c %s theirs.raw)" 8
    must "$PLATTER" convert -n -f raw -O vpc disk.raw image.vhd
    must qemu-img compare -q -f raw -F vpc disk.raw image.vhd
    must "$PLATTER" resize -q image.vhd 20M && truncate -s 20M disk.raw
    must qemu-img compare -q -f raw -F vpc disk.raw image.vhd
    must "$PLATTER" resize -q --shrink image.vhd 3146240 && truncate -s 3146240 disk.raw
    must qemu-img compare -q -f raw -F vpc disk.raw image.vhd
    must "$PLATTER" resize -q image.vhd 5M && truncate -s 5M disk.raw
    must qemu-img compare -q -f raw -F vpc disk.raw image.vhd
    must "$PLATTER" check image.vhd
}
for options in subformat=dynamic subformat=fixed subformat=dynamic,force_size subformat=fixed,force_size; do
    it "one that qemu-img made is read, written onto, resized: $options" reads_theirs "$options"
done

geometry_like_qemu() { # SIZE
    truncate -s "$1" empty.raw
    run "$PLATTER" convert -f raw -O vpc -o force_size=off empty.raw ours.vhd
    qemu-img create -q -f vpc -o force_size=off theirs.vhd "$1"
    same "the size" "$(size_in qemu-img theirs.vhd)" "$(size_in "$PLATTER" ours.vhd)"
    same "the size for qemu-img" "$(size_in qemu-img ours.vhd)" "$(size_in "$PLATTER" ours.vhd)"
}
for size in 1M 100M 600M 5G 100G; do
    it "force_size=off rounds $size as qemu-img does" geometry_like_qemu "$size"
done

is_aligned() { # OPTIONS
    truncate -s 1536 some.raw
    must "$PLATTER" convert -f raw -O vhd -o "$1,align=1M" some.raw image.vhd
    grep -q 'gets 1048576 bytes instead of 1536' run.err || bad "no warning: $(<run.err)"
    same "the size" 1048576 "$(size_in "$PLATTER" image.vhd)"
}
it "align=1M: fixed" is_aligned subformat=fixed
it "align=1M: dynamic" is_aligned subformat=dynamic

odd_size() {
    head -c 1000 /dev/zero | tr '\0' x >odd.raw
    must "$PLATTER" convert -f raw -O vhd odd.raw image.vhd && must "$PLATTER" convert -O raw image.vhd back.raw
    truncate -s 1024 odd.raw && same_content odd.raw back.raw
}
it "a disk that ends inside a sector is padded with zeros" odd_size

same_file() { # OPTIONS
    make_content disk.raw 6292992 4
    for n in 1 2 7; do
        must "$PLATTER" convert --reproducible -m "$n" -f raw -O vhd -o "$1" disk.raw with.$n
    done
    cmp with.1 with.2 && cmp with.1 with.7
}
it "--reproducible: the same file, dynamic" same_file subformat=dynamic
it "--reproducible: the same file, fixed" same_file subformat=fixed

measured() { # OPTIONS
    make_content disk.raw 9438208 4
    must "$PLATTER" measure -f raw -O vhd -o "$1" disk.raw && cp run.out measure.out
    must "$PLATTER" convert -f raw -O vhd -o "$1" disk.raw image.vhd
    same "the size of the file" "$(sed -n 's/^required size: //p' measure.out)" "$(stat -c %s image.vhd)"
}
it "measure says how long the file gets: dynamic" measured subformat=dynamic
it "measure says how long the file gets: small blocks" measured block_size=64k
it "measure says how long the file gets: fixed" measured subformat=fixed

through_pipe() {
    make_content disk.raw 6292992 4
    "$PLATTER" convert -f raw -O vhd -o subformat=fixed,align=1M disk.raw /dev/stdout | cat >piped.vhd
    truncate -s 7M disk.raw
    must "$PLATTER" compare -f raw -F vhd disk.raw piped.vhd && must qemu-img compare -q -f raw -F vpc disk.raw piped.vhd
    refused 'pipe' bash -c "'$PLATTER' convert -f raw -O vhd disk.raw /dev/stdout | cat; exit \${PIPESTATUS[0]}"
}
it "a fixed disk goes through a pipe, a dynamic one does not" through_pipe

# ---- what a file is -----------------------------------------------------------------------------
stays_raw() {
    make_content disk.raw 1048576 4
    must "$PLATTER" convert -f raw -O vhd -o subformat=fixed disk.raw image.vhd && cp image.vhd image.img
    must "$PLATTER" info image.vhd && grep -q '^file format: vhd' run.out || bad "by its name: $(<run.out)"
    must "$PLATTER" info image.img && grep -q '^file format: raw' run.out || bad "raw: $(<run.out)"
    grep -q -e '-f vhd' run.err || bad "no warning"
    must "$PLATTER" compare -f raw -F vhd disk.raw image.img
}
it "a footer makes a VHD only of what is called so" stays_raw

old_footer() {
    make_content disk.raw 1048576 4
    must "$PLATTER" convert -f raw -O vhd -o subformat=fixed disk.raw image.vhd && truncate -s -1 image.vhd
    must "$PLATTER" compare -f raw disk.raw image.vhd
    must "$PLATTER" resize -q image.vhd 2M && truncate -s 2M disk.raw
    must "$PLATTER" compare -f raw disk.raw image.vhd
}
it "a footer of 511 bytes, as Virtual PC wrote it" old_footer

too_large() {
    refused '2040 GiB' "$PLATTER" create -f vhd big.vhd 2041G
    grep -q vhdx run.err || bad "VHDX is not proposed"
    refused '2040 GiB' "$PLATTER" create -f vhd -o subformat=fixed big.vhd 2041G
    must "$PLATTER" create -q -f vhd big.vhd 2040G && must "$PLATTER" check big.vhd
    same "the size for qemu-img" $((2040 << 30)) "$(size_in qemu-img big.vhd)"
    refused 'VHD holds up to' "$PLATTER" resize big.vhd +1G
    refused 'too big for blocks' "$PLATTER" create -f vhd -o block_size=4k small.vhd 2040G
}
it "2040 GiB and no more" too_large

bad_options() {
    local option
    for option in block_size=3M block_size=1k block_size=512M align=100 align=0 subformat=sparse \
        force_size=off,align=1M; do
        refused 'option' "$PLATTER" create -f vhd -o "$option" x.vhd 1M
    done
}
it "options that make no sense" bad_options

# Sets bytes in footer and copy, with their checksums.
edit_footer() { # IMAGE OFFSET HEX
    python3 - "$@" <<'PYTHON'
import sys
name, at, new = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
data = bytearray(open(name, "rb").read())
for off in (0, len(data) - 512):
    if data[off:off + 8] != b"conectix":
        continue
    data[off + at:off + at + len(new)] = new
    data[off + 64:off + 68] = bytes(4)
    data[off + 64:off + 68] = (~sum(data[off:off + 512]) & 0xffffffff).to_bytes(4, "big")
open(name, "wb").write(data)
PYTHON
}

saved_state() {
    must "$PLATTER" create -q -f vhd image.vhd 1M && edit_footer image.vhd 84 01
    must "$PLATTER" info image.vhd && grep -q 'saved state: true' run.out || bad "$(<run.out)"
}
it "the saved-state flag is shown" saved_state

creator_decides() { # CREATOR-HEX SIZE
    must "$PLATTER" create -q -f vhd image.vhd 6292992 && edit_footer image.vhd 28 "$1"
    same "the size" "$2" "$(size_in "$PLATTER" image.vhd)"
}
for creator in 76706320 76732020 71656d75; do # vpc, vs, qemu
    it "creator $creator: the geometry is the size" creator_decides $creator 6266880
done
for creator in 77696e20 64327600 76626f78 71656d32 74617000 43585320 12345678; do
    it "creator $creator: the current size counts" creator_decides $creator 6292992
done

# ---- differencing disks -------------------------------------------------------------------------
make_chain() { # three disks, their contents in 0.raw, 1.raw, 2.raw
    rm -rf chain && mkdir chain
    make_content 0.raw 6292992 4
    cp 0.raw 1.raw && noise 9000 3 | dd of=1.raw bs=512 seek=300 conv=notrunc status=none
    dd if=/dev/zero of=1.raw bs=512 seek=5000 count=700 conv=notrunc status=none
    cp 1.raw 2.raw && noise 5120 5 | dd of=2.raw bs=512 seek=310 conv=notrunc status=none
    must "$PLATTER" convert -f raw -O vhd -o "$1" 0.raw chain/0.vhd &&
        must "$PLATTER" create -q -f vhd -b 0.vhd chain/1.vhd &&
        must "$PLATTER" convert -n -f raw -O vhd 1.raw chain/1.vhd &&
        must "$PLATTER" convert -f raw -O vhd -B 1.vhd -F vhd 2.raw chain/2.vhd
}
is_chain() { # LEAF
    must "$PLATTER" compare -f raw 2.raw "$1"
    must "$PLATTER" info --backing-chain "$1"
    same "the files of the chain" 3 "$(grep -c '^image:' run.out)"
}
chain() { # OPTIONS OF THE FIRST
    make_chain "$1" || return
    is_chain chain/2.vhd
    libvhdi_agrees chain/1.vhd 1.raw 2
    libvhdi_agrees chain/2.vhd 2.raw 3
    must "$PLATTER" check chain/2.vhd
}
it "a chain over a dynamic disk, for libvhdi too" chain subformat=dynamic
it "a chain over a fixed disk, for libvhdi too" chain subformat=fixed

found_by_id() {
    mv chain/1.vhd chain/renamed.vhd
    is_chain chain/2.vhd
    mv chain/renamed.vhd chain/1.vhd
}
it "a parent that has another name is found by its unique id" found_by_id

missing() {
    mkdir -p away && mv chain/1.vhd away/
    refused '1.vhd|identity' "$PLATTER" convert -O raw chain/2.vhd out.raw
    must "$PLATTER" info chain/2.vhd
    mv away/1.vhd chain/
}
it "without its parent it is not read as zeros" missing

other_id() {
    cp chain/0.vhd kept.vhd
    edit_footer chain/0.vhd 68 00112233445566778899aabbccddeeff
    refused 'identity' "$PLATTER" convert -O raw chain/2.vhd out.raw
    mv kept.vhd chain/0.vhd
}
it "a parent with another unique id is refused" other_id

changed_parent() {
    cp chain/0.vhd kept.vhd
    edit_footer chain/0.vhd 24 00000001
    must "$PLATTER" compare -f raw 2.raw chain/2.vhd
    grep -q 'warning: .*was changed after' run.err || bad "no warning: $(<run.err)"
    mv kept.vhd chain/0.vhd
}
it "a parent with another time is a warning" changed_parent

loop() {
    python3 - chain/2.vhd chain/1.vhd <<'PYTHON'
import sys
child, parent = (bytearray(open(name, "rb").read()) for name in sys.argv[1:])
header = parent[512:1536]
header[40:56] = child[68:84] # the grandchild's id
at = int.from_bytes(header[576 + 24 + 16:576 + 24 + 24], "big")
parent[at:at + 14] = ".\\2.vhd".encode("utf-16-le")
header[36:40] = bytes(4)
header[36:40] = (~sum(header) & 0xffffffff).to_bytes(4, "big")
parent[512:1536] = header
open(sys.argv[2], "wb").write(parent)
PYTHON
    refused 'already in the chain' "$PLATTER" convert -O raw chain/2.vhd out.raw
}
it "a chain that comes back to itself is refused" loop

wrong_parent() {
    qemu-img create -q -f qcow2 other.qcow2 1M
    refused 'must be a VHD' "$PLATTER" create -f vhd -b other.qcow2 -F qcow2 child.vhd
    refused 'fixed VHD' "$PLATTER" create -f vhd -o subformat=fixed -b chain/0.vhd child.vhd
}
it "only a VHD can be the parent of one" wrong_parent

# ---- check --------------------------------------------------------------------------------------
mended() { # WHAT: is damaged, found, mended
    run "$PLATTER" check image.vhd
    ((status == 2)) || bad "check: status $status"
    must "$PLATTER" check -r all image.vhd && must "$PLATTER" check image.vhd
}
lost_footer() {
    make_content disk.raw 6292992 4
    must "$PLATTER" convert -f raw -O vhd disk.raw image.vhd && truncate -s -512 image.vhd
    must "$PLATTER" compare -f raw disk.raw image.vhd
    grep -q 'warning.*footer' run.err || bad "no warning"
    mended && must "$PLATTER" compare -f raw disk.raw image.vhd
}
it "a lost footer is replaced by its copy, check -r all writes it again" lost_footer
wrong_checksum() {
    make_content disk.raw 1048576 4
    must "$PLATTER" convert -f raw -O vhd -o subformat="$1" disk.raw image.vhd
    python3 - <<'PYTHON'
data = bytearray(open("image.vhd", "rb").read())
for off in (0, len(data) - 512):
    if data[off:off + 8] == b"conectix":
        data[off + 64] ^= 1
open("image.vhd", "wb").write(data)
PYTHON
    refused 'checksum' "$PLATTER" convert -O raw image.vhd out.raw
    mended && must "$PLATTER" compare -f raw disk.raw image.vhd
}
it "wrong checksums are refused and mended: dynamic" wrong_checksum dynamic
it "wrong checksums are refused and mended: fixed" wrong_checksum fixed
finish
