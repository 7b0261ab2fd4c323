#!/usr/bin/env bash
# `platter snapshot` that was stopped, by a signal, a crash or a full file system: disk and states read
# as before, and the next call finishes what was begun.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs python3 xz
# shellcheck source=tests/support/snapshots.sh
. "$SRCDIR/tests/support/snapshots.sh"
make_models

# ---- what an interrupted change left ----
second_name() {
    new_disk vmdk ""
    ln d/disk.vmdk d/disk.snapshot-half.vmdk # create stopped between its two steps
    snapshot list --output=json d/disk.vmdk
    same "states" 0 "$(json 'len(it["snapshots"])')"
    snapshot create d/disk.vmdk half && write_disk 1.raw
    tree_is "half None" half
    state_is half 0.raw && disk_is 1.raw
    [[ $(stat -c %h d/disk.vmdk d/disk.snapshot-half.vmdk | sort -u) == 1 ]] || bad "names are left"
}
it "create: a second name is cleared away" second_name

half_renamed() { # FORMAT OPTION
    new_disk "$1" "" && three_states ${2:+"$2"} || return
    ln "d/disk.snapshot-s2.$1" "d/disk.snapshot-a.$1" # rename stopped before its second step
    tree_is "s1 None, a s1, s3 a" s3
    snapshot create ${2:+"$2"} "d/disk.$1" again
    snapshot list --output=json "d/disk.$1"
    same "states" 4 "$(json 'len(it["snapshots"])')"
    disk_is 3.raw && state_is s1 0.raw && state_is s3 2.raw
    for file in d/disk.*; do
        same "names of $file" 1 "$(stat -c %h "$file")"
    done
}
it "qcow2: a half renamed state" half_renamed qcow2 --external
it "vmdk: a half renamed state" half_renamed vmdk
it "vhd: a half renamed state" half_renamed vhd
it "vhdx: a half renamed state" half_renamed vhdx
it "vdi: a half renamed state" half_renamed vdi

half_deleted() {
    new_disk vdi "" && three_states || return
    touch d/disk.snapshot-s2.vdi.deleting
    snapshot list d/disk.vdi
    grep -q 's2 .*(being deleted)' run.out || bad "not marked: $(<run.out)"
    refused "is being deleted" "$P" snapshot rollback d/disk.vdi s2
    refused "is being deleted" "$P" snapshot diff d/disk.vdi s1 s2
    refused "is being deleted" "$P" snapshot rename d/disk.vdi s2 x
    snapshot delete d/disk.vdi s2
    tree_is "s1 None, s3 s1" s3
    [[ ! -e d/disk.snapshot-s2.vdi.deleting ]] || bad "the mark is left"
    touch d/disk.snapshot-s2.vdi.deleting # stopped before its last step
    snapshot create d/disk.vdi s2 && snapshot rollback d/disk.vdi s2
}
it "delete: what was begun is marked, and finished" half_deleted

# A deletion that moves some 30 MiB: what the disk has into the file (DOWN), what a state in between
# has (MIDDLE), or what the file has into two children (UP).
big_disk() { # FORMAT DOWN|MIDDLE|UP
    new_disk "$1" "" big0.raw
    local options=()
    [[ $1 != qcow2 ]] || options=(--external)
    snapshot create "${options[@]}" "d/disk.$1" base
    if [[ $2 != DOWN ]]; then
        [[ $2 == UP ]] || child_writes "$1"
        snapshot create "${options[@]}" "d/disk.$1" child
        [[ $2 == MIDDLE ]] || snapshot rollback "d/disk.$1" base
    fi
    must "$PLATTER" convert -q -n -f raw -O "$1" big1.raw "d/disk.$1"
    base_file=$(stat -c %i "d/disk.snapshot-base.$1")
}
# The state in between has less than the first one.
child_writes() { # FORMAT
    must "$PLATTER" convert -q -n -f raw -O "$1" big2.raw "d/disk.$1"
}
big_reads() { # FORMAT DOWN|MIDDLE|UP
    must "$PLATTER" compare -f raw -F "$1" big1.raw "d/disk.$1"
    case $2 in
    UP) must "$PLATTER" compare -f raw -F "$1" big0.raw "d/disk.snapshot-child.$1" ;;
    MIDDLE) must "$PLATTER" compare -f raw -F "$1" big2.raw "d/disk.snapshot-child.$1" ;;
    esac
}
make_big() {
    noise 31457280 9 >big0.raw && truncate -s 60M big0.raw
    cp big0.raw big1.raw
    noise 20971520 8 | dd of=big1.raw bs=1M seek=10 conv=notrunc status=none iflag=fullblock
    truncate -s 60M big2.raw && noise 15728640 7 | dd of=big2.raw bs=1M seek=20 conv=notrunc status=none
}
finishes() { # FORMAT DOWN|MIDDLE|UP
    big_reads "$1" "$2" || return
    snapshot delete "d/disk.$1" base
    big_reads "$1" "$2"
    [[ $2 != MIDDLE ]] ||
        same "the file of the state" "$base_file" "$(stat -c %i "d/disk.snapshot-child.$1")"
    [[ ! -e d/disk.snapshot-base.$1 && ! -e d/disk.snapshot-base.$1.deleting ]] ||
        bad "something is left: $(ls d)"
    run "$PLATTER" check -q -r all "d/disk.$1" # what a killed writer leaked
    must "$PLATTER" check -q "d/disk.$1"
}

stopped() { # FORMAT DOWN|MIDDLE|UP SIGNAL...
    local signal child delay=0.01
    big_disk "$1" "$2"
    for signal in "${@:3}"; do
        env --default-signal=INT "$PLATTER" snapshot delete "d/disk.$1" base 2>stop.err &
        child=$!
        sleep "$delay"
        kill "-$signal" "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        [[ $signal != INT || -e d/disk.snapshot-base.$1.deleting || ! -s stop.err ]] ||
            grep -q interrupted stop.err || bad "SIGINT: $(<stop.err)"
        [[ -e d/disk.snapshot-base.$1 ]] || break
        big_reads "$1" "$2" || return
        delay=$(python3 -c "print($delay * 1.5)")
    done
    [[ ! -e d/disk.snapshot-base.$1 ]] || finishes "$1" "$2"
    big_reads "$1" "$2"
}

full_disk() { # FORMAT
    big_disk "$1" UP
    mkdir -p small && mv d kept && mkdir d
    local used
    used=$(du -sm kept | cut -f 1)
    mount -t tmpfs -o "size=$((used + 12))m" platter-test d 2>/dev/null ||
        { rmdir d && mv kept d; skip "no tmpfs can be mounted"; return 0; }
    cp --sparse=always kept/* d/
    refused "No space left" "$P" snapshot delete "d/disk.$1" base
    grep -q '^hint: ' run.err || bad "no hint: $(<run.err)"
    big_reads "$1" UP
    mount -o remount,size=300m d
    finishes "$1" UP
    umount d
    rm -rf kept
}

make_big
for format in qcow2 vmdk vhd vhdx vdi; do
    it "$format: stopped while it goes into the file" stopped "$format" DOWN INT KILL KILL KILL KILL KILL
    it "$format: stopped while a state in between goes into the file" \
        stopped "$format" MIDDLE INT KILL KILL KILL KILL KILL KILL KILL
    it "$format: stopped while it goes into the children" stopped "$format" UP INT KILL KILL KILL KILL KILL
    it "$format: a full file system" full_disk "$format"
done

progress() {
    big_disk vdi UP
    snapshot delete -p d/disk.vdi base
    grep -q "(100.00/100%)" run.out || bad "no progress: $(<run.out)"
}
it "delete shows progress" progress

finish
