#!/usr/bin/env bash
# bench sends the requests that qemu-img's bench sends: the same words, and after writes the same
# bytes in the image.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img python3
make_content disk.raw 4194304

without_time() { sed 's/in [0-9.]* seconds/in TIME seconds/' "$1"; }

says_the_same() { # OPTION...
    cp disk.raw ours && cp disk.raw theirs
    must "$PLATTER" bench -f raw "$@" ours
    without_time run.out >ours.out
    must qemu-img bench -f raw "$@" theirs
    without_time run.out >theirs.out
    same_content ours.out theirs.out
    same_content ours theirs
}
while read -r options; do
    # shellcheck disable=SC2086
    it "as qemu-img: $options" says_the_same $options
done <<'CASES'
-c 100
-c 0
-c 1000 -d 1 -s 64k
-c 100 -S 0
-c 50 -o 1M -s 512
-c 64 -w
-c 64 -w --pattern 5
-c 30 -w --pattern=255 -s 1000 -S 5000 -o 77
-c 100 -w --flush-interval 10 -d 4 -s 8k -S 16k -o 1M
-c 100 -w --flush-interval=50 -d 8 --no-drain --pattern 7
-c 10 -t none -n
-c 10 -t writeback -i threads
CASES

formats() { # FORMAT
    rm -f image."$1" && must "$PLATTER" create -q -f "$1" image."$1" 64M
    must "$PLATTER" bench -w -c 3000 -s 4k -S 20k --pattern 9 --flush-interval 500 image."$1"
    must "$PLATTER" check -q image."$1"
    must "$PLATTER" bench -c 3000 -s 64k image."$1"
    python3 - >wanted.raw <<'PYTHON'
import sys
disk = bytearray(64 << 20)
at = 0
for _ in range(3000):
    disk[at:at + 4096] = b"\x09" * 4096
    at = (at + 20480) % len(disk)
    if at + 4096 > len(disk):
        at = 0
sys.stdout.buffer.write(disk)
PYTHON
    must "$PLATTER" compare -q -f raw -F "$1" wanted.raw image."$1"
}
for format in qcow2 vmdk vdi vhd vhdx; do
    it "$format: what was written can be read" formats $format
done

refuses() { # REGEX OPTION...
    local regex=$1
    shift
    cp disk.raw x.raw
    refused "$regex" "$PLATTER" bench -f raw "$@" x.raw
    [[ ! -s run.out ]] || bad "says $(<run.out)"
    same_content disk.raw x.raw
}
while IFS='|' read -r regex options; do
    # shellcheck disable=SC2086
    it "refused: $options" refuses "$regex" $options
done <<'CASES'
Invalid request count specified|-c a
Invalid queue depth specified|-d x
Invalid queue depth specified|-d 0
Invalid queue depth specified|-d 5000
Invalid buffer size specified|-s 0
Invalid buffer size specified|-s 3G
Invalid pattern byte specified|-w --pattern 256
Invalid flush interval specified|-w --flush-interval x
--flush-interval is only available in write tests|--flush-interval 100
Flush interval can't be smaller than depth|-w --flush-interval 10
past the end of the disk|-o 4M
past the end of the disk|-s 8M
not one of|-t foo
not one of|-i foo
force-share|-U -w
CASES
json() {
    must "$PLATTER" bench -c 100 -s 8k --output=json -f raw disk.raw
    python3 -c 'import json; r = json.load(open("run.out"))
assert r["requests"] == 100 and r["buffer-size"] == 8192 and r["operation"] == "read", r
assert r["seconds"] >= 0 and r["requests-per-second"] >= 0, r' || bad "$(<run.out)"
}
it 'JSON' json
finish
