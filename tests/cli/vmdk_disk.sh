#!/usr/bin/env bash
# VMDK disks of flat extents, as files of the host: beside qemu-img, by the policy for names inside
# images, growing, and with parts of them missing.
# shellcheck disable=SC2154 # run sets $status
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
needs jq qemu-img
knows vmdk || { echo "vmdk is not built in"; exit 77; }

flat_kinds=(monolithicFlat twoGbMaxExtentFlat vmfs)
make_content in.raw 6292992

# ---- we make, qemu-img reads ----
ours_is_theirs() { # SUBFORMAT
    must "$PLATTER" convert -O vmdk -o "subformat=$1" in.raw "our-$1.vmdk" &&
        must qemu-img compare -F raw "our-$1.vmdk" in.raw &&
        must "$PLATTER" compare "our-$1.vmdk" in.raw &&
        must "$PLATTER" check "our-$1.vmdk"
}
theirs_is_ours() { # SUBFORMAT
    must qemu-img convert -O vmdk -o "subformat=$1" in.raw "their-$1.vmdk" &&
        must "$PLATTER" convert -O raw "their-$1.vmdk" out.raw && same_content in.raw out.raw
}
for kind in "${flat_kinds[@]}"; do
    it "qemu-img reads what we make: $kind" ours_is_theirs "$kind"
    [[ $kind == vmfs ]] || it "we read what qemu-img makes: $kind" theirs_is_ours "$kind"
done

large_is_split() {
    truncate -s 5G big.raw
    printf 'across the border' | dd of=big.raw bs=1 seek=$((2047 * 1048576 - 8)) conv=notrunc status=none
    must "$PLATTER" convert -O vmdk -o subformat=twoGbMaxExtentFlat big.raw big.vmdk &&
        must qemu-img compare -F raw big.vmdk big.raw &&
        must "$PLATTER" compare big.vmdk big.raw &&
        is "2146435072 2146435072 1075838976" "$(stat -c %s big-f00[123].vmdk | xargs)"
}
it "a large disk is split as VMware does it" large_is_split

odd_sizes_are_rounded() {
    head -c 1000001 in.raw >odd.raw
    must "$PLATTER" convert -O vmdk -o subformat=monolithicFlat odd.raw odd.vmdk &&
        says "$(<run.err)" "1000448 bytes instead of 1000001" &&
        is 1000448 "$(qemu-img info --output=json odd.vmdk | jq '."virtual-size"')"
}
it "a size that is no multiple of a sector is rounded up, and said" odd_sizes_are_rounded

same_bytes_each_time() {
    local dir
    for dir in a b; do
        mkdir "$dir"
        must "$PLATTER" convert --reproducible -O vmdk -o subformat=vmfs in.raw "$dir/disk.vmdk" ||
            return
    done
    same_content a/disk.vmdk b/disk.vmdk && same_content a/disk-flat.vmdk b/disk-flat.vmdk
}
it "--reproducible disks are the same to the byte" same_bytes_each_time

# ---- info ----
own='.["format-specific"].data |= (del(.encoding, ."adapter-type", ."hardware-version", ."uuid",
    ."tools-version", ."long-content-id", ."image-uuid", ."native-snapshot", ."thin-provisioned"))
'
same_info() { # FILE
    qemu-img info --output=json "$1" | jq -S . >q.json
    must "$PLATTER" info --output=json "$1" && jq -S "$own" run.out >p.json
    same_file q.json p.json
}
for kind in "${flat_kinds[@]}"; do
    it "info is qemu-img's and more: $kind" same_info "our-$kind.vmdk"
done
if [[ ${IMAGES-} ]]; then
    for image in vmware-monolithic-flat/monolithicFlat esxi-vmfs/vmfs_thick vbox-esx/vbox-esx \
        vbox-fixed/vbox-fixed qemu-split-flat/q-split-flat xmount/odd; do
        it "info is qemu-img's and more: $image" same_info "$IMAGES/vmdk/$image.vmdk"
    done
else
    skip "no sample images" 6
fi

# ---- names inside the disk ----
describe() { # FILE LINE...
    local file=$1
    shift
    printf '# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n' >"$file"
    printf '%s\n' "$@" >>"$file"
}
mkdir inside outside
head -c 65536 in.raw >outside/secret
ln -s ../outside/secret inside/link
describe inside/up.vmdk 'RW 128 FLAT "../outside/secret" 0'
describe inside/linked.vmdk 'RW 128 FLAT "link" 0'
describe inside/absolute.vmdk "RW 128 FLAT \"$PWD/outside/secret\" 0"
describe inside/device.vmdk 'createType="fullDevice"' 'RW 1 FLAT "/dev/null" 0'
describe inside/protocol.vmdk 'RW 1 FLAT "nbd://localhost" 0'
for name in up linked absolute; do
    it "an extent elsewhere is refused: $name" \
        refused 'extent 1 .*outside|--allow-dir' "$PLATTER" info "inside/$name.vmdk"
    it "--allow-dir lets it in: $name" \
        must "$PLATTER" info --allow-dir outside "inside/$name.vmdk"
done
it "a device is refused, and it is said that one of the host is meant" \
    refused 'device or file of the host' "$PLATTER" info inside/device.vmdk
it "a name with a protocol is refused" refused prefix "$PLATTER" info inside/protocol.vmdk

describe inside/self.vmdk 'RW 1 FLAT "self.vmdk" 0'
it "a disk that names itself is refused" refused 'names itself' "$PLATTER" info inside/self.vmdk
ln inside/self.vmdk inside/other.vmdk
it "so is one that does it through a link" refused 'extent 1' "$PLATTER" info inside/other.vmdk

# ---- parts ----
missing_part() {
    must "$PLATTER" create -q -f vmdk -o subformat=twoGbMaxExtentFlat lost.vmdk 3G &&
        rm lost-f002.vmdk &&
        refused "extent 2 \('lost-f002.vmdk'\)" "$PLATTER" convert -O raw lost.vmdk out.raw
    run "$PLATTER" check lost.vmdk
    same "status of check" 2 "$status"
    says "$(<run.err)" "lost-f002.vmdk"
}
it "a missing extent is named" missing_part

missing_part_described() {
    must "$PLATTER" info lost.vmdk || return
    says "$(<run.err)" "extent 2 ('lost-f002.vmdk')"
    says "$(<run.out)" "virtual size: 3 GiB (3221225472 bytes)" && says "$(<run.out)" "missing: true"
    must "$PLATTER" info --output=json lost.vmdk || return
    json_is '."virtual-size" == 3221225472 and (."format-specific".data | .cid > 0 and
        (.extents | map(.missing // false) == [false, true]) and
        .extents[1].filename == "lost-f002.vmdk" and .extents[1]."virtual-size" == 1074790400)' \
        run.out || bad "not so: $(<run.out)"
    rm lost-f001.vmdk
    must "$PLATTER" info lost.vmdk && same "extents missing" 2 "$(grep -c 'missing: true' run.out)"
    refused "extent 1 \('lost-f001.vmdk'\)" "$PLATTER" map lost.vmdk
}
it "a disk with missing extents is described all the same" missing_part_described

missing_part_of_a_parent() {
    must "$PLATTER" create -q -f vmdk -o subformat=monolithicFlat under.vmdk 1M &&
        must "$PLATTER" create -q -f vmdk -b under.vmdk -F vmdk over.vmdk && rm under-flat.vmdk
    must "$PLATTER" info --backing-chain over.vmdk && says "$(<run.out)" "missing: true"
    refused "under-flat.vmdk" "$PLATTER" map over.vmdk
}
it "so is one whose parent lacks an extent" missing_part_of_a_parent

short_part() {
    must "$PLATTER" create -q -f vmdk -o subformat=monolithicFlat short.vmdk 1M &&
        truncate -s 1000K short-flat.vmdk &&
        refused 'the file has 1024000 bytes, the descriptor wants 1048576' \
            "$PLATTER" info short.vmdk
    run "$PLATTER" check short.vmdk
    same "status of check" 2 "$status"
}
it "a short extent is refused, and check reports it" short_part

twice() {
    truncate -s 1M inside/half
    describe inside/twice.vmdk 'RW 1024 FLAT "half" 0' 'RW 1024 FLAT "half" 1024'
    must "$PLATTER" check inside/twice.vmdk || return
    truncate -s 1M zeros.raw
    must "$PLATTER" convert -n -O vmdk zeros.raw inside/twice.vmdk
}
it "two extents may be in one file" twice

# ---- growing ----
grows() { # SUBFORMAT
    must "$PLATTER" resize "our-$1.vmdk" 20M && truncate -s 20M in20.raw &&
        dd if=in.raw of=in20.raw conv=notrunc status=none &&
        must qemu-img compare -F raw "our-$1.vmdk" in20.raw &&
        must "$PLATTER" compare "our-$1.vmdk" in20.raw &&
        refused 'cannot shrink' "$PLATTER" resize --shrink "our-$1.vmdk" 1M
}
for kind in "${flat_kinds[@]}"; do
    it "a disk grows: $kind" grows "$kind"
done
a_file_in_the_way() {
    : >our-twoGbMaxExtentFlat-f002.vmdk
    cp our-twoGbMaxExtentFlat.vmdk before.txt
    refused "our-twoGbMaxExtentFlat-f002.vmdk.*exist" \
        "$PLATTER" resize our-twoGbMaxExtentFlat.vmdk 3G
    diff <(grep -v -e ^CID= -e longContentID before.txt) \
        <(grep -v -e ^CID= -e longContentID our-twoGbMaxExtentFlat.vmdk) || bad "it changed"
    must qemu-img compare -F raw our-twoGbMaxExtentFlat.vmdk in20.raw
    rm our-twoGbMaxExtentFlat-f002.vmdk
}
it "a file that is in the way of a split disk's next one is kept" a_file_in_the_way

cid_changes() {
    local before after
    before=$(grep -a ^CID= our-vmfs.vmdk)
    must "$PLATTER" compare our-vmfs.vmdk in20.raw && same "CID after reading" "$before" \
        "$(grep -a ^CID= our-vmfs.vmdk)"
    must "$PLATTER" convert -n -O vmdk in20.raw our-vmfs.vmdk
    after=$(grep -a ^CID= our-vmfs.vmdk)
    [[ $before != "$after" && ${#before} == "${#after}" ]] || bad "$before became $after"
}
it "writing changes the CID, reading does not" cid_changes
finish
