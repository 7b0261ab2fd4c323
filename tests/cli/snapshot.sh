#!/usr/bin/env bash
# `platter snapshot`: for every format and every way of keeping states the disk and each state read as
# raw models of them, also for qemu-img and libvhdi where they know the format; what is in use,
# ambiguous or dangerous is refused.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs python3 xz
# shellcheck source=tests/support/snapshots.sh
. "$SRCDIR/tests/support/snapshots.sh"
make_models

# A middle state, a branch from there, all states still there; then the middle one goes.
tells_states_apart() { # FORMAT OPTIONS [OPTION]
    local options=(${3:+"$3"})
    new_disk "$1" "$2" && three_states "${options[@]}" || return
    tree_is "s1 None, s2 s1, s3 s2" s3
    disk_is 3.raw && state_is s1 0.raw && state_is s2 1.raw && state_is s3 2.raw || return
    snapshot diff -f "$1" --output=json "d/disk.$1" s1 s3
    same "changed from s1 to s3" "$(changed_bytes 0.raw 2.raw)" "$(json 'it["changed"]')"
    same "the sum of its ranges" "$(json 'it["changed"]')" \
        "$(json 'sum(r["length"] for r in it["ranges"])')"
    snapshot diff -f "$1" "d/disk.$1"
    grep -q "($(changed_bytes 2.raw 3.raw) bytes)" run.out || bad "diff of the disk: $(tail -n 1 run.out)"
    snapshot rollback -f "$1" "d/disk.$1" s2 && disk_is 1.raw || return
    write_disk 4.raw
    snapshot create "${options[@]}" -f "$1" "d/disk.$1" branch
    tree_is "s1 None, s2 s1, s3 s2, branch s2" branch
    state_is s1 0.raw && state_is s2 1.raw && state_is s3 2.raw && state_is branch 4.raw || return
    snapshot rename -f "$1" "d/disk.$1" s2 middle
    tree_is "s1 None, middle s1, s3 middle, branch middle" branch
    snapshot delete -f "$1" "d/disk.$1" middle
    tree_is "s1 None, s3 s1, branch s1" branch
    disk_is 4.raw && state_is s1 0.raw && state_is s3 2.raw && state_is branch 4.raw
    snapshot rollback -f "$1" "d/disk.$1" s3 && disk_is 2.raw
}

qemu_agrees() { # FORMAT: after tells_states_apart
    [[ $1 == qcow2 || $1 == vmdk || $1 == raw ]] || return 0
    command -v qemu-img >/dev/null || return 0
    must qemu-img compare -f raw -F "$1" 2.raw "d/disk.$1"
    must qemu-img info --backing-chain "d/disk.$1"
    [[ $1 != qcow2 ]] || must qemu-img check -q "d/disk.$1"
    # what qemu writes to the disk is the disk's alone
    command -v qemu-io >/dev/null || return 0
    must qemu-io -f "$1" -c "write -P 7 65536 4096" "d/disk.$1"
    state_is s1 0.raw && state_is s3 2.raw
}

libvhdi_agrees() { # FORMAT: after tells_states_apart
    [[ $1 == vhd || $1 == vhdx ]] || return 0
    command -v vhdmount >/dev/null && [[ -r /dev/fuse ]] || return 0
    mkdir -p mounted
    vhdmount "d/disk.$1" mounted >mount.out 2>&1 || { bad "vhdmount: $(<mount.out)"; return; }
    cmp -s "mounted/$(ls mounted | sort -V | tail -n 1)" 2.raw || bad "libvhdi reads the disk otherwise"
    umount mounted
}

# Deleting all of them leaves one image, with nothing beside it.
merges_into_one() { # FORMAT
    local name
    for name in s3 s1 branch; do
        snapshot delete -f "$1" "d/disk.$1" "$name" || return
    done
    snapshot list -f "$1" --output=json "d/disk.$1"
    same "states" 0 "$(json 'len(it["snapshots"])')"
    same "files" "" "$(find d -name '*snapshot*')"
    [[ $1 == raw ]] || must "$PLATTER" check -q -f "$1" "d/disk.$1"
    must "$PLATTER" info --backing-chain --output=json "d/disk.$1"
    same "images in the chain" 1 "$(json 'len(it)')"
}

for case in raw: qcow2: qcow2:cluster_size=4k:--external vmdk: vmdk:subformat=monolithicFlat \
    vmdk:subformat=twoGbMaxExtentSparse vmdk:subformat=streamOptimized vmdk:subformat=vmfsSparse \
    vhd:subformat=dynamic vhd:subformat=fixed vhdx:block_size=1M vhdx:subformat=fixed \
    vdi:static=off vdi:static=on; do
    IFS=: read -r format options option <<<"$case"
    P=$PLATTER
    [[ ! $case =~ ^(raw|qcow2|vmdk|vhdx):$|external|static=off|vhd:subformat=dynamic ]] ||
        P=$PLATTER_ASAN
    it "$case: states, rollback, branch, diff, rename, delete" \
        tells_states_apart "$format" "$options" "$option" || continue
    it "$case: qemu-img reads the chain" qemu_agrees "$format"
    it "$case: libvhdi reads the chain" libvhdi_agrees "$format"
    it "$case: all states deleted" merges_into_one "$format"
done
P=$PLATTER

# ---- qemu-img's spelling ----
qemu_spelling() {
    needs_qemu || return 0
    new_disk qcow2 ""
    snapshot -c one d/disk.qcow2
    must qemu-img snapshot -c two d/disk.qcow2
    write_disk 1.raw
    snapshot -q -c three d/disk.qcow2
    must qemu-img snapshot -l d/disk.qcow2 && cp run.out theirs
    snapshot -l d/disk.qcow2 && cp run.out ours
    diff theirs ours >differences || bad "the lists differ: $(<differences)"
    snapshot d/disk.qcow2
    same_content ours run.out
    snapshot -a one d/disk.qcow2 && disk_is 0.raw
    must qemu-img snapshot -a three d/disk.qcow2 && disk_is 1.raw
    snapshot -d two d/disk.qcow2
    must qemu-img snapshot -d one d/disk.qcow2
    must qemu-img check -q d/disk.qcow2
    snapshot list -U --output=json d/disk.qcow2
    same "what is left" three "$(json '" ".join(s["name"] for s in it["snapshots"])')"
}
needs_qemu() { command -v qemu-img >/dev/null; }
it "qcow2: qemu-img's options and its table" qemu_spelling

files_by_letters() {
    new_disk vmdk ""
    snapshot -l d/disk.vmdk
    [[ ! -s run.out ]] || bad "a list of nothing: $(<run.out)"
    snapshot -c one d/disk.vmdk && write_disk 1.raw && snapshot -a one d/disk.vmdk && disk_is 0.raw
    snapshot -l d/disk.vmdk
    grep -q '^one ' run.out || bad "no 'one' in $(<run.out)"
    snapshot -d one d/disk.vmdk && disk_is 0.raw
}
it "the same options for files" files_by_letters

# ---- names ----
by_date() {
    new_disk vhd ""
    snapshot create d/disk.vhd
    local name
    name=$(<run.out)
    [[ $name =~ ^20[0-9-]{8}_[0-9-]{8}$ ]] || bad "the name is '$name'"
    snapshot create -q d/disk.vhd
    [[ ! -s run.out ]] || bad "-q printed $(<run.out)"
    snapshot create --output=json d/disk.vhd
    same "files" 3 "$(find d -name '*.snapshot-20*' | wc -l)"
    [[ -e "d/disk.snapshot-$(json 'it["name"]').vhd" ]] || bad "no file of $(<run.out)"
}
it "a state without a name gets the date" by_date

names() {
    local name
    new_disk vmdk ""
    snapshot create d/disk.vmdk before-update
    for name in a/b '' . .. -- $'a\nb' 'a:b' 'x.deleting'; do
        [[ $name == -- ]] ||
            refused "cannot be the name" "$P" snapshot create d/disk.vmdk "$name"
    done
    refused "there is a snapshot 'before-update' already" \
        "$P" snapshot create d/disk.vmdk before-update
    refused "no snapshot 'befor-update', but: before-update" \
        "$P" snapshot rollback d/disk.vmdk befor-update
    grep -q "^hint: did you mean 'before-update'" run.err || bad "no hint: $(<run.err)"
    refused "no snapshot 'zzz', but: before-update" "$P" snapshot delete d/disk.vmdk zzz
    refused "no snapshot 'zzz'" "$P" snapshot diff d/disk.vmdk zzz
    [[ ! -s run.out ]] || bad "printed before it failed: $(<run.out)"
    refused "no snapshot 'zzz'" "$P" snapshot rename d/disk.vmdk zzz b
    touch d/disk.snapshot-taken.vmdk.not d/disk.snapshot-dir.vmdk
    refused "there is a snapshot 'dir' already" "$P" snapshot create d/disk.vmdk dir
    refused "cannot be read as an image of the format vmdk" "$P" snapshot rollback d/disk.vmdk dir
    snapshot list d/disk.vmdk
    grep -q 'dir .*(unreadable)' run.out || bad "not marked: $(<run.out)"
    refused "cannot be read, so what it is made of is not known" \
        "$P" snapshot delete d/disk.vmdk before-update
    snapshot delete d/disk.vmdk dir
    snapshot delete d/disk.vmdk before-update
}
it "names that cannot be, are taken, or are not there" names

words() {
    refused "expecting an action and a disk" "$P" snapshot
    refused "expecting DISK" "$P" snapshot list
    refused "is none of create" "$P" snapshot lst d/disk.vmdk
    grep -q "did you mean 'list'" run.err || bad "no hint: $(<run.err)"
    refused "only one of" "$P" snapshot -l -c a d/disk.vmdk
    refused "one operand" "$P" snapshot -c a create d/disk.vmdk
    refused "expecting DISK NAME NEW-NAME" "$P" snapshot rename d/disk.vmdk a
    refused "No such file" "$P" snapshot create d/nothing.vmdk
    refused "no regular file" "$P" snapshot create d
}
it "what is asked for must be clear" words

# A colon makes a plain name look like that of a protocol.
colon() { # FORMAT OPTION
    local disk="d/web:1.$1" options=(${2:+"$2"}) n
    rm -rf d && mkdir d
    must "$PLATTER" convert -q -f raw -O "$1" 0.raw "$disk"
    for n in 1 2 3; do
        snapshot create "${options[@]}" -f "$1" "$disk" "s$n"
        must "$PLATTER" convert -q -n -f raw -O "$1" "$n.raw" "$disk"
    done
    snapshot delete -f "$1" "$disk" s2
    snapshot rename -f "$1" "$disk" s3 last
    must "$PLATTER" compare -f raw -F "$1" 3.raw "$disk"
    snapshot rollback -f "$1" "$disk" s1
    must "$PLATTER" compare -f raw -F "$1" 0.raw "$disk"
    snapshot rollback -f "$1" "$disk" last
    must "$PLATTER" compare -f raw -F "$1" 2.raw "$disk"
    [[ $1 != raw ]] || return 0
    must "$PLATTER" create -q -f "$1" -b "./web:1.snapshot-last.$1" -F "$1" "d/clone:1.$1"
    refused "the image clone:1.$1 is made of it" "$PLATTER" snapshot delete -f "$1" "$disk" last
}
for format in qcow2 vmdk vhd vhdx vdi raw; do
    it "$format: a disk with a colon in its name" colon "$format" "$([[ $format != qcow2 ]] || echo --external)"
done

# ---- what cannot be ----
state_of_other() {
    new_disk vdi ""
    snapshot create d/disk.vdi one
    local action
    for action in "create x" "rollback x" "delete x" "rename x y"; do
        # shellcheck disable=SC2086
        set -- $action
        refused "is the state 'one' of the disk d/disk.vdi" \
            "$P" snapshot "$1" d/disk.snapshot-one.vdi "${@:2}"
    done
}
it "a state of another disk is none itself" state_of_other

package() {
    rm -rf d && mkdir d
    must "$PLATTER" convert -q -f raw -O ova 0.raw d/disk.ova
    refused "inside an ova package has no snapshots" "$P" snapshot create d/disk.ova x
    [[ -z ${IMAGES:-} ]] || {
        cp "$(find "$IMAGES/qcow" -type f | head -n 1)" d/old.qcow
        refused "not supported by the format qcow" "$P" snapshot create d/old.qcow x
    }
}
it "packages and formats that are only read" package

one_way() {
    new_disk qcow2 ""
    snapshot create d/disk.qcow2 inside
    refused "keeps snapshots inside" "$P" snapshot create --external d/disk.qcow2 file
    snapshot delete d/disk.qcow2 inside
    snapshot create --external d/disk.qcow2 file
    snapshot create d/disk.qcow2 second
    [[ -e d/disk.snapshot-second.qcow2 ]] || bad "the second state is not in a file"
    needs_qemu || return 0
    must qemu-img snapshot -c theirs d/disk.qcow2
    refused "has snapshots inside" "$P" snapshot rollback d/disk.qcow2 file
    refused "has snapshots inside" "$P" snapshot delete d/disk.qcow2 second
    disk_is 0.raw
}
it "a disk keeps its states in one way" one_way

strangers() {
    new_disk vhdx block_size=1M
    snapshot create d/disk.vhdx one
    must "$PLATTER" create -q -f vhdx -b disk.snapshot-one.vhdx d/clone.vhdx
    refused "the image clone.vhdx is made of it" "$P" snapshot delete d/disk.vhdx one
    refused "the image clone.vhdx is made of it" "$P" snapshot rename d/disk.vhdx one two
    must "$PLATTER" compare -f raw -F vhdx 0.raw d/clone.vhdx
    disk_is 0.raw && state_is one 0.raw
}
it "what else is made of a state keeps it" strangers

# qemu-img makes snapshots of the same name; a rollback to a guess would lose what the disk has.
namesakes() {
    local action
    needs_qemu || return 0
    new_disk qcow2 "" && must qemu-img snapshot -c same d/disk.qcow2 && write_disk 1.raw &&
        must qemu-img snapshot -c same d/disk.qcow2 && write_disk 2.raw || return
    for action in rollback delete diff; do
        refused "more than one snapshot is called 'same'" "$P" snapshot "$action" d/disk.qcow2 same
        grep -q "number ('1', '2'" run.err || bad "no numbers: $(<run.err)"
    done
    refused "there is a snapshot 'same' already" "$P" snapshot create d/disk.qcow2 same
    disk_is 2.raw
    snapshot rename d/disk.qcow2 1 first && snapshot rollback d/disk.qcow2 first && disk_is 0.raw
    snapshot rollback d/disk.qcow2 same && disk_is 1.raw
}
it "qcow2: names that several snapshots have" namesakes

# A VDI image says its parent's UUIDs alone, and copies have the same ones.
copies() {
    new_disk vdi ""
    cp d/disk.vdi d/disk-backup.vdi && mkfifo d/a-pipe
    refused "disk-backup.vdi has the same identity" "$P" snapshot create d/disk.vdi one
    [[ ! -e d/disk.snapshot-one.vdi ]] || bad "the refused snapshot is there"
    write_disk 1.raw # the disk is another revision than its copy now
    snapshot create d/disk.vdi one && disk_is 1.raw && write_disk 2.raw
    snapshot create d/disk.vdi two && disk_is 2.raw || return
    cp d/disk.snapshot-one.vdi d/a-copy.vdi
    snapshot delete d/disk.vdi one && disk_is 2.raw && state_is two 2.raw
    must "$P" compare -f raw -F vdi 0.raw d/disk-backup.vdi
}
it "a copy of the disk is not taken for its parent" copies

# An image that is made of the disk would read another content after a rollback.
clone_of_disk() { # FORMAT OPTION
    new_disk "$1" "" && snapshot create ${2:+"$2"} -f "$1" "d/disk.$1" one && write_disk 1.raw
    must "$PLATTER" create -q -f qcow2 -b "disk.$1" -F "$1" d/clone.qcow2
    refused "the image clone.qcow2 is made of it" "$P" snapshot rollback -f "$1" "d/disk.$1" one
    must "$P" compare -f raw -F qcow2 1.raw d/clone.qcow2
    rm d/clone.qcow2
    snapshot rollback -f "$1" "d/disk.$1" one && disk_is 0.raw
}
it "raw: no rollback below a clone" clone_of_disk raw
it "qcow2: no rollback below a clone" clone_of_disk qcow2
it "qcow2: no rollback below a clone, files" clone_of_disk qcow2 --external

clone_of_copy() {
    new_disk raw "" && snapshot create -f raw d/disk.raw one
    must "$PLATTER" create -q -f qcow2 -b disk.snapshot-one.raw -F raw d/clone.qcow2
    refused "the image clone.qcow2 is made of it" "$P" snapshot delete -f raw d/disk.raw one
    refused "the image clone.qcow2 is made of it" "$P" snapshot rename -f raw d/disk.raw one two
    must "$P" compare -f raw -F qcow2 0.raw d/clone.qcow2
}
it "raw: what is made of a copy keeps it" clone_of_copy

# A machine somewhere else runs on a state.
state_in_use() { # FORMAT
    new_disk "$1" "" && snapshot create -f "$1" "d/disk.$1" one && snapshot create -f "$1" "d/disk.$1" two
    snapshot rollback -f "$1" "d/disk.$1" one
    "$PLATTER" convert -q -r 1M -f "$1" -O raw "d/disk.snapshot-two.$1" reading.raw &
    local reader=$! action
    sleep 0.5
    for action in "delete two" "rename two y"; do
        # shellcheck disable=SC2086
        set -- $action
        refused "in use by process $reader" "$P" snapshot "$1" -f "$format" "d/disk.$format" "${@:2}"
    done
    kill -9 "$reader"
    wait "$reader" 2>/dev/null
    rm -f reading.raw
    state_is two 0.raw
}
it "raw: a state in use is left alone" state_in_use raw
it "vmdk: a state in use is left alone" state_in_use vmdk

# What can be made can be deleted; and no file is a state of two disks.
file_names() {
    local disk state
    disk=$(printf 'd%.0s' {1..118})
    state=$(printf 's%.0s' {1..114})
    rm -rf d && mkdir d
    must "$PLATTER" create -q -f vmdk "d/$disk.vmdk" 1M
    refused "too long by 2 bytes" "$P" snapshot create "d/$disk.vmdk" "$state"
    snapshot create "d/$disk.vmdk" "${state:3}" && snapshot delete "d/$disk.vmdk" "${state:3}"
    must "$PLATTER" create -q -f raw d/a 1M
    must "$PLATTER" create -q -f raw d/a.b 1M
    refused "taken for the state 'x' of the disk d/a.b" "$P" snapshot create -f raw d/a x.b
    snapshot create -f raw d/a x.c
    refused "taken for the state 'x' of the disk d/a.b" "$P" snapshot rename -f raw d/a x.c x.b
}
it "names of files that could not be handled later" file_names

hard_link() {
    new_disk vhd "" && ln d/disk.vhd d/other.vhd
    refused "has another name" "$P" snapshot create d/disk.vhd one
    rm d/other.vhd
    snapshot create d/disk.vhd one
}
it "a disk with two names" hard_link
# A commit would make the state read as the disk does now, and nobody could go back.
committed() { # FORMAT [OPTION]
    new_disk "$1" "" && snapshot create ${2:+"$2"} "d/disk.$1" one && write_disk 1.raw || return
    refused "is the snapshot 'one' of the disk d/disk.$1" "$P" commit "d/disk.$1"
    grep -q "snapshot delete 'd/disk.$1' 'one'" run.err || bad "no advice: $(<run.err)"
    refused "is the snapshot 'one'" "$P" commit -d "d/disk.$1"
    disk_is 1.raw && state_is one 0.raw
    must "$P" create -q -f "$1" -b "disk.$1" -F "$1" "d/overlay.$1"
    refused "is the snapshot 'one'" "$P" commit -b "disk.snapshot-one.$1" "d/overlay.$1"
    must "$P" commit "d/overlay.$1" # into the disk: no state changes
    disk_is 1.raw && state_is one 0.raw
    rm "d/overlay.$1"
    must "$P" commit --force "d/disk.$1"
    disk_is 1.raw && state_is one 1.raw
}
for case in qcow2:--external vmdk vhd vhdx vdi; do
    IFS=: read -r format option <<<"$case"
    it "$format: no commit into a state" committed "$format" "$option"
done

# ---- links and permissions ----
through_link() {
    new_disk vmdk ""
    mkdir -p elsewhere && ln -sfn ../d/disk.vmdk elsewhere/link.vmdk
    snapshot create elsewhere/link.vmdk one && cp run.err told && write_disk 1.raw
    [[ -e d/disk.snapshot-one.vmdk && -L elsewhere/link.vmdk ]] || bad "the link was not followed"
    grep -q "warning: elsewhere/link.vmdk: is a link into another folder.*$PWD/d/disk.vmdk" told ||
        bad "nobody is told that the link does not open the disk any more: $(<told)"
    snapshot rollback elsewhere/link.vmdk one && disk_is 0.raw
    [[ -L elsewhere/link.vmdk ]] || bad "the link was replaced"
    ln -s disk.vmdk d/beside.vmdk
    snapshot create d/beside.vmdk two
    same "told of a link that works" "" "$(<run.err)"
    must "$PLATTER" compare -f raw -F vmdk 0.raw d/beside.vmdk
}
it "links to the disk are followed" through_link

told_once() {
    local action
    new_disk qcow2 "" && mv d/disk.qcow2 d/disk.img
    for action in -l list create diff; do
        snapshot "$action" d/disk.img
        same "warnings of $action" 1 "$(grep -c 'named like a raw disk' run.err)"
    done
}
it "a guess at the format is told once" told_once

permissions() { # FORMAT
    local file
    new_disk "$1" ""
    chmod 0640 "d/disk.$1"
    snapshot create "d/disk.$1" one && snapshot rollback "d/disk.$1" one
    for file in d/disk.*; do
        same "permissions of $file" 640 "$(stat -c %a "$file")"
    done
}
it "raw: files have the disk's permissions" permissions raw
it "vdi: files have the disk's permissions" permissions vdi

keeps_holes() {
    rm -rf d && mkdir d && format=raw
    truncate -s 1G d/disk.raw && dd if=1.raw of=d/disk.raw bs=1M seek=500 conv=notrunc status=none
    snapshot create -f raw d/disk.raw one
    (($(stat -c %b d/disk.snapshot-one.raw) <= $(stat -c %b d/disk.raw) + 64)) ||
        bad "the copy has $(stat -c %b d/disk.snapshot-one.raw) blocks"
    same_content d/disk.raw d/disk.snapshot-one.raw
}
it "raw: holes stay holes" keeps_holes

# ---- in use ----
in_use() { # FORMAT
    local action
    new_disk "$1" "" && snapshot create "d/disk.$1" one
    "$PLATTER" convert -q -n -r 1M -f raw -O "$1" 1.raw "d/disk.$1" &
    local writer=$!
    sleep 0.5
    for action in "create x" "rollback one" "delete one" "rename one y"; do
        # shellcheck disable=SC2086
        set -- $action
        refused "in use by process $writer \\(platter\\)" \
            "$P" snapshot "$1" "d/disk.$format" "${@:2}"
    done
    must "$P" snapshot list -U "d/disk.$format"
    kill -9 "$writer"
    wait "$writer" 2>/dev/null
    state_is one 0.raw
}
for format in raw qcow2 vmdk vhd vhdx vdi; do
    it "$format: a disk in use is left alone" in_use "$format"
done

# ---- as a user ----
tour() {
    PLATTER=$PLATTER TMPDIR=$PWD must "$SRCDIR/docs/snapshots.sh"
    same "the formats" 6 "$(grep -c '^===' run.out)"
}
it "the tour of docs/snapshots.sh" tour

finish
