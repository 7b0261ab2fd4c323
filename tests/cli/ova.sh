#!/usr/bin/env bash
# Appliances (OVA, OVF) as files of the host: what we write, every shape of package that we read,
# and those that are refused, with nothing left under the final name.
# shellcheck disable=SC2154 # run sets $status
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
needs jq qemu-img tar openssl python3 gzip
knows ova || { echo "ova is not built in"; exit 77; }
# bounded in time, memory and CPU, as a hostile file must be
export LIMIT_SECONDS=10
# shellcheck disable=SC2016 # for the inner shell
bounded=(bash -c 'ulimit -v 1000000; exec timeout 5 "$@"' -)

make_content a.raw 1574400
make_content b.raw 1049088 5
mkdir out

# As refused, the hint included in what the pattern is held against; no target is left.
refused_so() { # REGEX COMMAND...
    local regex=$1
    shift
    run "$@" || return 1
    ((status == 1)) || { bad "status $status instead of 1: $*"; return 1; }
    tr '\n' ' ' <run.err | grep -qiE -- "$regex" ||
        bad "the message does not match '$regex': $(<run.err)"
    [[ -z $(ls -A out) ]] || { bad "left behind: $(ls -A out)"; rm -rf out/*; }
}
gives() { # PACKAGE RAW OPTION...: the disk, without a warning
    local package=$1 raw=$2
    shift 2
    must "$PLATTER" convert "$@" -O raw "$package" got.raw && same_content got.raw "$raw"
    [[ ! -s run.err ]] || bad "a warning: $(<run.err)"
}
warns() { # TEXT
    [[ $(<run.err) == *"$1"* ]] || bad "no warning '$1': $(<run.err)"
}
shows() { # TEXT
    [[ $(<run.out) == *"$1"* ]] || bad "no '$1' in: $(<run.out)"
}

# ---- what we write ----
ours() { # OPTIONS
    rm -rf ours && mkdir ours
    must "$PLATTER" convert -O ova -o "$1" a.raw ours/my.ova || return
    gives ours/my.ova a.raw
    is "vm.ovf vm.mf vm-disk1.vmdk" "$(tar -tf ours/my.ova | xargs)" || bad "order"
    tar -xf ours/my.ova -C ours
    (cd ours && sed -n 's/SHA256(\(.*\))= \(.*\)/\2  \1/p' vm.mf | sha256sum --quiet -c) ||
        bad "digests"
    is 2 "$(wc -l <ours/vm.mf)" || bad "manifest"
    must python3 "$SRCDIR/tests/support/walk_stream.py" ours/vm-disk1.vmdk
    must qemu-img compare -q -F raw ours/vm-disk1.vmdk a.raw
    if command -v xmllint >/dev/null; then
        must xmllint --noout --relaxng "$SRCDIR/tests/support/ovf-1.1.rng" ours/vm.ovf
    fi
}
while read -r options; do
    it "raw -> OVA -> raw: $options" ours "name=vm,$options"
done <<'EOF'
cpus=2,memory=2048
firmware=efi,controller=pvscsi,ostype=windows9Server64Guest
firmware=efi,hwversion=virtualbox-2.2,network=none
firmware=efi,controller=ahci
firmware=efi,controller=nvme,cpus=4
firmware=efi,controller=ide,hwversion=virtualbox-2.2
controller=ahci,hwversion=14,network=none
controller=nvme,nic=vmxnet3
controller=ide,hwversion=virtualbox-2.2,network=NAT
EOF
command -v xmllint >/dev/null || skip "xmllint is not installed" 1

from_qcow2() {
    qemu-img convert -c -O qcow2 a.raw a.qcow2
    must "$PLATTER" convert -O ova a.qcow2 q.ova && gives q.ova a.raw &&
        is "q.ovf q.mf q-disk1.vmdk" "$(tar -tf q.ova | xargs)"
}
same_for_any_workers() {
    mkdir -p w1 w4
    must "$PLATTER" convert --reproducible -m 1 -O ova a.raw w1/d.ova &&
        must "$PLATTER" convert --reproducible -m 4 -O ova a.raw w4/d.ova && same_content w1/d.ova w4/d.ova
}
sectors_of_odd() {
    head -c 1000001 a.raw >odd.raw
    must "$PLATTER" convert -O ova odd.raw odd.ova && warns "1000448 bytes instead of 1000001" &&
        says "$(tar -xOf odd.ova odd.ovf)" 'capacity="1000448"'
}
adapter_follows() {
    local controller
    for controller in ide:ide ahci:lsilogic; do
        must "$PLATTER" convert -O ova -o "controller=${controller%:*}" a.raw c.ova || return
        says "$(tar -xOf c.ova c-disk1.vmdk | head -c 4096 | tr -d '\0')" \
            "ddb.adapterType = \"${controller#*:}\"" || bad "$controller"
    done
}
other_digest() { # sha1 or sha512
    must "$PLATTER" convert -O ova -o "digest=$1" a.raw d.ova && gives d.ova a.raw &&
        says "$(tar -xOf d.ova d.mf)" "${1^^}(d.ovf)= $(tar -xOf d.ova d.ovf | "${1}sum" | cut -d ' ' -f 1)"
}
it "qcow2 -> OVA -> raw" from_qcow2
it "an OVA is the same for any number of workers" same_for_any_workers
it "the descriptor says the size that the disk inside has" sectors_of_odd
it "the adapter in the disk follows the controller" adapter_follows
it "a manifest of SHA-1" other_digest sha1
it "a manifest of SHA-512" other_digest sha512
# What VirtualBox's import needs: its own section, in which each disk is attached under the
# identifier that the DiskSection gives it.
in_descriptor() { # XPATH WITH LOCAL NAMES
    xmllint --xpath "$1" v.ovf 2>xpath.err || bad "no $1: $(<xpath.err)"
}
efi_for_virtualbox() { # OPTIONS TYPE PORT
    must "$PLATTER" convert -O ova -o "name=v,cpus=3,memory=2048,firmware=efi,$1" a.raw v.ova || return
    [[ ! -s run.err ]] || bad "a warning: $(<run.err)"
    tar -xf v.ova v.ovf
    local machine='//*[local-name()="Machine" and
        namespace-uri()="http://www.virtualbox.org/ovf/machine"]' disk
    is EFI "$(in_descriptor "string($machine/*/*[local-name()='Firmware']/@type)")" || bad firmware
    is false "$(in_descriptor "string($machine/@*[local-name()='required'])")" || bad required
    is v "$(in_descriptor "string($machine/@name)")" || bad name
    is "3 2048" "$(in_descriptor "concat($machine//*[local-name()='CPU']/@count, ' ',
        $machine//*[local-name()='Memory']/@RAMSize)")" || bad "processors and memory"
    is "$2 $3" "$(in_descriptor "concat($machine//*[local-name()='StorageController']/@type, ' ',
        $machine//*[local-name()='AttachedDevice']/@port)")" || bad controller
    disk=$(in_descriptor "string(//*[local-name()='Disk']/@*[local-name()='uuid' and
        namespace-uri()='http://www.virtualbox.org/ovf/machine'])")
    is "{$disk}" "$(in_descriptor "string($machine//*[local-name()='Image']/@uuid)")" || bad "the disk's identifier"
    must "$PLATTER" info v.ova && shows "firmware: efi"
}
bios_for_everybody() {
    must "$PLATTER" convert -O ova a.raw v.ova || return
    [[ $(tar -xOf v.ova v.ovf) != *virtualbox* ]] || bad "a section that nobody needs"
    must "$PLATTER" info v.ova && shows "firmware: bios"
}
identifiers() { # those of two appliances differ, unless they are to be the same
    local id='string(//@*[local-name()="uuid"])' first
    must "$PLATTER" convert -O ova -o name=v,firmware=efi a.raw 1.ova &&
        must "$PLATTER" convert -O ova -o name=v,firmware=efi a.raw 2.ova || return
    first=$(tar -xOf 1.ova v.ovf | xmllint --xpath "$id" -)
    [[ $first != "$(tar -xOf 2.ova v.ovf | xmllint --xpath "$id" -)" ]] || bad "the same: $first"
    must "$PLATTER" convert --reproducible -O ova -o name=v,firmware=efi a.raw 1.ova &&
        must "$PLATTER" convert --reproducible -O ova -o name=v,firmware=efi a.raw 2.ova &&
        same_content 1.ova 2.ova
}
if command -v xmllint >/dev/null; then
    it "EFI for VirtualBox: LSI Logic" efi_for_virtualbox hwversion=virtualbox-2.2 LsiLogic 0
    it "EFI for VirtualBox: pvscsi becomes LSI Logic" efi_for_virtualbox controller=pvscsi LsiLogic 0
    it "EFI for VirtualBox: SATA" efi_for_virtualbox controller=ahci AHCI 0
    it "EFI for VirtualBox: NVMe" efi_for_virtualbox controller=nvme NVMe 0
    it "EFI for VirtualBox: IDE" efi_for_virtualbox controller=ide PIIX4 0
    it "identifiers are new ones, or reproducible" identifiers
else
    skip "xmllint is not installed" 6
fi
it "without EFI there is nothing of VirtualBox" bios_for_everybody

# ---- info ----
text_info() {
    must "$PLATTER" convert -O ova -o name=vm,cpus=2,memory=2048,firmware=efi a.raw i.ova || return
    must "$PLATTER" info i.ova
    local word
    for word in "package format: ova" "firmware: efi" "cpus: 2" "memory: 2147483648" \
        "capacity: 1574400" "model: lsilogic" "network: VM Network" "manifest: sha256"; do
        shows "$word"
    done
    must "$PLATTER" info --output=json i.ova
    json_is '.package | .machines[0].cpus == 2 and .machines[0].firmware == "efi" and
        .disks[0].capacity == 1574400 and .manifest == "sha256"' run.out
}
it "info shows the machine and its disks, as text and as JSON" text_info

# ---- packages made by hand ----
envelope() { # FILE REFERENCES DISKS
    cat >"$1" <<EOF
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References>$2</References>
<DiskSection><Info>Disks</Info>$3</DiskSection>
<VirtualSystem ovf:id="vm"><Info>A machine</Info><Name>vm</Name></VirtualSystem>
</Envelope>
EOF
}
file_ref() { # ID NAME [MORE]
    echo "<File ovf:id=\"$1\" ovf:href=\"$2\" ${3-}/>"
}
disk_ref() { # ID FILE CAPACITY
    echo "<Disk ovf:diskId=\"$1\" ovf:fileRef=\"$2\" ovf:capacity=\"$3\" ovf:format=\"x\"/>"
}
manifest() { # FILE NAME...
    local mf=$1 name
    shift
    for name; do
        echo "SHA256($name)= $(digest_of "$name")"
    done >"$mf"
}
one_disk() { # FOLDER FILE [MORE]: a descriptor for it there, and a manifest
    (cd "$1" && envelope vm.ovf "$(file_ref f1 "$2" "${3-}")" "$(disk_ref d1 f1 1574400)" &&
        manifest vm.mf vm.ovf "$2")
}
mkdir two
"$PLATTER" convert -O vmdk -o subformat=streamOptimized a.raw two/a.vmdk
"$PLATTER" convert -O vmdk -o subformat=streamOptimized b.raw two/b.vmdk
(cd two && envelope vm.ovf "$(file_ref f1 a.vmdk)$(file_ref f2 b.vmdk)" \
    "$(disk_ref d1 f1 1574400)$(disk_ref d2 f2 1049088)" && manifest vm.mf vm.ovf a.vmdk b.vmdk)
tar -C two -cf two.ova vm.ovf vm.mf a.vmdk b.vmdk

several() {
    local disk
    for disk in 1 a.vmdk d1; do gives two.ova a.raw --disk "$disk"; done
    for disk in 2 b.vmdk d2; do gives two.ova b.raw --disk "$disk"; done
    gives two/vm.ovf b.raw --disk 2
    refused_so 'disks.*--disk|--disk' "$PLATTER" convert -O raw two.ova out/x
    refused_so 'no .*disk' "$PLATTER" convert --disk 3 -O raw two.ova out/x
    refused_so 'no .*disk' "$PLATTER" convert --disk nothing -O raw two.ova out/x
    must "$PLATTER" info --output=json two.ova && json_is '.package.disks | length == 2' run.out
}
any_tar() {
    local kind
    for kind in ustar gnu pax v7; do
        tar -C two --format="$kind" --owner=somebody:4711 --group=x:0 -cf t.ova vm.ovf vm.mf a.vmdk b.vmdk
        gives t.ova b.raw --disk 2
    done
    tar -C two -cf t.ova b.vmdk vm.mf a.vmdk vm.ovf
    gives t.ova a.raw --disk 1
    tar -C two -cf t.ova ./vm.ovf ./vm.mf ./a.vmdk ./b.vmdk
    gives t.ova a.raw --disk 1
}
it "several disks: by number, name and id" several
it "any kind of tar, members in any order" any_tar

any_image() {
    local format file
    for format in raw qcow2 vhd vdi vhdx; do
        mkdir -p "f-$format"
        file=f-$format/disk.$format
        must "$PLATTER" convert -O "$format" a.raw "$file" || return
        one_disk "f-$format" "disk.$format"
        tar -C "f-$format" -cf f.ova vm.ovf vm.mf "disk.$format"
        [[ $format == raw ]] && { raw_inside "$file"; continue; }
        gives "f-$format/vm.ovf" "$(whole "$file")"
        gives f.ova "$(whole "$file")"
    done
}
whole() { # FILE: what its disk is, for formats that round sizes
    "$PLATTER" convert -O raw "$1" whole.raw && echo whole.raw
}
raw_inside() { # FILE: raw is what nothing else claims, perhaps with a warning
    must "$PLATTER" convert -O raw f.ova got.raw && same_content got.raw a.raw
}
it "disks may be qcow2, VHD, VDI, VHDX or raw" any_image

gzipped() {
    mkdir -p gz
    gzip -c two/a.vmdk >gz/a.vmdk.gz
    one_disk gz a.vmdk.gz 'ovf:compression="gzip"'
    tar -C gz -cf gz.ova vm.ovf vm.mf a.vmdk.gz
    gives gz.ova a.raw && gives gz/vm.ovf a.raw
    head -c 100000 gz/a.vmdk.gz >gz/cut && mv gz/cut gz/a.vmdk.gz
    rm gz/vm.mf
    refused_so 'gzip|compress|end' "$PLATTER" convert -O raw gz/vm.ovf out/x
}
chunked() {
    mkdir -p ch
    split -b 200000 -d -a 9 two/a.vmdk ch/a.vmdk.
    (cd ch && envelope vm.ovf \
        "$(file_ref f1 a.vmdk "ovf:chunkSize=\"200000\" ovf:size=\"$(stat -c %s ../two/a.vmdk)\"")" \
        "$(disk_ref d1 f1 1574400)" && manifest vm.mf vm.ovf a.vmdk.0*)
    (cd ch && tar -cf ../ch.ova vm.ovf vm.mf a.vmdk.0*)
    gives ch.ova a.raw && gives ch/vm.ovf a.raw
    rm ch/a.vmdk.000000001
    refused_so '000000001' "$PLATTER" convert -O raw ch/vm.ovf out/x
}
it "a gzip-compressed file; one that is cut short" gzipped
it "a file in chunks; one that is missing" chunked

# ---- digests and signatures ----
flip() { # FILE TEXT: changes the byte in front of the first TEXT
    python3 - "$1" "$2" <<'EOF'
import sys
with open(sys.argv[1], "r+b") as f:
    data = f.read()
    at = data.index(sys.argv[2].encode())
    f.seek(at)
    f.write(bytes([data[at] ^ 1]))
EOF
}
flipped() {
    cp two.ova x.ova
    flip x.ova "#DDB" # of the first disk's own descriptor: an image all the same
    refused_so 'a.vmdk.*(digest|manifest)' "$PLATTER" convert --disk 1 -O raw x.ova out/x
    gives x.ova b.raw --disk 2
    cp two.ova x.ova
    flip x.ova "A machine"
    refused_so 'vm.ovf.*(digest|manifest)' "$PLATTER" convert --disk 2 -O raw x.ova out/x
    echo precious >out.old
    run "$PLATTER" convert --disk 2 -O qcow2 x.ova out.old
    is precious "$(<out.old)" || bad "the older file"
}
no_manifest() {
    tar -C two -cf x.ova vm.ovf a.vmdk b.vmdk
    must "$PLATTER" convert --disk 1 -O raw x.ova got.raw && same_content got.raw a.raw &&
        warns "warning: x.ova: it has no manifest"
    mkdir -p part && cp two/* part && grep -v a.vmdk two/vm.mf >part/vm.mf
    must "$PLATTER" convert --disk 1 -O raw part/vm.ovf got.raw && warns "a.vmdk: the manifest has no digest"
}
signed() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 100 -subj /CN=signer -keyout key.pem \
        -out cert.pem 2>openssl.err
    openssl req -x509 -newkey rsa:2048 -nodes -days 100 -subj /CN=other -keyout key2.pem \
        -out other.pem 2>openssl.err
    mkdir -p si && cp two/* si
    {
        echo "SHA256(vm.mf)= $(openssl dgst -sha256 -sign key.pem si/vm.mf | od -An -tx1 | tr -d ' \n')"
        cat cert.pem
    } >si/vm.cert
    tar -C si -cf si.ova vm.ovf vm.mf vm.cert a.vmdk b.vmdk
    must "$PLATTER" info si.ova && shows signer
    gives si.ova a.raw --disk 1 --ca cert.pem
    gives si/vm.ovf a.raw --disk 1 --ca cert.pem
    refused_so 'sign|trust|certificate' "$PLATTER" convert --ca other.pem --disk 1 -O raw si.ova out/x
    refused_so 'not signed' "$PLATTER" convert --ca cert.pem --disk 1 -O raw two.ova out/x
    echo "SHA256(c)= 00" >>si/vm.mf
    refused_so 'sign' "$PLATTER" convert --ca cert.pem --disk 1 -O raw si/vm.ovf out/x
}
it "a changed byte fails the convert" flipped
it "what no digest covers is said" no_manifest
it "a signature is verified with --ca" signed

# ---- hostile packages ----
hostile() { # REGEX FILE [OPTION]...
    local regex=$1 file=$2
    shift 2
    refused_so "$regex" "${bounded[@]}" "$PLATTER" convert "$@" -O raw "$file" out/x
    [[ $PLATTER_ASAN == "$PLATTER" ]] ||
        refused_so "$regex" timeout 9 "$PLATTER_ASAN" convert "$@" -O raw "$file" out/x
}
bad_members() {
    mkdir -p ln && cp two/vm.ovf two/b.vmdk ln && ln -s /etc/shadow ln/a.vmdk
    tar -C ln -cf x.ova vm.ovf a.vmdk b.vmdk
    hostile 'symbolic link' x.ova --disk 1
    tar -C two -cf x.ova --transform 's,^a.vmdk,../a.vmdk,' -P vm.ovf a.vmdk b.vmdk
    hostile '\.\./a.vmdk: its name leads out' x.ova --disk 1
    tar -C two -cf x.ova --transform 's,^a.vmdk,/a.vmdk,' -P vm.ovf a.vmdk b.vmdk
    hostile 'member /a.vmdk: its name leads out' x.ova --disk 1
}
bad_references() {
    mkdir -p bad
    local name
    for name in ../two/a.vmdk /etc/shadow http://localhost/a.vmdk nothing.vmdk; do
        envelope bad/vm.ovf "$(file_ref f1 "$name")" "$(disk_ref d1 f1 1574400)"
        hostile "$name" bad/vm.ovf
    done
}
cut_short() {
    local size
    for size in 600 5000 300000; do
        head -c "$size" two.ova >x.ova
        hostile 'past the end of the archive' x.ova --disk 1
    done
}
bombs() {
    python3 - <<'EOF'
lines = ["<!ENTITY e0 'xxxxxxxxxx'>"]
lines += [f"<!ENTITY e{i} '" + f"&e{i - 1};" * 10 + "'>" for i in range(1, 12)]
open("bad/laughs.ovf", "w").write("<!DOCTYPE Envelope [" + "".join(lines) + "]><Envelope "
    "xmlns='http://schemas.dmtf.org/ovf/envelope/1'>&e11;</Envelope>")
open("bad/external.ovf", "w").write("<!DOCTYPE Envelope [<!ENTITY e SYSTEM 'file:///etc/shadow'>]>"
    "<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'>&e;</Envelope>")
open("bad/deep.ovf", "w").write("<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'>"
    + "<a>" * 200000 + "</a>" * 200000 + "</Envelope>")
open("bad/big.ovf", "w").write("<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'>"
    + " " * 80000000 + "</Envelope>")
EOF
    local name
    for name in laughs external; do
        hostile 'document type declaration' "bad/$name.ovf" -f ovf
    done
    for name in deep big; do
        hostile 'more than the limit' "bad/$name.ovf" -f ovf
    done
    rm -f bad/big.ovf
}
it "links, .. and absolute names in the tar are refused" bad_members
it "references that lead elsewhere are refused" bad_references
it "a truncated OVA is refused" cut_short
it "XML bombs are refused" bombs

# ---- outputs that cannot be finished ----
no_room() {
    # shellcheck disable=SC2016 # for the inner shell
    refused_so 'too large|no space|too big' bash -c 'ulimit -f 100 && exec "$@"' - \
        "$PLATTER" convert -O ova a.raw out/x.ova
}
interrupted() {
    env --default-signal=INT "$PLATTER" convert -r 300k -O ova a.raw out/x.ova 2>run.err &
    local pid=$!
    sleep 0.7
    [[ ! -e out/x.ova ]] || bad "the name is there while it runs"
    kill -INT $pid
    wait $pid 2>/dev/null
    is "" "$(ls -A out)" || bad "left behind"
}
it "an OVA that the disk has no room for leaves nothing" no_room
if env --default-signal=INT true 2>/dev/null; then
    it "an interrupted OVA leaves nothing" interrupted
else
    skip "needs env --default-signal"
fi
finish
