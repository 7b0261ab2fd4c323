#!/usr/bin/env bash
# check --undo: where the journal is and what is said of it; what was written to since, is torn or
# is no journal is refused; a repair that was killed, or had no room, is taken back.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz
damage=$SRCDIR/tests/support/damage_qcow2.py
make_content disk.raw 4194304 4
qemu-img convert -f raw -O qcow2 disk.raw plain.qcow2

damaged() { # an image x.qcow2 with leaks and a journal of their repair
    cp plain.qcow2 x.qcow2
    "$damage" leak x.qcow2 && "$damage" entry_past_end x.qcow2
    cp x.qcow2 damaged.qcow2
    rm -f x.qcow2.undo
}
repaired() {
    damaged
    must "$PLATTER" check -q -r all x.qcow2
    cp x.qcow2 repaired.qcow2
}
written_since() {
    repaired
    qemu-io -f qcow2 -c 'write -P 9 0 1k' x.qcow2 >/dev/null
    cp x.qcow2 written.qcow2
    refused 'was written to after the repair' "$PLATTER" check --undo x.qcow2
    same_content written.qcow2 x.qcow2
    [[ -e x.qcow2.undo ]] || bad 'the journal is gone'
}
it 'an image that was written to since is left alone' written_since
new_cluster_since() {
    repaired
    qemu-io -f qcow2 -c 'discard 0 1M' -c 'write -P 9 0 1M' x.qcow2 >/dev/null
    cp x.qcow2 written.qcow2
    refused 'are not what the repair left|has [0-9]+ bytes' "$PLATTER" check --undo --force x.qcow2
    same_content written.qcow2 x.qcow2
}
it '--force does not put back over what was written' new_cluster_since
copied_since() {
    repaired
    mkdir -p elsewhere && cp x.qcow2 x.qcow2.undo elsewhere/
    touch -d 'now + 1 minute' elsewhere/x.qcow2
    refused '--force' "$PLATTER" check --undo elsewhere/x.qcow2
    must "$PLATTER" check --undo --force elsewhere/x.qcow2
    same_content damaged.qcow2 elsewhere/x.qcow2
}
it 'a copy is taken back with --force' copied_since
moved_since() {
    repaired
    mkdir -p there && mv x.qcow2 x.qcow2.undo there/ && ln -sf there/x.qcow2 link.qcow2
    must "$PLATTER" check --undo link.qcow2
    same_content damaged.qcow2 there/x.qcow2
}
it 'an image that was moved with its journal, by a link' moved_since
nothing_to_undo() {
    cp plain.qcow2 x.qcow2 && rm -f x.qcow2.undo
    refused 'no repair to take back' "$PLATTER" check --undo x.qcow2
    must "$PLATTER" check -q -r all x.qcow2
    [[ ! -e x.qcow2.undo ]] || bad 'a journal of nothing'
    same_content plain.qcow2 x.qcow2
}
it 'a sound image gets no journal' nothing_to_undo
without() {
    damaged
    must "$PLATTER" check -q -r all --no-undo x.qcow2
    [[ ! -e x.qcow2.undo ]] || bad 'a journal all the same'
    must "$PLATTER" check -q x.qcow2
}
it '--no-undo keeps nothing' without
elsewhere() {
    damaged
    mkdir -p journals
    must "$PLATTER" check -r all --undo-file journals/one x.qcow2
    grep -q 'is kept in journals/one' run.out || bad "does not say where: $(<run.out)"
    [[ -e journals/one && ! -e x.qcow2.undo ]] || bad 'not there'
    must "$PLATTER" check --undo --undo-file journals/one x.qcow2
    same_content damaged.qcow2 x.qcow2
}
it '--undo-file says where' elsewhere
replaced() {
    repaired
    "$damage" leak x.qcow2
    cp x.qcow2 second.qcow2
    must "$PLATTER" check -r leaks x.qcow2
    grep -q 'can no longer be taken back' run.err || bad "does not say so: $(<run.err)"
    must "$PLATTER" check --undo x.qcow2
    same_content second.qcow2 x.qcow2
}
it 'a second repair replaces the journal and says so' replaced
other_file() {
    damaged
    echo 'shopping list' >x.qcow2.undo
    run "$PLATTER" check -r all x.qcow2
    same status 1 "$status"
    grep -q 'is no undo journal' run.err || bad "says $(<run.err)"
    same_content damaged.qcow2 x.qcow2
    refused 'is no undo journal' "$PLATTER" check --undo x.qcow2
    same 'the list' 'shopping list' "$(<x.qcow2.undo)"
}
it 'a file of that name that is no journal stays' other_file
permissions() {
    damaged
    chmod 640 x.qcow2
    must "$PLATTER" check -q -r all x.qcow2
    same mode 640 "$(stat -c %a x.qcow2.undo)"
}
it "the journal has the image's permissions" permissions
contradictions() {
    damaged
    refused 'not together' "$PLATTER" check --undo -r all x.qcow2
    refused 'not together' "$PLATTER" check --undo -U x.qcow2
    refused '--no-undo' "$PLATTER" check --undo --no-undo x.qcow2
    refused '--no-undo' "$PLATTER" check -r all --undo-file a --no-undo x.qcow2
    refused '--force' "$PLATTER" check --force x.qcow2
    refused '--undo-file' "$PLATTER" check --undo-file a x.qcow2
}
it 'options that contradict each other' contradictions
json() {
    damaged
    must "$PLATTER" check -r all --output=json x.qcow2
    same undo-file "$PWD/x.qcow2.undo" "$(python3 -c 'import json; print(json.load(open("run.out"))["undo-file"])')"
    must "$PLATTER" check --undo --output=json x.qcow2
    python3 -c 'import json; r = json.load(open("run.out"))
assert r["restored-files"] == 1 and r["restored-bytes"] and not r["repair-interrupted"], r' || bad "$(<run.out)"
    must "$PLATTER" check -r all --output=json plain.qcow2
    ! grep -q undo-file run.out || bad 'a journal of nothing'
}
it 'JSON' json

# ---- a full disk, a killed repair ----
full() { # the journal may not become large: what it has not stays as it is
    damaged
    (ulimit -f 40; "$PLATTER" check -r all --undo-file small.undo x.qcow2 >run.out 2>run.err)
    same status 1 $?
    grep -q -- '--no-undo' run.err || bad "no advice: $(<run.err)"
    if [[ -e small.undo ]]; then
        must "$PLATTER" check --undo --undo-file small.undo x.qcow2
    fi
    same_content damaged.qcow2 x.qcow2
    must "$PLATTER" check -q -r all x.qcow2
    same_content repaired.qcow2 x.qcow2
}
it 'no room for the journal' full

qemu-img create -q -f qcow2 -o cluster_size=512 many.qcow2 64M
qemu-io -f qcow2 -c 'write -P 1 0 24M' many.qcow2 >/dev/null
python3 - <<'PYTHON'
import os, struct
with open("many.qcow2", "r+b") as f: # every refcount is wrong
    f.seek(48)
    table, clusters = struct.unpack(">QI", f.read(12))
    f.seek(table)
    for at in struct.unpack(f">{clusters * 64}Q", f.read(clusters * 512)):
        if at:
            f.seek(at)
            f.write(struct.pack(">H", 2) * 256)
PYTHON
killed() { # ROUNDS
    local round undone=0
    for ((round = 1; round <= $1; round++)); do
        cp many.qcow2 x.qcow2 && rm -f x.qcow2.undo
        "$PLATTER" check -r all x.qcow2 >/dev/null 2>&1 &
        while [[ ! -e x.qcow2.undo ]] && kill -0 $! 2>/dev/null; do :; done
        sleep "0.00$((round % 10))"
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
        if [[ ! -e x.qcow2.undo ]]; then
            same_content many.qcow2 x.qcow2
            continue
        fi
        undone=$((undone + 1))
        if ((round % 3 == 0)); then # run again, it goes on, and is taken back as one
            must "$PLATTER" check -q -r all x.qcow2
            must "$PLATTER" check -q x.qcow2
        fi
        must "$PLATTER" check -q --undo x.qcow2
        same_content many.qcow2 x.qcow2
    done
    ((undone > 0)) || bad 'never killed in the middle'
}
it 'a repair that was killed is taken back, or goes on' killed 30

interrupted() { # x.qcow2 with a journal that was never completed
    damaged
    must "$PLATTER" check -q -r all x.qcow2
    python3 - <<'PYTHON'
import struct
with open("x.qcow2.undo", "r+b") as f: # without its last batch, which says that the repair is over
    data, at, last = f.read(), 4096, 0
    while at < len(data):
        last = at
        at += (64 + struct.unpack_from("<Q", data, at + 32)[0] + 4095) // 4096 * 4096
    f.truncate(last)
PYTHON
}
restored() { # from a backup that keeps the times
    interrupted
    cp plain.qcow2 x.qcow2 && touch -d '2020-01-01' x.qcow2
    refused 'an older one' "$PLATTER" check --undo x.qcow2
    same_content plain.qcow2 x.qcow2
}
it 'an interrupted repair is not taken back on another file' restored
written_after_kill() {
    interrupted
    touch -d 'now + 1 minute' x.qcow2
    refused 'was written to after the repair' "$PLATTER" check --undo x.qcow2
    "$damage" leak x.qcow2
    touch -d 'now + 1 minute' x.qcow2
    cp x.qcow2 second.qcow2
    must "$PLATTER" check -r all x.qcow2
    grep -q 'interrupted repair can no longer be taken back' run.err || bad "$(<run.err)"
    must "$PLATTER" check --undo x.qcow2
    same_content second.qcow2 x.qcow2
}
it 'nor on one that was written to since' written_after_kill
goes_on() {
    interrupted
    "$damage" leak x.qcow2
    touch x.qcow2.undo
    must "$PLATTER" check -r all x.qcow2
    must "$PLATTER" check --undo --output=json x.qcow2
    grep -q '"repair-interrupted": false' run.out || bad "$(<run.out)"
    same_content damaged.qcow2 x.qcow2
}
it 'a repair goes on with the journal of one that was interrupted' goes_on
no_place() {
    damaged
    run "$PLATTER" check -r all --undo-file nofolder/x x.qcow2
    same status 1 "$status"
    grep -q 'nofolder' run.err && grep -q -- '--no-undo' run.err || bad "$(<run.err)"
    same_content damaged.qcow2 x.qcow2
}
it 'a place that does not exist' no_place
named_files() { # a journal may not lead out of the folder of the image
    mkdir -p inside && echo 'do not touch' >victim
    rm -f inside/*
    (cd inside && qemu-img create -q -f qcow2 -o data_file=victim x.qcow2 1M && "$damage" leak x.qcow2)
    must "$PLATTER" check -q -r all --undo-file j inside/x.qcow2
    python3 - <<'PYTHON'
# the same journal, which names another file: the sums are right
import struct
def crc32c(data, crc=0):
    crc ^= 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
data = bytearray(open("j", "rb").read())
length, = struct.unpack_from("<Q", data, 4096 + 32)
name = b"../victim"
entry = struct.pack("<IIQQQ", 1, 1, 13, len(name), 0) + name.ljust(16, b"\0")
entry += struct.pack("<IIQQQ", 3, 1, 0, 13, 0)
batch = data[4096:4096 + 64 + length] + entry
struct.pack_into("<Q", batch, 32, length + len(entry))
struct.pack_into("<I", batch, 4, crc32c(batch[8:]))
open("j", "wb").write(data[:4096] + batch)
PYTHON
    refused 'outside its folder' "$PLATTER" check --undo --force --undo-file j inside/x.qcow2
    same victim 'do not touch' "$(<victim)"
}
it 'a journal leads to no file outside the folder' named_files
finish
