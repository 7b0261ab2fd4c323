#!/usr/bin/env bash
# dd copies the blocks that it is asked for, out of images of any format into images of any other;
# operands, numbers and their errors are qemu-img's.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img python3
SIZE=6292992
make_content disk.raw "$SIZE" 4

part() { # FILE BLOCK SKIP COUNT (-: all)
    local -a count=()
    [[ $4 == - ]] || count=(count="$4")
    dd if="$1" of=wanted.raw bs="$2" skip="$3" "${count[@]}" status=none
}

# What the dd of the system says, rounded up to whole sectors where the format counts in them.
copies() { # FORMAT-OPTIONS-OF-INPUT OUTPUT-FORMAT BLOCK SKIP COUNT
    local input=in."${1%% *}" output=out."$2"
    local -a operands=(bs="$3" skip="$4")
    [[ $5 == - ]] || operands+=(count="$5")
    rm -f "$output"
    must "$PLATTER" dd -O "$2" "${operands[@]}" if="$input" of="$output" || return
    part disk.raw "$3" "$4" "$5"
    must "$PLATTER" convert -O raw "$output" got.raw
    truncate -s "$(stat -c %s got.raw)" wanted.raw
    same_content wanted.raw got.raw
    (($(stat -c %s got.raw) - $(dd if=disk.raw bs="$3" skip="$4" ${5:+$([[ $5 == - ]] || echo count="$5")} status=none | wc -c) < 512)) ||
        bad "$(stat -c %s got.raw) bytes"
    if [[ $2 == qcow2 ]]; then must qemu-img check -q "$output"; fi
}
while read -r format options; do
    rm -f in."$format"
    case $options in
    -c) must "$PLATTER" convert -q -c -f raw -O "${format%.c}" disk.raw in."$format" ;;
    *) must "$PLATTER" convert -q -f raw -O "$format" disk.raw in."$format" ;;
    esac
    for to in raw qcow2 vmdk vdi vhdx; do
        while read -r block skip count; do
            it "$format $options to $to: bs=$block skip=$skip count=$count" \
                copies "$format" $to "$block" "$skip" "$count"
        done <<'PARTS'
512 0 -
65536 3 20
65536 3 -
4096 17 1000
1000 7 333
1048576 2 1
3000000 1 5
PARTS
    done
done <<'INPUTS'
raw
qcow2
vmdk
vhdx
INPUTS

# A compressed unit is taken over as it is only if all of it is wanted.
packed() {
    must "$PLATTER" convert -q -c -f raw -O qcow2 disk.raw packed.qcow2
    rm -f out.qcow2
    must "$PLATTER" dd -O qcow2 bs=1000 count=1000 if=packed.qcow2 of=out.qcow2
    part disk.raw 1000 0 1000
    truncate -s 1000448 wanted.raw
    must qemu-img compare -q -f raw -F qcow2 wanted.raw out.qcow2
    must "$PLATTER" resize -q out.qcow2 2M
    truncate -s 2M wanted.raw
    must qemu-img compare -q -f raw -F qcow2 wanted.raw out.qcow2
    for skip in 1 65536; do
        must "$PLATTER" dd -O qcow2 bs=1 skip=$skip count=131072 if=packed.qcow2 of=out.qcow2
        dd if=disk.raw of=wanted.raw bs=64k iflag=skip_bytes,count_bytes skip=$skip count=131072 status=none
        must qemu-img compare -q -f raw -F qcow2 wanted.raw out.qcow2
    done
}
it 'compressed units that are cut' packed

as_qemu_img() { # OPERAND...: the same disk, but for whole sectors
    rm -f ours theirs
    must "$PLATTER" dd "$@" if=disk.raw of=ours
    qemu-img dd -f raw "$@" if=disk.raw of=theirs 2>qemu.err || bad "qemu-img: $(<qemu.err)"
    truncate -s "$(stat -c %s theirs)" ours
    same_content theirs ours
}
while read -r operands; do
    # shellcheck disable=SC2086
    it "as qemu-img: $operands" as_qemu_img $operands
done <<'CASES'
bs=512
count=100
bs=64k count=3
bs=1k count=0
bs=1M skip=5
bs=4k skip=3
bs=0.5k count=1k
bs=0x200 count=0x10
bs=1000 count=77
count=1E
CASES

empty() {
    run "$PLATTER" dd bs=1M skip=7 if=disk.raw of=out.raw
    same status 0 "$status"
    grep -q 'cannot skip to specified offset' run.err || bad "no warning: $(<run.err)"
    same size 0 "$(stat -c %s out.raw)"
}
it 'skip behind the end: an empty disk and a warning' empty
streams() {
    part disk.raw 4096 2 300
    "$PLATTER" dd -f raw bs=4k skip=2 count=300 if=- of=- <disk.raw >out.raw 2>run.err || bad "$(<run.err)"
    same_content wanted.raw out.raw
}
it 'standard input and output' streams
overlay() {
    qemu-img create -q -f qcow2 -b disk.raw -F raw over.qcow2
    must "$PLATTER" dd bs=64k skip=4 count=8 if=over.qcow2 of=out.raw
    part disk.raw 65536 4 8
    same_content wanted.raw out.raw
}
it 'what the parent has is copied too' overlay
in_use() {
    cp disk.raw self.raw
    refused 'is one of the inputs' "$PLATTER" dd count=3 if=self.raw of=self.raw
    same_content disk.raw self.raw
}
it 'an input is not overwritten' in_use

# shellcheck disable=SC2016 # for refuses
refuses() { # REGEX OPERAND...
    local regex=$1
    shift
    rm -f none.raw
    refused "$regex" "$PLATTER" dd "$@"
    run qemu-img dd "$@"
    same 'status of qemu-img' 1 "$status"
    [[ ! -e none.raw ]] || bad 'there is an output'
}
while IFS='|' read -r regex operands; do
    # shellcheck disable=SC2086
    it "refused: $operands" refuses "$regex" $operands
done <<'CASES'
Must specify both input and output files|if=disk.raw
Must specify both input and output files|of=none.raw
Invalid bs specified. Must be between 1 and 2147483647|bs=0 if=disk.raw of=none.raw
Invalid bs specified. Must be between 1 and 2147483647|bs=2G if=disk.raw of=none.raw
Invalid bs specified|bs=abc if=disk.raw of=none.raw
Invalid count specified|count=-1 if=disk.raw of=none.raw
Invalid skip specified|skip=x if=disk.raw of=none.raw
unrecognized operand seek|seek=1 if=disk.raw of=none.raw
unrecognized operand foo|foo if=disk.raw of=none.raw
No such file|if=absent of=none.raw
Unknown file format|-O nothing if=disk.raw of=none.raw
Unknown file format|-f nothing if=disk.raw of=none.raw
CASES
json() {
    must "$PLATTER" dd --output=json -O qcow2 bs=1M count=2 if=disk.raw of=out.qcow2
    python3 -c 'import json; r = json.load(open("run.out"))
assert r["virtual-size"] == 2 << 20 and r["format"] == "qcow2" and r["copied"] > 0, r' || bad "$(<run.out)"
}
it 'JSON' json
finish
