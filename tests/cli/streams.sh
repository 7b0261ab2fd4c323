#!/usr/bin/env bash
# What convert does besides copying one file to another: pipes on both sides, several inputs, odd
# sizes, overlays, snapshots, bitmaps, verification and digests.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io xz

make_content disk.raw 4194304
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2

equals() { # RAW QCOW2: to qemu-img, which finds nothing wrong
    must qemu-img check -q -f qcow2 "$2" && must qemu-img compare -q -f raw -F qcow2 "$1" "$2"
}

# ---- pipes --------------------------------------------------------------------------------------
through_pipes() { # COMMANDS that make out from disk.raw
    rm -f out
    LIMIT_SECONDS=20 must bash -c "set -o pipefail; $1"
}
raw_in() {
    through_pipes 'cat disk.raw | "$PLATTER" convert -f raw -O qcow2 - out' && equals disk.raw out
}
raw_out() {
    through_pipes '"$PLATTER" convert disk.qcow2 -O raw - | cat >out' && same_content disk.raw out
    through_pipes 'echo before >out; "$PLATTER" convert disk.qcow2 -O raw - >>out'
    same "bytes behind those of the file" "$(digest_of disk.raw)" \
        "$(tail -c +8 out | sha256sum | cut -d ' ' -f 1)"
}
it "raw from a pipe" raw_in
it "raw into a pipe" raw_out
it "a pipe on both sides" through_pipes \
    'cat disk.qcow2 | "$PLATTER" convert -m 3 -O raw - - | cmp - disk.raw && : >out'
it "zeros at the end reach a pipe" through_pipes \
    'truncate -s 8M long.raw && "$PLATTER" convert -f raw -O raw long.raw - | cmp - long.raw && : >out'

# ---- sizes --------------------------------------------------------------------------------------
odd_size() { # BYTES: no multiple of a sector; the image gets whole sectors, the rest zeros
    rm -f odd.*
    head -c "$1" disk.raw >odd.raw
    must "$PLATTER" convert -f raw -O qcow2 odd.raw odd.qcow2 || return
    must qemu-img check -q odd.qcow2
    same "virtual size" $((($1 + 511) / 512 * 512)) \
        "$(qemu-img info --output=json odd.qcow2 | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')"
    must "$PLATTER" convert -O raw odd.qcow2 odd.back
    cmp -s -n "$1" odd.raw odd.back || bad "another disk"
    must "$PLATTER" convert -f raw -O raw odd.raw odd.copy && same_content odd.raw odd.copy
    must "$PLATTER" convert -f raw -O qcow2 --verify -c odd.raw odd.packed
    must "$PLATTER" convert -f raw -O raw odd.raw - && same_content odd.raw run.out
    cat odd.raw | "$PLATTER" convert -q -f raw -O qcow2 - odd.piped || bad "a pipe: status $?"
    must "$PLATTER" compare odd.piped odd.qcow2
}
for size in 1 511 513 4097 1000001; do
    it "a raw disk of $size bytes" odd_size "$size"
done

# ---- several inputs -----------------------------------------------------------------------------
several() {
    make_content second.raw 1000448 2
    qemu-img convert -f raw -O qcow2 second.raw second.qcow2
    cat disk.raw second.raw disk.raw >wanted.raw
    must "$PLATTER" convert -O raw disk.qcow2 second.qcow2 disk.qcow2 all.raw &&
        same_content wanted.raw all.raw
    must "$PLATTER" convert -O qcow2 -c disk.qcow2 second.qcow2 disk.qcow2 all.qcow2 &&
        equals wanted.raw all.qcow2
    must "$PLATTER" convert -f raw -O raw disk.raw second.raw disk.raw - && same_content wanted.raw run.out
    refused 'overlay|several' "$PLATTER" convert -O qcow2 -B disk.qcow2 -F qcow2 disk.qcow2 second.qcow2 x
    refused 'single' "$PLATTER" convert -O raw -l 1 disk.qcow2 second.qcow2 x
}
it "several inputs, one behind the other" several

# ---- overlays -----------------------------------------------------------------------------------
overlay() { # FORMAT of the backing file
    cp disk.raw changed.raw
    noise 5000 3 | dd of=changed.raw bs=5000 seek=200 conv=notrunc status=none
    dd if=/dev/zero of=changed.raw bs=64K seek=5 count=1 conv=notrunc status=none
    truncate -s 6M changed.raw
    noise 3000 4 | dd of=changed.raw bs=1M seek=5 conv=notrunc status=none
    must "$PLATTER" convert -f raw -O qcow2 -B disk."$1" -F "$1" changed.raw over.qcow2 || return
    equals changed.raw over.qcow2
    (($(stat -c %s over.qcow2) < 1048576)) || bad "an overlay of $(stat -c %s over.qcow2) bytes"
    same "backing file" "disk.$1" "$(qemu-img info --output=json over.qcow2 |
        sed -n 's/.*"backing-filename": "\(.*\)".*/\1/p')"
    must "$PLATTER" convert -O raw over.qcow2 out.raw && same_content changed.raw out.raw
    must "$PLATTER" convert -f raw -O qcow2 -c -o cluster_size=4096 -B disk."$1" -F "$1" changed.raw \
        packed.qcow2 && equals changed.raw packed.qcow2
    must "$PLATTER" convert -f raw -O qcow2 --verify -B disk."$1" -F "$1" disk.raw equal.qcow2
    (($(stat -c %s equal.qcow2) <= 327680)) || bad "an overlay of nothing has $(stat -c %s equal.qcow2) bytes"
}
it "an overlay holds what differs from its raw backing file" overlay raw
it "an overlay holds what differs from its qcow2 backing file" overlay qcow2

# ---- snapshots ----------------------------------------------------------------------------------
snapshot() {
    cp disk.qcow2 snap.qcow2
    qemu-img snapshot -c before snap.qcow2
    qemu-io -f qcow2 -c 'write -P 9 1M 1M' snap.qcow2 >io.out
    local name
    for name in before 1 snapshot.id=1 snapshot.name=before snapshot.id=1,snapshot.name=before; do
        must "$PLATTER" convert -l "$name" -O raw snap.qcow2 out.raw && same_content disk.raw out.raw
        [[ ! -s run.err ]] || bad "a warning though the snapshot was named: $(<run.err)"
    done
    must "$PLATTER" convert -l before -O qcow2 -c snap.qcow2 out.qcow2 && equals disk.raw out.qcow2
    must "$PLATTER" convert -O raw snap.qcow2 out.raw
    grep -q 'warning: snap.qcow2: its internal snapshots (1) are not copied' run.err ||
        bad "no warning: $(<run.err)"
    refused 'snapshot' "$PLATTER" convert -l after -O raw snap.qcow2 x
    refused 'snapshot' "$PLATTER" convert -l 1 -f raw -O raw disk.raw x
}
it "an internal snapshot, by name and id" snapshot

# ---- verification and digests -------------------------------------------------------------------
checksum() {
    local algorithm
    for algorithm in sha256 sha512 sha1 md5; do
        same "$algorithm" "$algorithm:$("${algorithm}sum" <disk.raw | cut -d ' ' -f 1)" \
            "$("$PLATTER" convert --checksum "$algorithm" -O raw disk.qcow2 out.raw)"
    done
    same "of a compressed target" "sha256:$(digest_of disk.raw)" \
        "$("$PLATTER" convert --verify --checksum sha256 -c -O qcow2 disk.qcow2 out.qcow2)"
    "$PLATTER" convert --checksum sha256 -O raw disk.qcow2 - 2>run.err >out.raw
    same "on standard error" "sha256:$(digest_of disk.raw)" "$(<run.err)"
    same_content disk.raw out.raw
    refused 'sha257' "$PLATTER" convert --checksum sha257 -O raw disk.qcow2 x
}
it "--checksum is the digest of the disk" checksum
it "--verify reads the target again" must "$PLATTER" convert --verify -O qcow2 disk.qcow2 verified.qcow2

# ---- bitmaps ------------------------------------------------------------------------------------
bitmap_list() { # IMAGE: name, granularity and flags
    qemu-img info --output=json "$1" | python3 -c '
import json, sys
data = json.load(sys.stdin)["format-specific"]["data"]
for b in sorted(data.get("bitmaps", []), key=lambda b: b["name"]):
    print(b["name"], b["granularity"], *sorted(b["flags"]))'
}
bits() { # IMAGE NAME: the dirty ranges, as a server of the image shows them
    rm -f nbd.sock
    qemu-nbd -r -t -k "$PWD/nbd.sock" -f qcow2 -B "$2" "$1" 2>nbd.err &
    local server=$! i
    for ((i = 0; i < 50; i++)); do
        [[ -S nbd.sock ]] && break
        sleep 0.1
    done
    qemu-img map --output=json --image-opts \
        "driver=nbd,server.type=unix,server.path=$PWD/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:$2" |
        sed 's/"depth.*"data"/"data"/; s/, "offset.*}/}/'
    kill "$server"
    { wait "$server"; } 2>/dev/null
}
make_bitmaps() {
    local i
    qemu-img create -q -f qcow2 marked.qcow2 40M
    qemu-img bitmap --add -g 64k marked.qcow2 coarse
    qemu-img bitmap --add -g 512 marked.qcow2 fine
    qemu-img bitmap --add marked.qcow2 idle
    qemu-img bitmap --disable marked.qcow2 idle
    for ((i = 0; i < 12; i++)); do
        echo "write -P $i $((i * i * 213504)) $((512 * (i + 1)))"
    done | qemu-io -f qcow2 marked.qcow2 >io.out
}
copies_bitmaps() { # OPTION...
    make_bitmaps
    must "$PLATTER" convert --bitmaps -O qcow2 "$@" marked.qcow2 copy.qcow2 || return
    [[ ! -s run.err ]] || bad "a warning though they were copied: $(<run.err)"
    must qemu-img check -q copy.qcow2
    same "bitmaps" "$(bitmap_list marked.qcow2)" "$(bitmap_list copy.qcow2)"
    local name
    for name in coarse fine idle; do
        same "bits of $name" "$(bits marked.qcow2 $name)" "$(bits copy.qcow2 $name)"
    done
    [[ $(bits copy.qcow2 fine | wc -l) -gt 10 ]] || bad "the bits were not looked at"
    must "$PLATTER" check copy.qcow2
    must qemu-img compare -q marked.qcow2 copy.qcow2
    must "$PLATTER" convert -O qcow2 marked.qcow2 without.qcow2
    grep -q 'warning: marked.qcow2: its persistent bitmaps (3) are not copied' run.err ||
        bad "no warning: $(<run.err)"
    same "bitmaps without --bitmaps" "" "$(bitmap_list without.qcow2)"
}
broken_bitmap() { # one that is in use: its writer was killed
    make_bitmaps
    { qemu-io -f qcow2 -c 'write 0 512' -c abort marked.qcow2 >io.out; } 2>/dev/null
    bitmap_list marked.qcow2 | grep -q in-use || { bad "no bitmap is in use"; return; }
    refused 'bitmap' "$PLATTER" convert --bitmaps -O qcow2 marked.qcow2 copy2.qcow2
    [[ ! -e copy2.qcow2 ]] || bad "a target was left behind"
    must "$PLATTER" convert --bitmaps --skip-broken-bitmaps -O qcow2 marked.qcow2 copy2.qcow2
    grep -q warning run.err || bad "no warning"
    must qemu-img check -q copy2.qcow2
    same "bitmaps" "" "$(bitmap_list copy2.qcow2 | grep in-use)"
}
if command -v qemu-nbd >/dev/null && command -v python3 >/dev/null; then
    it "bitmaps are copied bit by bit" copies_bitmaps
    it "bitmaps are copied to other clusters" copies_bitmaps -o cluster_size=512
    it "bitmaps are copied to a compressed image" copies_bitmaps -c -o cluster_size=2M
    it "a bitmap that was not closed is refused, or left out" broken_bitmap
    it "a target without bitmaps refuses them" refused 'bitmap' \
        "$PLATTER" convert --bitmaps -O raw marked.qcow2 x
else
    skip "qemu-nbd or python3 is not installed" 5
fi
finish
