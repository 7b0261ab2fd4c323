#!/usr/bin/env bash
# Where the file system can share blocks, convert does: the copy has the right content and costs no
# room.  Needs root, for file systems in loop devices.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img

CASES=7
mounted=''
cleanup() { [[ -z $mounted ]] || umount "$mounted"; }
trap cleanup EXIT

# Once it stands still: XFS gives the room of removed files back a little later.
used_kib() {
    local now last=''
    for _ in {1..50}; do
        sync -f "$mounted"
        now=$(df --output=used -k "$mounted" | tail -n 1)
        [[ $now != "$last" ]] || break
        last=$now
        sleep 0.3
    done
    echo "$now"
}

# The copy has the source's content and adds at most 2 MiB for 24 MiB of data.
shares() { # FROM TO CONVERT-OPTION...
    local from=$1 to=$mounted/$2 before after
    shift 2
    before=$(used_kib)
    must "$PLATTER" convert "$@" "$mounted/$from" "$to" || return
    after=$(used_kib)
    ((after - before < 2048)) || bad "$((after - before)) KiB were used"
    must qemu-img compare -q "$mounted/$from" "$to"
    rm "$to"
}

# Behind an input that ends inside a block nothing can be shared, and the bytes are right all the same.
shares_joined() {
    head -c 5000 "$mounted/disk.raw" >"$mounted/first.raw"
    must "$PLATTER" convert -f raw -O qcow2 "$mounted/first.raw" "$mounted/disk.raw" "$mounted/both"
    cat "$mounted/first.raw" "$mounted/disk.raw" >both.raw
    truncate -s "%512" both.raw
    must qemu-img compare -q -f raw -F qcow2 both.raw "$mounted/both"
    rm "$mounted/both" "$mounted/first.raw" both.raw
}

# With blocks not shared the room is really used: what `shares` measures is worth something.
copies() { # FROM TO CONVERT-OPTION...
    local from=$1 to=$mounted/$2 before after
    shift 2
    before=$(used_kib)
    must "$PLATTER" convert "$@" "$mounted/$from" "$to" || return
    after=$(used_kib)
    ((after - before > 16384)) || bad "only $((after - before)) KiB were used"
    must qemu-img compare -q "$mounted/$from" "$to"
    rm "$to"
}

on() { # FILE-SYSTEM MKFS-COMMAND...
    local fs=$1
    shift
    if ! command -v "$1" >/dev/null; then
        skip "$1 is not installed" "$CASES"
        return
    fi
    truncate -s 400M "$fs.img" && mkdir "$fs"
    if ! "$@" "$fs.img" >mkfs.out 2>&1 || ! mount -o loop "$fs.img" "$fs" 2>mount.err; then
        skip "$fs cannot be mounted here: $(head -n 1 mount.err mkfs.out 2>/dev/null | tail -n 1)" "$CASES"
        return
    fi
    mounted=$PWD/$fs
    # a tail that is no whole block, a hole, and data that begins inside a cluster
    noise 1048576 1 >noise
    for _ in {1..24}; do cat noise; done >"$mounted/disk.raw"
    truncate -s 30M "$mounted/disk.raw"
    noise 70000 2 | dd of="$mounted/disk.raw" bs=4096 seek=7000 conv=notrunc status=none
    truncate -s 29000704 "$mounted/disk.raw"
    qemu-img convert -f raw -O qcow2 "$mounted/disk.raw" "$mounted/disk.qcow2"
    it "$fs: raw to raw" shares disk.raw copy.raw -f raw -O raw
    it "$fs: raw to qcow2" shares disk.raw copy.qcow2 -f raw -O qcow2
    it "$fs: qcow2 to raw" shares disk.qcow2 copy.raw -f qcow2 -O raw
    it "$fs: qcow2 to qcow2" shares disk.qcow2 copy.qcow2 -f qcow2 -O qcow2
    it "$fs: large clusters, many threads" shares disk.raw copy.qcow2 -m 8 -f raw -O qcow2 \
        -o cluster_size=256K
    it "$fs: a disk behind another" shares_joined
    it "$fs: not on request" copies disk.raw copy.raw --no-share -f raw -O raw
    umount "$mounted" && mounted=''
}

on xfs mkfs.xfs -q -m reflink=1
on btrfs mkfs.btrfs -q
finish
