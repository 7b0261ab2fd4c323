#!/usr/bin/env bash
# Every kind of VMDK both ways with qemu-img, beside libvmdk: what platter writes others read and
# find in order; what qemu-img wrote platter reads, changes in place, grows, makes shorter and checks.
# shellcheck disable=SC2154 # run sets $status
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
needs qemu-img qemu-io python3 jq
knows vmdk || { echo "vmdk is not built in"; exit 77; }

make_content in.raw 1574400
make_content later.raw 1574400 7
head -c 1000001 in.raw >odd.raw
libvmdk=1
command -v vmdkinfo >/dev/null || { libvmdk=0; skip "vmdkinfo is not installed"; }

is_absent() { # FILE
    [[ ! -e $1 ]] || bad "$1 is there"
}
# As refused, the hint included in what the pattern is held against.
refused_so() { # REGEX COMMAND...
    local regex=$1
    shift
    run "$@" || return 1
    ((status == 1)) || { bad "status $status instead of 1: $*"; return 1; }
    tr '\n' ' ' <run.err | grep -qiE -- "$regex" ||
        bad "the message does not match '$regex': $(<run.err)"
}
fuse=$libvmdk
if ! command -v vmdkmount >/dev/null || [[ ! -r /dev/fuse ]]; then
    fuse=0
    skip "vmdkmount cannot run: libvmdk does not look at the disks"
fi

walk() { # FILE
    must python3 "$SRCDIR/tests/support/walk_stream.py" "$1"
}
vmdk() { # FILE SOURCE OPTIONS: converts
    must "$PLATTER" convert -O vmdk -o "$3" "$2" "$1"
}

# ---- ours, read by others ----
ours() { # SOURCE OPTIONS
    rm -f our*.vmdk
    vmdk our.vmdk "$1" "$2" || return
    must qemu-img compare -q -F raw our.vmdk "$1"
    must "$PLATTER" compare -q our.vmdk "$1"
    must qemu-img check -q our.vmdk
    must "$PLATTER" check -q our.vmdk
    [[ $2 != *stream* ]] || walk our.vmdk
    # libvmdk does not know version 2 of the header, which zeroed grains make it
    ((libvmdk)) && [[ $2 != *zeroed* ]] || return 0
    must vmdkinfo our.vmdk
    local size=$((($(stat -c %s "$1") + 511) / 512 * 512))
    says "$(<run.out)" "($size bytes)" || bad "vmdkinfo's size"
    # nor does it read monolithicFlat, whoever made it
    ((fuse)) && [[ $2 != *monolithicFlat* ]] || return 0
    mkdir -p mounted
    must vmdkmount our.vmdk mounted || return
    cmp -s -n "$(stat -c %s "$1")" mounted/vmdk1 "$1" || bad "libvmdk reads something else"
    umount mounted
}
while read -r options; do
    it "others read what we make: $options" ours in.raw "subformat=$options"
done <<'EOF'
monolithicSparse,adapter_type=lsilogic
monolithicSparse,grain_size=4k,zeroed_grain=on
monolithicSparse,grain_size=1M,compat6
monolithicFlat,adapter_type=buslogic,hwversion=10
twoGbMaxExtentSparse,adapter_type=legacyESX
twoGbMaxExtentSparse,grain_size=8k
twoGbMaxExtentFlat
streamOptimized,adapter_type=lsilogic
streamOptimized,grain_size=128k
vmfs,adapter_type=lsilogic
vmfsSparse
vmfsSparse,grain_size=4k
EOF
for kind in monolithicSparse twoGbMaxExtentFlat streamOptimized vmfsSparse; do
    it "the same for an odd size: $kind" ours odd.raw "subformat=$kind"
done

# ---- theirs, read, changed, grown and made shorter by us ----
theirs() { # OPTIONS
    rm -f their*.vmdk
    must qemu-img convert -O vmdk -o "$1" in.raw their.vmdk || return
    must "$PLATTER" compare -q their.vmdk in.raw
    must "$PLATTER" check -q their.vmdk
}
sound() { # FILE: but for room that grains of zeros gave back
    run "$PLATTER" check -q "$1"
    ((status == 0 || status == 3)) || bad "status $status of: check $1: $(head -n 3 run.err)"
}
changed() { # FILE: the disk becomes that of later.raw; then it grows
    must "$PLATTER" convert -n -O vmdk later.raw "$1" || return
    must qemu-img compare -q -F raw "$1" later.raw
    must qemu-img check -q "$1"
    sound "$1"
    must "$PLATTER" resize -q "$1" 3M || return
    cp later.raw grown.raw
    truncate -s 3M grown.raw
    must qemu-img compare -q -F raw "$1" grown.raw
    sound "$1"
    must qemu-img check -q "$1"
}
shorter() { # FILE: half of it becomes zeros
    cp grown.raw half.raw
    dd if=/dev/zero of=half.raw bs=1M count=1 conv=notrunc status=none
    must "$PLATTER" convert -n -S 0 -O vmdk half.raw "$1" || return
    local before
    before=$(du -B1 "$1" | cut -f 1)
    must "$PLATTER" compact -q "$1" || return
    (($(du -B1 "$1" | cut -f 1) < before)) || bad "not shorter than $before"
    must qemu-img compare -q -F raw "$1" half.raw
    must qemu-img check -q "$1"
    must "$PLATTER" check -q "$1"
}
theirs_in_place() { # OPTIONS
    theirs "$1" && changed their.vmdk || return
    [[ $1 != *monolithicSparse* ]] || shorter their.vmdk
}
while read -r options; do
    it "we read and change what qemu-img makes: $options" theirs_in_place "subformat=$options"
done <<'EOF'
monolithicSparse,adapter_type=lsilogic
monolithicSparse,zeroed_grain=on
monolithicFlat
twoGbMaxExtentSparse,compat6
twoGbMaxExtentFlat
EOF
it "we read what qemu-img makes: streamOptimized" theirs subformat=streamOptimized
ours_in_place() { # KIND
    rm -f mine*.vmdk
    vmdk mine.vmdk in.raw "subformat=$1" && changed mine.vmdk
}
for kind in monolithicSparse twoGbMaxExtentSparse vmfs vmfsSparse; do
    it "we change what we made: $kind" ours_in_place "$kind"
done

# ---- split disks that need more files ----
more_files() { # KIND LETTER
    rm -f split*.vmdk split.raw
    must "$PLATTER" create -q -f vmdk -o "subformat=$1" split.vmdk 1G &&
        must "$PLATTER" convert -n -O vmdk in.raw split.vmdk || return
    chmod 640 split.vmdk
    must "$PLATTER" resize -q split.vmdk 5G || return
    is "split-${2}001.vmdk split-${2}002.vmdk split-${2}003.vmdk split.vmdk " \
        "$(printf '%s ' split*.vmdk)"
    is "640 640 640" "$(stat -c %a split.vmdk split-"$2"00[23].vmdk | tr '\n' ' ' | sed 's/ $//')"
    must qemu-img info --output=json split.vmdk &&
        json_is '."format-specific".data.extents | length == 3' run.out || bad "not 3 extents"
    cp --sparse=always in.raw split.raw && truncate -s 5G split.raw
    must qemu-img compare -q -F raw split.vmdk split.raw
    # over the border of the first two files, and into the third
    local at
    for at in 2146402304 4900M; do
        must qemu-io -f vmdk -c "write -P 7 $at 64k" split.vmdk
        must qemu-io -f raw -c "write -P 7 $at 64k" split.raw
    done
    must "$PLATTER" compare -q split.vmdk split.raw
    must "$PLATTER" check -q split.vmdk
    must "$PLATTER" resize -q split.vmdk 7G && truncate -s 7G split.raw
    must qemu-img compare -q -F raw split.vmdk split.raw
    rm -f split*.vmdk split.raw
}
it "a split disk gets more files: sparse" more_files twoGbMaxExtentSparse s
it "a split disk gets more files: flat" more_files twoGbMaxExtentFlat f
no_room_for_a_file() {
    mkdir -p narrow && (cd narrow && must "$PLATTER" create -q -f vmdk \
        -o subformat=twoGbMaxExtentFlat d.vmdk 1G) || return
    mkdir narrow/d-f003.vmdk
    refused 'd-f003.vmdk' "$PLATTER" resize narrow/d.vmdk 7G
    is_absent narrow/d-f002.vmdk
    must qemu-img info narrow/d.vmdk && says "$(<run.out)" 1073741824
    is 1073741824 "$(stat -c %s narrow/d-f001.vmdk)"
    must "$PLATTER" check -q narrow/d.vmdk
}
it "a split disk that cannot have all its files keeps those it has" no_room_for_a_file

# ---- chains ----
child() { # CHILD PARENT KIND
    must "$PLATTER" create -q -f vmdk -o "subformat=$3" -b "$2" -F vmdk "$1"
}
same_chain() { # FILE RAW
    must qemu-img compare -q -F raw "$1" "$2"
    must "$PLATTER" compare -q "$1" "$2"
}
rewrites() { # CHILD: content goes to the child alone
    must "$PLATTER" convert -n -O vmdk later.raw "$1" && same_chain "$1" later.raw
    must qemu-img check -q "$1"
    must "$PLATTER" check -q "$1"
}
sparse_over_sparse() {
    vmdk base.vmdk in.raw subformat=monolithicSparse && child s1.vmdk base.vmdk monolithicSparse &&
        same_chain s1.vmdk in.raw && rewrites s1.vmdk && same_chain base.vmdk in.raw
}
cowd_over_flat() {
    vmdk flat.vmdk in.raw subformat=vmfs && child c1.vmdk flat.vmdk vmfsSparse &&
        same_chain c1.vmdk in.raw && rewrites c1.vmdk && same_chain flat.vmdk in.raw
}
mixed() {
    child m1.vmdk c1.vmdk vmfsSparse && child m2.vmdk m1.vmdk monolithicSparse &&
        child m3.vmdk m2.vmdk twoGbMaxExtentSparse && same_chain m3.vmdk later.raw &&
        must "$PLATTER" convert -n -O vmdk in.raw m3.vmdk && same_chain m3.vmdk in.raw &&
        same_chain m2.vmdk later.raw
}
over_a_stream() {
    vmdk st.vmdk in.raw subformat=streamOptimized && child st1.vmdk st.vmdk monolithicSparse &&
        same_chain st1.vmdk in.raw && rewrites st1.vmdk
}
parent_changed() {
    must "$PLATTER" convert -n -O vmdk in.raw c1.vmdk
    refused_so 'must have the identity cid:.*the parent was changed or replaced' \
        "$PLATTER" convert -O raw m3.vmdk lost.raw
    is_absent lost.raw
}
qemus_chain() {
    qemu-img convert -O vmdk in.raw q0.vmdk
    qemu-img create -q -f vmdk -b q0.vmdk -F vmdk q1.vmdk
    qemu-io -c 'write -P 6 70k 9k' q1.vmdk >io.out
    qemu-img create -q -f vmdk -b q1.vmdk -F vmdk -o zeroed_grain=on q2.vmdk
    qemu-io -c 'write -P 7 1M 3k' -c 'write -z 0 64k' q2.vmdk >io.out
    qemu-img convert -O raw q2.vmdk q.raw
    must "$PLATTER" compare -q q2.vmdk q.raw && rewrites q2.vmdk
    qemu-io -c 'write -P 8 0 1k' q1.vmdk >io.out
    refused_so 'the parent was changed or replaced' "$PLATTER" convert -O raw q2.vmdk lost.raw
}
it "a chain: hosted sparse over hosted sparse" sparse_over_sparse
it "a chain: COWD over flat" cowd_over_flat
it "a chain of mixed kinds" mixed
it "a chain: sparse over a stream" over_a_stream
it "a parent that changed is refused" parent_changed
it "a chain of qemu-img's" qemus_chain
elsewhere() {
    mkdir -p parents children
    vmdk parents/p.vmdk in.raw subformat=monolithicSparse
    (cd children && "$PLATTER" create -q --allow-dir ../parents -f vmdk -b ../parents/p.vmdk \
        -F vmdk c.vmdk) || { bad "no child"; return; }
    refused_so 'hint:.*--allow-dir' "$PLATTER" convert -O raw children/c.vmdk lost.raw
    is_absent lost.raw
    must "$PLATTER" compare -q --allow-dir parents children/c.vmdk in.raw
}
it "a parent in another folder needs --allow-dir, and it is said" elsewhere

# ---- streams ----
same_for_any_workers() {
    local n
    for n in 1 4; do
        must "$PLATTER" convert --reproducible -m $n -O vmdk -o subformat=streamOptimized in.raw \
            "w$n.vmdk" || return
        mkdir -p "w$n" && mv "w$n.vmdk" "w$n/disk.vmdk"
        must "$PLATTER" convert --reproducible -m $n -O vmdk -o subformat=streamOptimized in.raw \
            "w$n/disk.vmdk"
    done
    same_content w1/disk.vmdk w4/disk.vmdk
}
levels() {
    local level
    local -A size
    for level in 1 9; do
        vmdk "l$level.vmdk" in.raw "subformat=streamOptimized,compression_level=$level" || return
        walk "l$level.vmdk" && must qemu-img compare -q -F raw "l$level.vmdk" in.raw
        size[$level]=$(stat -c %s "l$level.vmdk")
    done
    ((size[9] < size[1])) || bad "level 9 takes ${size[9]}, level 1 ${size[1]}"
    refused_so level "$PLATTER" convert -O vmdk -o subformat=streamOptimized,compression_level=77 \
        in.raw lost.vmdk
    is_absent lost.vmdk
}
of_zeros() {
    truncate -s 100M zeros.raw
    vmdk z.vmdk zeros.raw subformat=streamOptimized && walk z.vmdk &&
        is "0 grains, 0 tables" "$(<run.out)" && must qemu-img compare -q -F raw z.vmdk zeros.raw
}
many_tables() {
    truncate -s 200M wide.raw
    dd if=in.raw of=wide.raw bs=1M seek=120 conv=notrunc status=none
    vmdk t.vmdk wide.raw subformat=streamOptimized && walk t.vmdk &&
        says "$(<run.out)" ", 1 tables" && must qemu-img compare -q -F raw t.vmdk wide.raw
}
taken_over() {
    must qemu-img convert -c -O qcow2 in.raw packed.qcow2
    must "$PLATTER" convert --output=json -O vmdk -o subformat=streamOptimized packed.qcow2 \
        over.vmdk || return
    json_is '.passed > 1000000' run.out || bad "not taken over: $(<run.out)"
    walk over.vmdk &&
        must qemu-img compare -q -F raw over.vmdk in.raw
}
into_a_pipe() { # SOURCE OPTIONS
    "$PLATTER" convert -O vmdk -o "$2" "$1" - 2>run.err | cat >piped.vmdk
    is 0 "${PIPESTATUS[0]}" && walk piped.vmdk && must "$PLATTER" compare -q piped.vmdk "$1"
}
not_as_a_stream() {
    refused_so 'subformat=streamOptimized' "$PLATTER" convert -O vmdk in.raw -
    refused_so 'subformat=fixed' "$PLATTER" convert -O vhd in.raw -
    refused_so 'ova cannot be written to standard output' "$PLATTER" convert -O ova in.raw -
    "$PLATTER" convert -O vhd -o subformat=fixed,force_size=on in.raw - 2>run.err | cat >piped.vhd
    must qemu-img compare -q -f vpc -F raw piped.vhd in.raw
}
not_in_place() {
    local change
    for change in "convert -n -O vmdk later.raw" "resize st.vmdk 9M" "compact"; do
        # shellcheck disable=SC2086 # words
        set -- $change
        [[ $1 == resize ]] || set -- "$@" st.vmdk
        refused_so 'cannot be written to.*platter create -f qcow2 -b FILE -F vmdk' "$PLATTER" "$@"
    done
    must "$PLATTER" create -q -f qcow2 -b st.vmdk -F vmdk overlay.qcow2 &&
        must "$PLATTER" convert -n -O qcow2 later.raw overlay.qcow2 &&
        must qemu-img compare -q -F raw overlay.qcow2 later.raw
}
it "a stream is the same for any number of workers" same_for_any_workers
it "the level of compression is a choice" levels
it "a stream of zeros has no grain" of_zeros
it "tables without grains are left out" many_tables
it "compressed clusters of qcow2 are taken over" taken_over
it "a stream goes to standard output" into_a_pipe in.raw subformat=streamOptimized
it "a stream of large grains does" into_a_pipe wide.raw subformat=streamOptimized,grain_size=2M
it "what is no stream does not go to standard output" not_as_a_stream
it "a stream is not changed in place; an overlay is proposed" not_in_place
finish
