#!/usr/bin/env bash
# Outputs that cannot be finished or must not be touched: an input, a full disk, a folder that takes
# no files, a signal in the middle.  An older file stays as it was, nothing else is left behind;
# what exists and is written in place stays an image.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img xz

mounts=() devices=()
cleanup() {
    local it
    for it in "${mounts[@]}"; do umount "$it"; done
    for it in "${devices[@]}"; do losetup -d "$it"; done
}
trap cleanup EXIT

make_content disk.raw 4194304
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
mkdir out

holds() { # NAME...: the names in out, hidden ones too
    same "names in the folder" "$*" "$(ls -A out | tr '\n' ' ' | sed 's/ $//')"
}

# ---- an output that is an input -----------------------------------------------------------------
onto_input() { # an input in any guise, an input's parent, the second input
    local before
    qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 over.qcow2
    ln disk.qcow2 hardlink
    ln -s disk.qcow2 symlink
    cp disk.raw other.raw
    before=$(cat disk.qcow2 disk.raw other.raw over.qcow2 | sha256sum)
    refused 'one of the inputs' "$PLATTER" convert -O qcow2 disk.qcow2 disk.qcow2
    refused 'one of the inputs' "$PLATTER" convert -O qcow2 disk.qcow2 ./hardlink
    refused 'one of the inputs' "$PLATTER" convert -O qcow2 disk.qcow2 symlink
    refused 'backing file' "$PLATTER" convert -O raw over.qcow2 disk.qcow2
    refused 'one of the inputs' "$PLATTER" convert -f raw -O raw disk.raw other.raw other.raw
    refused 'one of the inputs|locked|in use' "$PLATTER" convert -n -O qcow2 disk.qcow2 disk.qcow2
    refused 'backing file|one of the inputs|locked|in use' \
        "$PLATTER" convert -n -O qcow2 over.qcow2 disk.qcow2
    qemu-img create -q -f qcow2 -o data_file=disk.data outside.qcow2 1M
    refused 'one of the inputs|locked|in use' "$PLATTER" convert -O raw outside.qcow2 disk.data
    refused 'one of the inputs|locked|in use' \
        "$PLATTER" convert -f raw -O qcow2 -o data_file=disk.raw disk.raw new.qcow2
    [[ ! -e new.qcow2 ]] || bad "a target was left behind"
    same "the files" "$before" "$(cat disk.qcow2 disk.raw other.raw over.qcow2 | sha256sum)"
    rm -f hardlink symlink
}
it "an output that is an input or its backing file is refused" onto_input

# ---- no room ------------------------------------------------------------------------------------
# shellcheck disable=SC2016 # for the inner shell
at_most_one_mib=(bash -c 'ulimit -f 1024 && exec "$@"' -)
too_large() {
    local format
    for format in raw qcow2; do
        refused 'too large|no space|too big' "${at_most_one_mib[@]}" \
            "$PLATTER" convert -f raw -O "$format" disk.raw out/new
        holds
        echo precious >out/old
        refused 'too large|no space|too big' "${at_most_one_mib[@]}" \
            "$PLATTER" convert -f raw -O "$format" disk.raw out/old
        holds old
        same "the older file" precious "$(<out/old)"
        rm out/old
    done
    refused 'too large|no space|too big' "${at_most_one_mib[@]}" \
        "$PLATTER" create -f raw -o preallocation=full out/new 4M
    holds
}
it "a file size limit: nothing new, the older file as it was" too_large

full_folder() {
    local format
    for format in raw qcow2; do
        echo precious >small/old
        refused 'no space' "$PLATTER" convert -f raw -O "$format" disk.raw small/new
        refused 'no space' "$PLATTER" convert -f raw -O "$format" disk.raw small/old
        same "the older file" precious "$(<small/old)"
        same "names in the folder" old "$(ls -A small)"
    done
    refused 'no space' "$PLATTER" create -f qcow2 -o preallocation=falloc small/new 4M
    rm small/old
}
full_in_place() { # the old content is gone in part, as it must, but it is an image
    qemu-img create -q -f qcow2 small/image.qcow2 4M
    refused 'no space' "$PLATTER" convert -n -f raw -O qcow2 disk.raw small/image.qcow2
    run qemu-img check -q small/image.qcow2
    ((status == 0 || status == 3)) || bad "qemu-img check: status $status"
    rm small/image.qcow2
}
mkdir small
if mount -t tmpfs -o size=1m platter-test small 2>/dev/null; then
    mounts+=(small)
    it "a full file system: nothing new, the older file as it was" full_folder
    it "a file system that is full under an existing image leaves an image" full_in_place
else
    skip "a small file system cannot be mounted here" 2
fi

to_full_device() {
    "$PLATTER" convert -O raw disk.qcow2 - >/dev/full 2>run.err
    same status 1 $?
    grep -qi 'standard output.*no space' run.err || bad "message: $(<run.err)"
    "$PLATTER" info disk.qcow2 >/dev/full 2>run.err
    same "status of info" 1 $?
}
it "standard output that takes nothing is an error" to_full_device
closed_pipe() {
    { "$PLATTER" convert -f raw -O raw disk.raw - 2>run.err; echo $? >status; } | head -c 4096 >/dev/null
    same status 1 "$(<status)"
    grep -qi 'broken pipe' run.err || bad "message: $(<run.err)"
}
it "a pipe that nobody reads on is an error" closed_pipe

# ---- no place -----------------------------------------------------------------------------------
it "a folder that is not there" refused 'nowhere.*no such file' \
    "$PLATTER" convert -O raw disk.qcow2 nowhere/new
it "a folder as the output" refused 'folder|directory' "$PLATTER" convert -O raw disk.qcow2 out
read_only() { # FOLDER
    refused 'read-only|permission' "$PLATTER" convert -O raw disk.qcow2 "$1/new"
    refused 'read-only|permission' "$PLATTER" create -f qcow2 "$1/new" 1M
}
mkdir locked
if [[ $(id -u) != 0 ]]; then
    chmod 555 locked
    it "a folder that we may not write to" read_only locked
    chmod 755 locked
elif mount -t tmpfs -o ro platter-test locked 2>/dev/null; then
    mounts+=(locked)
    it "a folder that cannot be written to" read_only locked
else
    skip "root, and nothing can be mounted: no folder is unwritable"
fi

# ---- stopped in the middle ----------------------------------------------------------------------
slow=("$PLATTER" convert -r 1M)
stopped_by() { # SIGNAL STATUS FORMAT
    echo precious >out/old
    local name
    for name in new old; do
        env --default-signal=INT,TERM "${slow[@]}" -f raw -O "$3" disk.raw out/$name 2>run.err &
        sleep 0.7
        kill "-$1" $!
        { wait $!; } 2>/dev/null
        same "status" "$2" $?
        same "the older file" precious "$(<out/old)"
        holds old
    done
    rm out/old
}
stopped_in_place() { # SIGNAL: what was flushed before is there, at worst room is lost
    local image=out/image.qcow2
    qemu-img convert -f raw -O qcow2 -o lazy_refcounts="$2" disk.raw $image
    env --default-signal=INT "${slow[@]}" -n -f raw -O qcow2 other.raw $image 2>run.err &
    sleep 1.5
    kill "-$1" $!
    { wait $!; } 2>/dev/null
    run qemu-img check -q $image
    [[ $2 == on ]] || ((status == 0 || status == 3)) || bad "qemu-img check: status $status"
    must "$PLATTER" check -q -r all $image
    must qemu-img check -q $image
    must "$PLATTER" convert -O raw $image out.raw
    rm -f $image
}
if env --default-signal=INT true 2>/dev/null; then
    make_content other.raw 4194304 2
    it "SIGINT leaves nothing but the older file" stopped_by INT 1 qcow2
    it "SIGTERM leaves nothing but the older file" stopped_by TERM 1 raw
    it "SIGKILL leaves nothing but the older file" stopped_by KILL 137 qcow2
    it "SIGKILL leaves an existing image sound" stopped_in_place KILL off
    it "SIGKILL leaves an existing image with lazy refcounts mendable" stopped_in_place KILL on
    it "SIGINT leaves an existing image sound" stopped_in_place INT off
else
    skip "env cannot set default signals" 6
fi

# ---- onto what exists ---------------------------------------------------------------------------
onto_raw() {
    make_content target.raw 6000128 4
    cp target.raw wanted.raw
    dd if=disk.raw of=wanted.raw bs=64K conv=notrunc status=none
    must "$PLATTER" convert -n -O raw disk.qcow2 target.raw && same_content wanted.raw target.raw
    truncate -s 4194304 zero.raw
    truncate -s 0 target.raw && truncate -s 4194304 target.raw
    must "$PLATTER" convert -n --target-is-zero -O raw disk.qcow2 target.raw &&
        same_content disk.raw target.raw
    truncate -s 4193792 target.raw
    refused 'smaller than the input' "$PLATTER" convert -n -O raw disk.qcow2 target.raw
    refused 'no such file' "$PLATTER" convert -n -O raw disk.qcow2 missing.raw
    refused 'target-is-zero needs' "$PLATTER" convert --target-is-zero -O raw disk.qcow2 new.raw
}
it "convert -n overwrites a raw file in place" onto_raw
onto_qcow2() {
    qemu-img create -q -f qcow2 target.qcow2 5M
    must "$PLATTER" convert -n --target-is-zero -f raw -O qcow2 disk.raw target.qcow2
    cp disk.raw wanted.raw
    truncate -s 5M wanted.raw
    qemu-img compare -q -f raw -F qcow2 wanted.raw target.qcow2 || bad "another disk"
    must qemu-img check -q target.qcow2
}
it "convert -n --target-is-zero onto an empty qcow2 image" onto_qcow2

onto_overlay() {
    qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 over.target
    truncate -s 4M zero.raw
    refused 'has a backing file' "$PLATTER" convert -n --target-is-zero -f raw -O qcow2 zero.raw over.target
    must "$PLATTER" convert -n -B disk.qcow2 -F qcow2 -f raw -O qcow2 zero.raw over.target
    grep -q 'warning: --backing-file (-B) has no effect' run.err || bad "no warning of -B: $(<run.err)"
    must qemu-img compare -q -f raw -F qcow2 zero.raw over.target
}
it "convert -n onto an overlay: its backing file does not show" onto_overlay

# ---- block devices ------------------------------------------------------------------------------
with_device() { # SIZE COMMAND...: the command finds the device in $device
    local size=$1
    shift
    rm -f backing.img && truncate -s "$size" backing.img
    device=$(losetup --show -f backing.img) || { bad "no loop device"; return; }
    devices=("$device")
    "$@"
    losetup -d "$device"
    devices=()
}
raw_on_device() {
    noise 4194304 7 | cat - /dev/zero | head -c 5242880 >backing.img
    must "$PLATTER" convert -f raw -O raw disk.raw "$device" || return
    cmp -n 4194304 disk.raw "$device" || bad "another disk"
    must "$PLATTER" convert -f raw -n -O raw disk.raw "$device"
    cmp -n 4194304 disk.raw "$device" || bad "another disk with -n"
    must "$PLATTER" convert -f raw -O qcow2 "$device" from.qcow2
    qemu-img compare -q -f raw -F qcow2 "$device" from.qcow2 || bad "another copy of the device"
}
qcow2_on_device() {
    must "$PLATTER" convert -f raw -O qcow2 disk.raw "$device" || return
    must qemu-img check -q -f qcow2 "$device"
    qemu-img compare -q -f raw -F qcow2 disk.raw "$device" || bad "another disk"
    must "$PLATTER" convert -f qcow2 -O raw "$device" out.raw && same_content disk.raw out.raw
}
small_device() {
    local too_small='smaller|too small|no space|past the end of this block device|device has .* bytes'
    refused "$too_small" "$PLATTER" convert -f raw -O raw disk.raw "$device"
    refused "$too_small" "$PLATTER" convert -f raw -O qcow2 disk.raw "$device"
}
: >probe.img && truncate -s 1M probe.img
if probe=$(losetup --show -f probe.img 2>/dev/null); then
    losetup -d "$probe"
    it "a raw disk on a block device" with_device 5242880 raw_on_device
    it "a qcow2 image on a block device" with_device 8388608 qcow2_on_device
    it "a block device that is too small" with_device 1048576 small_device
else
    skip "no loop device can be had" 3
fi

# ---- pipes --------------------------------------------------------------------------------------
into_fifo() {
    mkfifo fifo
    cat fifo >got.raw &
    local reader=$!
    LIMIT_SECONDS=10 must "$PLATTER" convert -O raw disk.qcow2 fifo || kill "$reader"
    wait "$reader"
    same_content disk.raw got.raw
    rm -f fifo
}
it "a named pipe takes a raw disk" into_fifo
it "standard output takes no qcow2 image" refused 'qcow2 cannot be written to standard output' "$PLATTER" convert -O qcow2 disk.qcow2 -
finish
