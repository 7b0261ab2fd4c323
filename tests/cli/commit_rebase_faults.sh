#!/usr/bin/env bash
# commit and rebase that cannot be done, or not to their end: wrong words, images that would lose
# content, locks, files that cannot be written, a full disk, unreadable clusters, signals.  Until the
# work is done the image reads as before, and the same command finishes it.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz jq

SIZE=6292992
mounts=()
cleanup() {
    local it
    for it in "${mounts[@]}"; do umount "$it"; done
}
trap cleanup EXIT

make_content 0.raw $SIZE 4
cp 0.raw 1.raw && change_content 1.raw 1
cp 1.raw 2.raw && change_content 2.raw 2
make_content other.raw $SIZE 9

# base.qcow2 <- mid.qcow2 <- top.qcow2, and other.raw beside them.
make_chain() { # OPTIONS [FOLDER]
    local folder=${2:-chain}
    rm -rf chain && mkdir -p "$folder"
    must "$PLATTER" convert -f raw -O qcow2 0.raw "$folder/base.qcow2" &&
        must "$PLATTER" convert -f raw -O qcow2 -o "$1" -B base.qcow2 -F qcow2 1.raw "$folder/mid.qcow2" &&
        must "$PLATTER" convert -f raw -O qcow2 -o "$1" -B mid.qcow2 -F qcow2 2.raw "$folder/top.qcow2" &&
        cp other.raw "$folder/"
}

shows() { # CONTENT IMAGE
    qemu-img compare -q -f raw -F qcow2 "$1" "$2" >qemu.out 2>&1 ||
        bad "$2 is another disk than $1: $(<qemu.out)"
    # a crash may lose room, nothing else
    run qemu-img check -q "$2"
    ((status == 0 || status == 3)) || bad "qemu-img check of $2: status $status"
}

all_files() { cat chain/* | sha256sum; }

leaves_all() { # REGEX COMMAND...: refused, and no file has changed
    local before
    before=$(all_files)
    refused "$@"
    same "the files" "$before" "$(all_files)"
}

# ---- words --------------------------------------------------------------------------------------
wrong_words() {
    make_chain ""
    leaves_all 'expecting one image' "$PLATTER" commit
    leaves_all 'expecting one image' "$PLATTER" commit chain/top.qcow2 chain/mid.qcow2
    leaves_all 'no such file' "$PLATTER" commit chain/none.qcow2
    leaves_all 'unknown file format' "$PLATTER" commit -f none chain/top.qcow2
    leaves_all 'has no backing file' "$PLATTER" commit chain/base.qcow2
    leaves_all 'has no backing file' "$PLATTER" commit -f raw chain/other.raw
    leaves_all 'not in its chain' "$PLATTER" commit -b other.raw chain/top.qcow2
    leaves_all 'not in its chain' "$PLATTER" commit -b top.qcow2 chain/top.qcow2
    leaves_all 'would never end' "$PLATTER" commit -r 0 chain/top.qcow2
    leaves_all 'cache' "$PLATTER" commit -t never chain/top.qcow2
    leaves_all 'image-opts' "$PLATTER" commit --image-opts chain/top.qcow2
    leaves_all 'expecting one image' "$PLATTER" rebase -b base.qcow2
    leaves_all 'backing file is missing' "$PLATTER" rebase chain/top.qcow2
    leaves_all 'no such file' "$PLATTER" rebase -b none.qcow2 chain/top.qcow2
    leaves_all 'no such file' "$PLATTER" rebase -b base.qcow2 chain/none.qcow2
    leaves_all 'unknown file format' "$PLATTER" rebase -b base.qcow2 -F none chain/top.qcow2
    leaves_all 'not a qcow2' "$PLATTER" rebase -b other.raw -F qcow2 chain/top.qcow2
    leaves_all 'not supported by the format raw' "$PLATTER" rebase -f raw -b base.qcow2 chain/other.raw
    leaves_all 'cache' "$PLATTER" rebase -t never -b base.qcow2 chain/top.qcow2
    leaves_all 'is the image itself or builds on it' "$PLATTER" rebase -b top.qcow2 chain/top.qcow2
    leaves_all 'is the image itself or builds on it' "$PLATTER" rebase -u -b top.qcow2 chain/top.qcow2
    leaves_all 'is the image itself or builds on it' "$PLATTER" rebase -b top.qcow2 chain/mid.qcow2
    leaves_all 'is the image itself or builds on it' "$PLATTER" rebase -u -b top.qcow2 chain/mid.qcow2
    leaves_all 'is the image itself or builds on it' "$PLATTER" rebase -u -b mid.qcow2 chain/base.qcow2
    leaves_all 'too long|limit' "$PLATTER" rebase -u -F raw -b "$(printf '%01100d' 0)" chain/top.qcow2
}
it "what makes no sense is refused" wrong_words

json_has() { # FILTER WANTED
    same "$1" "$2" "$(jq -r "$1" run.out)"
}
as_json() {
    make_chain ""
    must "$PLATTER" commit --output=json chain/top.qcow2
    json_has .filename chain/top.qcow2
    json_has .base chain/mid.qcow2
    json_has '.["base-format"]' qcow2
    json_has '.["virtual-size"]' $SIZE
    json_has '.emptied, .grown' $'true\nfalse'
    jq -e '.copied > 0' run.out >jq.out || bad "nothing was copied"
    must "$PLATTER" rebase --output=json -b base.qcow2 chain/top.qcow2
    json_has '.["backing-filename"], .["backing-filename-format"], .unsafe' $'base.qcow2\nqcow2\nfalse'
    must "$PLATTER" rebase --output=json -b "" chain/top.qcow2
    json_has '.["backing-filename"], .["backing-filename-format"]' $'null\nnull'
    run "$PLATTER" commit --output=json chain/top.qcow2
    same "the kind of the error" invalid "$(jq -r .error.kind run.err)"
    must "$PLATTER" rebase -p -b base.qcow2 chain/top.qcow2
    grep -q '(100.00/100%)' run.out || bad "no progress: $(<run.out)"
}
it "results and errors as JSON, progress" as_json

# ---- what would lose content --------------------------------------------------------------------
siblings() {
    make_chain ""
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 chain/sibling.qcow2
    leaves_all 'base.qcow2: other images build on it.*: sibling.qcow2' "$PLATTER" commit chain/mid.qcow2
    leaves_all 'base.qcow2: other images build on it.*: sibling.qcow2' \
        "$PLATTER" commit -b base.qcow2 chain/top.qcow2
    grep -q -e '--force' run.err || bad "no hint of --force"
    must "$PLATTER" commit chain/top.qcow2
    must "$PLATTER" rebase -b "" chain/sibling.qcow2 && shows 0.raw chain/sibling.qcow2
    must "$PLATTER" commit chain/mid.qcow2 && shows 2.raw chain/base.qcow2
    qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 chain/sibling2.qcow2
    leaves_all 'mid.qcow2: other images build on it.*: sibling2.qcow2' \
        "$PLATTER" commit -b base.qcow2 chain/top.qcow2
    must "$PLATTER" commit --force -b base.qcow2 chain/top.qcow2
}
it "a sibling that builds on the base" siblings

sibling_of() { # FORMAT: also where the parent is known by an identity
    local name
    rm -rf chain && mkdir chain
    must "$PLATTER" convert -f raw -O "$1" 0.raw chain/base."$1"
    for name in child sibling; do
        must "$PLATTER" create -q -f "$1" -b base."$1" -F "$1" chain/$name."$1"
    done
    leaves_all "other images build on it.*: sibling.$1" "$PLATTER" commit chain/child."$1"
    must "$PLATTER" rebase -b "" chain/sibling."$1"
    must "$PLATTER" commit chain/child."$1"
    must "$PLATTER" compare -f raw 0.raw chain/sibling."$1"
}
for format in vmdk vdi vhd vhdx; do
    it "$format: a sibling that builds on the base" sibling_of $format
done

in_other_folders() { # the base lies elsewhere, with a sibling beside the base
    make_chain ""
    mkdir chain2 && mv chain/base.qcow2 chain2/
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 chain2/sibling.qcow2
    must "$PLATTER" rebase -u -b "$PWD/chain2/base.qcow2" -F qcow2 chain/mid.qcow2
    refused '--allow-dir' "$PLATTER" commit chain/mid.qcow2
    refused 'sibling.qcow2' "$PLATTER" commit --allow-dir chain2 chain/mid.qcow2
    rm chain2/sibling.qcow2
    must "$PLATTER" commit --allow-dir chain2 chain/mid.qcow2 && shows 1.raw chain2/base.qcow2
    rm -r chain2
}
it "a base in another folder" in_other_folders

with_snapshots() {
    make_chain ""
    qemu-img snapshot -c first chain/mid.qcow2
    leaves_all "internal snapshots .*'first'" "$PLATTER" commit chain/mid.qcow2
    leaves_all "internal snapshots .*'first'" "$PLATTER" rebase -b other.raw -F raw chain/mid.qcow2
    must "$PLATTER" rebase -u -b base.qcow2 -F qcow2 chain/mid.qcow2
    grep -q 'warning: .*snapshots' run.err || bad "no warning of the snapshots: $(<run.err)"
    must "$PLATTER" commit chain/top.qcow2
    must "$PLATTER" rebase --force -b other.raw -F raw chain/mid.qcow2 && shows 2.raw chain/mid.qcow2
}
it "internal snapshots that read through" with_snapshots

unwritable_formats() {
    make_chain ""
    must "$PLATTER" convert -f raw -O vmdk -o subformat=streamOptimized 0.raw chain/base.vmdk
    must "$PLATTER" rebase -u -b base.vmdk -F vmdk chain/mid.qcow2
    leaves_all 'cannot be written to' "$PLATTER" commit chain/mid.qcow2
}
it "a base that cannot be written to" unwritable_formats

raw_bases() { # the format in the child counts; what it does not say is guessed and guarded
    make_chain ""
    qemu-img create -q -f qcow2 -b other.raw -F raw chain/child.qcow2
    qemu-io -f qcow2 -c 'write -q -P 81 0 1' chain/child.qcow2
    printf 'QFI\xfb\0\0\0\3' >magic && dd if=magic of=chain/magic.raw status=none && truncate -s 1M chain/magic.raw
    qemu-img convert -f raw -O qcow2 chain/magic.raw chain/planted.qcow2 && rm chain/magic.raw
    must "$PLATTER" rebase -u -b other.raw -F raw chain/planted.qcow2
    must "$PLATTER" commit chain/child.qcow2 --force
    same "the first byte" Q "$(head -c 1 chain/other.raw)"
    must "$PLATTER" commit --force chain/planted.qcow2
    cmp -s -n 8 magic chain/other.raw || bad "the first bytes were not written"
}
guessed_base() { # the guest of a disk that is raw by guess must not make it another format
    local command
    make_chain ""
    qemu-img create -q -f qcow2 -b other.raw -F raw "chain/a child.qcow2"
    qemu-io -f qcow2 -c 'write -q -P 81 0 1' -c 'write -q -P 70 1 1' -c 'write -q -P 73 2 1' \
        -c 'write -q -P 251 3 1' -c 'write -q -z 4 3' -c 'write -q -P 3 7 1' "chain/a child.qcow2"
    mv chain/other.raw away.raw && must "$PLATTER" rebase -u -b other.raw "chain/a child.qcow2"
    mv away.raw chain/other.raw
    same "the format of its backing file" null "$("$PLATTER" info --output=json "chain/a child.qcow2" |
        jq -r '.["backing-filename-format"]')"
    refused 'look like qcow2' "$PLATTER" commit "chain/a child.qcow2"
    command=$(sed -n 's/^hint: .*: platter \(rebase .*\)$/\1/p' run.err)
    [[ $command ]] || { bad "no command in the hint: $(<run.err)"; return; }
    must bash -c "'$PLATTER' $command" && must "$PLATTER" commit "chain/a child.qcow2"
    same "the first bytes" QFI "$(head -c 3 chain/other.raw)"
}
it "a base that is raw by guess" guessed_base
it "a raw base is written to as what the child says it is" raw_bases

# ---- who else uses it ---------------------------------------------------------------------------
in_use() {
    make_chain ""
    qemu-io -r -f qcow2 -c 'sleep 20000' chain/base.qcow2 >io.out 2>&1 &
    local reader=$!
    sleep 1
    leaves_all 'locked|in use' "$PLATTER" commit chain/mid.qcow2
    must "$PLATTER" rebase -b base.qcow2 chain/top.qcow2 # a reader of a backing file is no harm
    { kill $reader && wait $reader; } 2>/dev/null
    qemu-io -f qcow2 -c 'sleep 20000' chain/top.qcow2 >io.out 2>&1 &
    reader=$!
    sleep 1
    leaves_all 'locked|in use' "$PLATTER" commit chain/top.qcow2
    leaves_all 'locked|in use' "$PLATTER" commit -d chain/top.qcow2
    leaves_all 'locked|in use' "$PLATTER" rebase -b mid.qcow2 chain/top.qcow2
    leaves_all 'locked|in use' "$PLATTER" rebase -u -b mid.qcow2 chain/top.qcow2
    { kill $reader && wait $reader; } 2>/dev/null
    must "$PLATTER" commit --force chain/top.qcow2
}
it "an image that somebody else has open" in_use

read_only_files() {
    make_chain "" folder && mount -o remount,ro folder || return
    refused 'read-only' "$PLATTER" commit folder/top.qcow2
    refused 'read-only' "$PLATTER" commit -d folder/top.qcow2
    refused 'read-only' "$PLATTER" rebase -b base.qcow2 folder/top.qcow2
    refused 'read-only' "$PLATTER" rebase -u -b base.qcow2 -F qcow2 folder/top.qcow2
    shows 2.raw folder/top.qcow2
}
full_disk() { # ROOM COMMAND...: with less room than it needs; then with all of it
    local room=$1
    shift
    make_chain "" folder || return
    dd if=/dev/zero of=folder/filler bs=64K status=none 2>/dev/null
    truncate -s "-$room" folder/filler
    refused 'no space' "$@"
    grep -q '^hint: ' run.err || bad "nothing says what to do: $(<run.err)"
    shows 2.raw folder/top.qcow2
    rm folder/filler
    must "$@" && shows 2.raw folder/top.qcow2
}
on_tmpfs() { # SIZE COMMAND...
    mkdir -p folder && mount -t tmpfs -o size="$1" platter-test folder && mounts=(folder)
    shift
    "$@"
    umount folder && mounts=()
}
if mkdir -p folder && mount -t tmpfs -o size=64M platter-test folder 2>/dev/null; then
    umount folder
    it "files that cannot be written to" on_tmpfs 64M read_only_files
    it "no room for a commit" on_tmpfs 64M full_disk 64K "$PLATTER" commit -b base.qcow2 folder/top.qcow2
    it "no room for a rebase" on_tmpfs 64M full_disk 1M "$PLATTER" rebase -b "" folder/top.qcow2
else
    skip "nothing can be mounted" 3
fi

limited() {
    local before most
    make_chain ""
    most=$(($(stat -c %s chain/top.qcow2) / 1024 + 256))
    before=$(sha256sum <chain/mid.qcow2)
    refused 'too large|no space|too big' bash -c "ulimit -f $most && exec \"\$@\"" - \
        "$PLATTER" rebase -b "" chain/top.qcow2
    shows 2.raw chain/top.qcow2
    same "the parent" "$before" "$(sha256sum <chain/mid.qcow2)"
    same "the backing file" mid.qcow2 "$("$PLATTER" info --output=json chain/top.qcow2 |
        jq -r '.["backing-filename"]')"
    must "$PLATTER" rebase -b "" chain/top.qcow2 && shows 2.raw chain/top.qcow2
}
it "a limit on the size of files" limited

# ---- unreadable ---------------------------------------------------------------------------------
# The last compressed cluster of mid.qcow2 is no longer one.
break_cluster() {
    cp chain/mid.qcow2 sound.qcow2
    python3 - chain/mid.qcow2 <<'PYTHON'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    raw = f.read()
    l1, = struct.unpack_from(">Q", raw, 40)
    l2 = struct.unpack_from(">Q", raw, l1)[0] & 0x00fffffffffffe00
    packed = [e for (e,) in struct.iter_unpack(">Q", raw[l2:l2 + 65536]) if e >> 62 & 1]
    f.seek(packed[-1] & (1 << 54) - 1)
    f.write(b"\xff" * 64)
PYTHON
}
unreadable() {
    make_chain ""
    must "$PLATTER" convert -c -O qcow2 -B base.qcow2 -F qcow2 chain/mid.qcow2 chain/packed.qcow2
    mv chain/packed.qcow2 chain/mid.qcow2
    break_cluster
    refused 'compressed' "$PLATTER" rebase -b "" chain/top.qcow2
    same "the backing file" mid.qcow2 "$("$PLATTER" info --output=json chain/top.qcow2 |
        jq -r '.["backing-filename"]')"
    refused 'compressed' "$PLATTER" commit chain/mid.qcow2
    cp sound.qcow2 chain/mid.qcow2 && shows 1.raw chain/mid.qcow2 && break_cluster
    refused 'compressed' "$PLATTER" commit -b base.qcow2 chain/top.qcow2
    cp sound.qcow2 chain/mid.qcow2
    shows 2.raw chain/top.qcow2
    must "$PLATTER" commit -b base.qcow2 chain/top.qcow2
    shows 2.raw chain/top.qcow2 && shows 2.raw chain/base.qcow2
}
it "a cluster that cannot be read" unreadable

no_parent() {
    make_chain ""
    mv chain/base.qcow2 .
    leaves_all 'no such file' "$PLATTER" commit chain/top.qcow2
    leaves_all 'no such file' "$PLATTER" rebase -b "" chain/top.qcow2
    grep -q '^hint: -u ' run.err || bad "no hint of -u: $(<run.err)"
    mv base.qcow2 chain/moved.qcow2
    must "$PLATTER" rebase -u -b moved.qcow2 chain/mid.qcow2 && shows 2.raw chain/top.qcow2
}
it "a parent that is gone, and its new name" no_parent

hinted() { # the command in the hint, with the user's words put in
    make_chain ""
    mv chain/mid.qcow2 "chain/the middle.qcow2"
    qemu-img rebase -u -b 'json:{"driver":"qcow2","file":{"filename":"chain/base.qcow2"}}' -F qcow2 \
        "chain/the middle.qcow2"
    refused 'only files are opened' "$PLATTER" convert -O raw "chain/the middle.qcow2" out.raw
    local command
    command=$(sed -n 's/^hint: .*: platter \(rebase .*\)$/\1/p' run.err)
    [[ $command ]] || { bad "no command in the hint: $(<run.err)"; return; }
    command=${command/FORMAT/qcow2}
    must bash -c "'$PLATTER' ${command/PATH/base.qcow2}"
    shows 1.raw "chain/the middle.qcow2"
}
it "the command that a hint proposes works" hinted

# ---- signals ------------------------------------------------------------------------------------
stopped() { # SIGNAL STATUS COMMAND...: a commit at 1 MiB a second
    make_chain ""
    env --default-signal=INT,TERM "${@:3}" >run.out 2>run.err &
    sleep 0.7
    kill "-$1" $!
    { wait $!; } 2>/dev/null
    same "status" "$2" $?
    shows 2.raw chain/top.qcow2
    must "$PLATTER" commit -b base.qcow2 chain/top.qcow2
    shows 2.raw chain/base.qcow2
    must "$PLATTER" commit chain/top.qcow2 --force
    shows 2.raw chain/top.qcow2
}
killed() { # COMMAND...: at random moments, again and again; now and then it comes to its end
    local try ended
    make_chain "cluster_size=512" || return
    for ((try = 0; try < 25 && !problems; try++)); do
        "$@" >run.out 2>run.err &
        sleep "$(awk -v seed=$try 'BEGIN { srand(seed); printf "%.3f", rand() * 0.08 }')"
        kill -KILL $! 2>/dev/null
        ended=0
        { wait $!; } 2>/dev/null || ended=$?
        ((ended == 0 || ended == 137)) || bad "status $ended: $(<run.err)"
        shows 2.raw chain/top.qcow2
        ((ended)) || make_chain "cluster_size=512"
    done
    must "$@"
    shows 2.raw chain/top.qcow2
}
if env --default-signal=INT true 2>/dev/null; then
    it "SIGINT in a commit" stopped INT 1 "$PLATTER" commit -r 200k -b base.qcow2 chain/top.qcow2
    it "SIGTERM in a commit" stopped TERM 1 "$PLATTER" commit -r 200k -b base.qcow2 chain/top.qcow2
    it "SIGKILL in a commit" stopped KILL 137 "$PLATTER" commit -r 200k -b base.qcow2 chain/top.qcow2
else
    skip "env cannot set default signals" 3
fi
it "SIGKILL at any moment of a commit" killed "$PLATTER" commit chain/top.qcow2
it "SIGKILL at any moment of a commit into the base" killed "$PLATTER" commit -b base.qcow2 chain/top.qcow2
it "SIGKILL at any moment of a rebase" killed "$PLATTER" rebase -b other.raw -F raw chain/top.qcow2
finish
