# amend: options change in place, beside qemu-img; the disk reads the same; what is refused.
. "$SRCDIR/tests/cli/support/testing.bash"
needs qemu-img qemu-io jq

facts_of() { # IMAGE: what qemu says of the format
    qemu-img info --output=json "$1" | jq -c '[."virtual-size", ."format-specific".data]'
}
sound() { qemu-img check -q "$1" && "$PLATTER" check -q "$1"; }
# Both amend a copy of the same image with the same success and result, and the disk stays.
both() { # OPTIONS: of -o
    local theirs
    qemu-img amend -o "$1" theirs.qcow2 >/dev/null 2>&1
    theirs=$?
    ask "$PLATTER" amend -o "$1" ours.qcow2
    is "$theirs" "$status" || { echo "$err"; return 1; }
    is "$(facts_of theirs.qcow2)" "$(facts_of ours.qcow2)" && sound ours.qcow2 &&
        qemu-img compare -q theirs.qcow2 ours.qcow2 && "$PLATTER" compare -q theirs.qcow2 ours.qcow2
}
begin() { # CREATE-ARGUMENT...: a disk of data, zeros and compressed clusters
    rm -f theirs.qcow2
    "$PLATTER" create -q -f qcow2 "$@" theirs.qcow2 4M
    qemu-io -f qcow2 -c 'write -P 7 0 1M' -c 'write -z 512k 300k' -c 'write -z -u 3M 64k' \
        -c 'write -c -P 9 2M 256k' theirs.qcow2 >/dev/null
    cp theirs.qcow2 ours.qcow2
}

begin
it "an image of version 2" both compat=0.10
it "once more" both compat=v2
it "version 2: counts of 16 bits" both refcount_bits=32
it "version 2: no lazy counts" both lazy_refcounts=on
it "version 3, lazy counts" both compat=1.1,lazy_refcounts=on
it "lazy counts off" both lazy_refcounts=off
for bits in 64 32 1 2 4 8 16; do
    it "counts of $bits bits" both refcount_bits=$bits
done
it "a width that there is not" both refcount_bits=3
it "both at once" both compat=0.10,refcount_bits=16
it "and back" both compat=v3,refcount_bits=1
it "version 2 needs 16 bits" both compat=0.10
it "a larger disk" both size=8M
it "an unknown option" both nonsense=on
it "an option of new images" both cluster_size=4k
it "and says so" says "$err" "for new images only"
it "the backing file" both backing_file=x
it "and says who changes it" says "$err" "rebase"
it "a data file where there is none" both data_file=x
it "an unknown version" both compat=2
ask "$PLATTER" amend -o size=1M ours.qcow2
it "it makes no disk smaller" is 1 "$status"
it "and says what does" says "$err" "resize --shrink"

printf %4194304s x >base.raw
begin -b base.raw -F raw
it "over a backing file: zeros become clusters of zeros" both compat=0.10
it "over a backing file: version 3" both compat=1.1
it "the backing file that it has" "$PLATTER" amend -o backing_file=base.raw,compat=1.1 ours.qcow2
rm base.raw
it "without the backing file, too" "$PLATTER" amend -o refcount_bits=8 ours.qcow2

# A name that does not fit beside the features in the first sector of the header.
long=$(printf '%0200d' 1).raw
truncate -s 4M "$long"
begin -o cluster_size=2k -b "$long" -F raw
it "a long name: version 2" both compat=0.10
it "a long name: version 3" both compat=1.1
it "a long name: it is the same" json_is --arg name "$long" '."backing-filename" == $name' \
    <("$PLATTER" info --output=json ours.qcow2)

for option in extended_l2=on compression_type=zstd; do
    begin -o $option
    it "version 2 has no $option" both compat=0.10
    it "counts with $option" both refcount_bits=64
done

# Snapshots.
begin
qemu-img snapshot -c one theirs.qcow2
cp theirs.qcow2 ours.qcow2
it "counts with a snapshot" both refcount_bits=8
it "a snapshot needs more than one bit" both refcount_bits=1
it "and says which cluster" says "$err" "references"
it "the snapshot is there" is 1 "$(qemu-img snapshot -l ours.qcow2 | grep -c ' one ')"
ask "$PLATTER" amend -o compat=0.10,refcount_bits=16 ours.qcow2
it "version 2: a snapshot with zeros" says "$err" "snapshot 'one'"
it "nothing was changed before that was found" is 8 \
    "$(qemu-img info --output=json ours.qcow2 | jq '."format-specific".data."refcount-bits"')"
qemu-img create -q -f qcow2 theirs.qcow2 1M
qemu-io -f qcow2 -c 'write -P 3 0 64k' theirs.qcow2 >/dev/null
qemu-img snapshot -c one theirs.qcow2
cp theirs.qcow2 ours.qcow2
it "version 2 with a snapshot" both compat=0.10
qemu-img amend -o compat=1.1 theirs.qcow2
qemu-img resize -q theirs.qcow2 2M
cp theirs.qcow2 ours.qcow2
it "version 2: a snapshot of another size" both compat=0.10

# Bitmaps would be lost.
begin
qemu-img bitmap --add ours.qcow2 b
ask "$PLATTER" amend -o compat=0.10 ours.qcow2
it "version 2 holds no bitmaps" is 1 "$status"
it "and the way out is said" says "$err" "bitmap --remove"
it "counts with a bitmap" "$PLATTER" amend -o refcount_bits=32 ours.qcow2
it "the bitmap is there and right" json_is \
    '."format-specific".data.bitmaps[0] | .name == "b" and .flags == ["auto"]' \
    <(qemu-img info --output=json ours.qcow2)
it "sound" sound ours.qcow2

# External data files.
"$PLATTER" create -q -f qcow2 -o data_file=d.raw,data_file_raw=on d.qcow2 1M
cp d.raw e.raw
it "data_file_raw=off" "$PLATTER" amend -o data_file_raw=off d.qcow2
it "data_file_raw=on is refused" refused 'cannot be set' "$PLATTER" amend -o data_file_raw=on d.qcow2
it "version 2 has no data file" refused 'data file' "$PLATTER" amend -o compat=0.10 d.qcow2
it "data_file=" "$PLATTER" amend -o data_file=e.raw d.qcow2
rm d.raw
it "it is opened under its new name" json_is '."format-specific".data |
    ."data-file" == "e.raw" and ."data-file-raw" == false' <(qemu-img info --output=json d.qcow2)

# The command line.
ask "$PLATTER" amend -o help
it "-o help" says "$out" "refcount_bits=<num>"
it "-o help, status" is 0 "$status"
truncate -s 1M r.raw
it "-o help: a format that has none" refused 'amending' "$PLATTER" amend -f raw -o help
it "a format that has none" refused 'amending' "$PLATTER" amend -f raw -o size=2M r.raw
it "no options" refused 'nothing' "$PLATTER" amend ours.qcow2
it "no image" refused 'expecting' "$PLATTER" amend -o compat=1.1
it "two images" refused 'expecting' "$PLATTER" amend -o compat=1.1 ours.qcow2 theirs.qcow2
begin
ask "$PLATTER" amend -p -t none -f qcow2 -o compat=0.10 ours.qcow2
it "-p" says "$out" "(100.00/100%)"
ask "$PLATTER" amend -q --force -o compat=1.1 ours.qcow2
it "-q" is '' "$out$err"
ask "$PLATTER" amend --output=json -o refcount_bits=8 ours.qcow2
it "--output=json" json_is '.filename == "ours.qcow2" and .format == "qcow2"' <<<"$out"
finish
