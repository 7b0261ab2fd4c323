#!/usr/bin/env bash
# VMDK files that lie: each is refused, or found by check, in bounded time and memory, with a message
# that says what is wrong, and a convert leaves nothing.  Damage that check can mend is mended.
# shellcheck disable=SC2154 # run sets $status
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
needs python3 qemu-img
knows vmdk || { echo "vmdk is not built in"; exit 77; }
export LIMIT_SECONDS=10
# shellcheck disable=SC2016 # for the inner shell
bounded=(bash -c 'ulimit -v 1000000; exec timeout 5 "$@"' -)

make_content in.raw 1574400
"$PLATTER" convert -O vmdk in.raw sparse.vmdk
"$PLATTER" convert -O vmdk -o subformat=streamOptimized in.raw stream.vmdk
"$PLATTER" convert -O vmdk -o subformat=vmfsSparse in.raw cowd.vmdk
mkdir out

message() { # REGEX: in the message of the last run, hint included
    tr '\n' ' ' <run.err | grep -qiE -- "$1" || bad "the message does not match '$1': $(<run.err)"
}
cannot_be_read() { # REGEX FILE
    local program
    for program in "$PLATTER" "$PLATTER_ASAN"; do
        [[ $program == "$PLATTER" || $PLATTER_ASAN != "$PLATTER" ]] || continue
        if [[ $program == "$PLATTER" ]]; then
            run "${bounded[@]}" "$program" convert -O raw "$2" out/x
        else
            run timeout 9 "$program" convert -O raw "$2" out/x
        fi
        same "status" 1 "$status"
        message "$1"
        [[ -z $(ls -A out) ]] || { bad "left behind: $(ls -A out)"; rm -rf out/*; }
    done
}
damaged() { # FROM KIND
    cp "$1.vmdk" x.vmdk
    python3 "$SRCDIR/tests/support/damage_vmdk.py" x.vmdk "$2"
}

# ---- streams ----
stream_refused() { # KIND REGEX
    damaged stream "$1"
    cannot_be_read "$2" x.vmdk
    run "$PLATTER" check x.vmdk
    ((status == 1 || status == 2)) || bad "status $status of check"
    run "$PLATTER" check -r all x.vmdk
    ((status != 0)) || bad "repaired"
}
while read -r kind regex; do
    it "a stream: $kind" stream_refused "$kind" "$regex"
done <<'EOF'
order its marker says sector 128 instead of 0
lba its marker says sector 1099511627776 instead of 0
size 4294967295 bytes of compressed data in a file of
no-footer there is no footer.*may be incomplete
two-footers there are two
loop the grain table at .* is past the end|overlaps
footer-end it says, as the header does, that the grain directory's place is told in the footer
truncated there is no footer.*may be incomplete
table-self its marker says sector
capacity capacity of 1152921504606846976 sectors|in the header 1152921504606846976
EOF

# ---- hosted sparse: what cannot be read is found, and mended where that is possible ----
found_and_mended() { # KIND REGEX
    damaged sparse "$1"
    run "$PLATTER" check x.vmdk
    same "status of check" "$3" "$status"
    tr '\n' ' ' <run.out | cat - run.err | grep -qiE -- "$2" || bad "check does not say '$2'"
    if ((status == 2)); then # a repair that leaves it says what it leaves
        run "$PLATTER" check -r leaks x.vmdk
        same "status of check -r leaks" 2 "$status"
        tr '\n' ' ' <run.out | cat - run.err | grep -qiE -- "$2" || bad "-r leaks does not say '$2'"
    fi
    must "$PLATTER" check -q -r all x.vmdk
    must "$PLATTER" check -q x.vmdk
    must qemu-img check -q x.vmdk
    must "$PLATTER" convert -O raw x.vmdk got.raw
    [[ $4 == lost ]] || same_content in.raw got.raw
}
while IFS=: read -r kind status kept regex; do
    it "check and repair: $kind" found_and_mended "$kind" "$regex" "$status" "$kept"
done <<'EOF'
past-end:2:lost:grain is past the end of the file
into-header:2:lost:points into header or descriptor
orphan:3:lost:Leaked grain
twice:2:lost:overlaps another grain
one-copy:2:kept:the redundant grain table has entry
primary:2:kept:grain directory entry 0
EOF
it "a grain past the end" eval 'damaged sparse past-end; cannot_be_read "grain 0: the grain is past the end.*may be incomplete" x.vmdk'
it "a grain in the header" eval 'damaged sparse into-header; cannot_be_read "points into header" x.vmdk'
it "2^60 sectors in the header" eval 'damaged sparse capacity; cannot_be_read "capacity of 1152921504606846976 sectors is too big" x.vmdk'
redundant_is_used() {
    damaged sparse primary
    must "$PLATTER" compare x.vmdk in.raw && message 'the redundant grain directory is used'
}
it "a damaged directory: the other one is used" redundant_is_used
unclean() {
    damaged sparse unclean
    must "$PLATTER" compare -q x.vmdk in.raw && must "$PLATTER" check -q -r all x.vmdk
    is 0 "$(od -An -tu1 -j 72 -N 1 x.vmdk | tr -d ' ')" || bad "the mark is still there"
}
it "the mark of an unclean end is taken back by a repair" unclean

# ---- descriptors ----
describe() { # FILE LINE...
    local file=$1
    shift
    printf '# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n' >"$file"
    printf '%s\n' "$@" >>"$file"
}
descriptor_refused() { # REGEX LINE...
    local regex=$1
    shift
    describe d.vmdk "$@"
    cannot_be_read "$regex" d.vmdk
}
it "an extent that is /etc/shadow" descriptor_refused \
    '/etc/shadow.*outside its folder.*--allow-dir /etc' 'RW 1 FLAT "/etc/shadow" 0'
it "the same by a way through folders" descriptor_refused \
    'outside its folder.*--allow-dir' 'RW 1 FLAT "../../../../../../../etc/shadow" 0'
it "the same as a sparse extent" descriptor_refused \
    '/etc/shadow.*outside its folder' 'RW 1 SPARSE "/etc/shadow"'
it "an extent of 2^60 sectors" descriptor_refused \
    'a disk of more than [0-9]+ sectors' 'RW 1152921504606846976 FLAT "x" 0'
it "ZERO extents of 2^60 sectors" descriptor_refused \
    'a disk of more than [0-9]+ sectors' 'RW 1152921504606846976 ZERO'
it "extents whose sum is too large" descriptor_refused 'a disk of more than' \
    'RW 18014398509481000 ZERO' 'RW 18014398509481000 ZERO'
it "a number with more digits than 64 bits have" descriptor_refused 'line 5' \
    'RW 99999999999999999999999999 FLAT "x" 0'
it "a name without an end" descriptor_refused 'line 5' 'RW 1 FLAT "x'
it "an extent of an unknown kind" descriptor_refused 'line 5.*' 'RW 1 ODD "x" 0'
it "no extent at all" descriptor_refused 'extent' 'createType="monolithicFlat"'
it "a disk of a whole device" descriptor_refused '--allow-dir /dev' \
    'createType="fullDevice"' 'RW 1 FLAT "/dev/null" 0'
it "a disk of partitions" descriptor_refused '--allow-dir /dev' \
    'createType="partitionedDevice"' 'RW 1 FLAT "/dev/null" 0'
it "a custom disk" descriptor_refused '--allow-dir /dev' \
    'createType="custom"' 'RW 1 FLAT "/dev/null" 0'
many_lines() {
    describe d.vmdk 'createType="monolithicFlat"'
    seq -f 'RW 1 FLAT "f%g" 0' 60000 >>d.vmdk
    cannot_be_read '.' d.vmdk
}
it "60000 extents" many_lines
own_parent() {
    printf '# Disk DescriptorFile\nCID=1\nparentCID=1\nparentFileNameHint="p.vmdk"\nRW 1 ZERO\n' >p.vmdk
    cannot_be_read 'p.vmdk' p.vmdk
}
it "a disk that is its own parent" own_parent

# ---- COWD ----
cowd_refused() { # OFFSET VALUE REGEX: 32 bits of the extent's header
    cp cowd-delta.vmdk kept && python3 -c '
import struct, sys
with open("cowd-delta.vmdk", "r+b") as f:
    f.seek(int(sys.argv[1]))
    f.write(struct.pack("<I", int(sys.argv[2])))' "$1" "$2"
    cannot_be_read "$3" cowd.vmdk
    mv kept cowd-delta.vmdk
}
it "COWD: the grain size is 0" cowd_refused 16 0 'grain'
it "COWD: the directory is behind the file" cowd_refused 20 1000000 'director'
it "COWD: too few directory entries" cowd_refused 24 0 'numGDEntries'
finish
