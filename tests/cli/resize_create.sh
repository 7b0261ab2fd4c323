# create and resize: what they make, what they say, what they refuse; beside qemu-img where it is there.
. "$SRCDIR/tests/cli/support/testing.bash"

size_of() {
    "$PLATTER" info "$@" | sed -n 's/^virtual size: .*(\([0-9]*\) bytes)$/\1/p'
}
# creates SIZE ARGUMENT...: the last argument but one is the image.
has_size() {
    is "$1" "$(size_of -f "$2" "$3")"
}

ask "$PLATTER" create -f raw a.raw 1M
it "create says what it made" is "Formatting 'a.raw', fmt=raw size=1048576" "$out"
it "raw: the file is the disk" is 1048576 "$(stat -c %s a.raw)"
it "raw: no room is taken" test "$(stat -c %b a.raw)" -le 8
ask "$PLATTER" create -q -f raw b.raw 1.5k
it "-q: not a word" is '' "$out$err"
it "sizes with a fraction" has_size 1536 raw b.raw
ask "$PLATTER" create -f raw -o size=2M c.raw
it "-o size=" has_size 2097152 raw c.raw
ask "$PLATTER" create c.raw 0x1000
it "raw is the default, and sizes may be hexadecimal" has_size 4096 raw c.raw
ask "$PLATTER" create -q -f raw -o nocow=on c.raw 1M
it "raw takes qemu-img's option nocow" is 0 "$status"
ask "$PLATTER" create -f raw nowhere/c.raw 1M
it "a folder that is not there" is 1 "$status"
ask "$PLATTER" create -f raw c.raw
it "no size" says "$err" "size"
ask "$PLATTER" create -f raw c.raw -- -1
it "a negative size" is 1 "$status"

ask "$PLATTER" resize -f raw a.raw 2M
it "resize says that it is done" is "Image resized." "$out"
it "resize: to a size" has_size 2097152 raw a.raw
ask "$PLATTER" resize -f raw a.raw +1M
it "resize: by so much more" has_size 3145728 raw a.raw
ask "$PLATTER" resize -f raw a.raw -1M
it "shrinking needs --shrink" is 1 "$status"
it "and the hint says so" says "$err" "--shrink"
it "and nothing happened" has_size 3145728 raw a.raw
ask "$PLATTER" resize -q -f raw --shrink a.raw -1M
it "--shrink" has_size 2097152 raw a.raw
it "resize -q: not a word" is '' "$out$err"
ask "$PLATTER" resize -f raw --shrink a.raw -1G
it "less than nothing" says "$err" "positive"
ask "$PLATTER" resize -f raw a.raw +8E
it "more than there can be" is 1 "$status"
ask "$PLATTER" resize -f raw --preallocation=full a.raw +64k
it "--preallocation=full" test "$(stat -c %b a.raw)" -ge 128
ask "$PLATTER" resize -f raw --preallocation=some a.raw +64k
it "an unknown preallocation" says "$err" "falloc"

# Sizes at the end of 63 bits: refused in one sentence, nothing is left, nothing is changed.
huge() { # ARGUMENT...: of create, without the name
    rm -f huge
    refused 'too big|too large|negative|not a size' "$PLATTER" create "$@" && [[ ! -e huge ]]
}
beyond=(9223372036854775808 8E 16E 18446744073709551615 99999999999999999999)
for size in "${beyond[@]}"; do
    it "create: a size of $size" huge -f raw huge "$size"
    it "resize: to $size" refused 'too big|too large' "$PLATTER" resize -f raw a.raw "$size"
    it "resize: by +$size" refused 'too big|too large' "$PLATTER" resize -f raw a.raw "+$size"
done
for size in 9223372036854775295 9223372036854775296 9223372036854775807 "${beyond[@]}"; do
    ! knows qcow2 || it "create qcow2: a size of $size" huge -f qcow2 -o cluster_size=2M huge "$size"
done
it "and the disk is as it was" has_size 2162688 raw a.raw

if ! knows qcow2; then
    skip "qcow2: qcow2 is not built in"
    finish
fi
# both ARGUMENT...: platter and qemu-img, in folders of their own, say and make the same.
both() {
    rm -rf p q
    mkdir p q
    cp base.qcow2 p
    cp base.qcow2 q
    (cd p && "$PLATTER" "$@" >said 2>&1) || { cat p/said; return 1; }
    (cd q && qemu-img "$@" >said 2>&1) || { cat q/said; return 1; }
    same_file q/said p/said
}
# Apart from the room they take, which is each program's own.
same_info() {
    (cd p && qemu-img info "$1" | grep -v '^disk size') >p.info
    (cd q && qemu-img info "$1" | grep -v '^disk size') >q.info
    same_file q.info p.info
}
"$PLATTER" create -q -f qcow2 base.qcow2 3M
if command -v qemu-img >/dev/null; then
    creates() {
        local name=$1
        shift
        it "as qemu-img says: $name" both create -f qcow2 "$@"
        it "as qemu-img makes: $name" same_info x.qcow2
    }
    creates "plain" x.qcow2 1M
    creates "an odd size" x.qcow2 1000001
    creates "version 2" -o compat=0.10 x.qcow2 1M
    creates "small clusters" -o cluster_size=4k x.qcow2 1M
    creates "extended L2" -o extended_l2=on,cluster_size=128k x.qcow2 1M
    creates "refcounts of 64 bits" -o refcount_bits=64,lazy_refcounts=on x.qcow2 1M
    creates "zstd" -o compression_type=zstd x.qcow2 1M
    creates "preallocated" -o preallocation=metadata x.qcow2 1M
    creates "an overlay" -b base.qcow2 -F qcow2 x.qcow2
    creates "a longer overlay" -b base.qcow2 -F qcow2 x.qcow2 5M
    creates "an overlay by -o" -o backing_file=base.qcow2,backing_fmt=qcow2 x.qcow2
    creates "an overlay of nothing yet" -u -b later.raw -F raw x.qcow2 1M
    creates "an external data file" -o data_file=x.data,data_file_raw=on x.qcow2 1M
    it "resize qcow2 as qemu-img" both resize base.qcow2 +2M
    it "and the result is the same" same_info base.qcow2
    it "and qemu-img finds it sound" qemu-img check -q p/base.qcow2
    qemu-img bitmap --add base.qcow2 marks
    it "resize a disk that has a bitmap as qemu-img" both resize base.qcow2 +2M
    it "and the bitmap is there and usable" same_info base.qcow2
    it "and qemu-img finds that sound too" qemu-img check -q p/base.qcow2
    qemu-img bitmap --remove base.qcow2 marks
else
    skip "create and resize beside qemu-img: needs qemu-img"
fi
ask "$PLATTER" create -f qcow2 -b missing.qcow2 -F qcow2 x.qcow2
it "a backing file that is missing" says "$err" "missing.qcow2"
it "leaves nothing" test ! -e x.qcow2
ask "$PLATTER" create -f qcow2 -b base.qcow2 x.qcow2
it "the backing format is found out and stored" says "$("$PLATTER" info x.qcow2)" \
    "backing file format: qcow2"
ask "$PLATTER" create -f qcow2 -o help
it "-o help lists the options" says "$out" "cluster_size=<size>"
"$PLATTER" create -q -f qcow2 --reproducible x.qcow2 1M
"$PLATTER" create -q -f qcow2 --reproducible y.qcow2 1M
it "--reproducible" cmp x.qcow2 y.qcow2
finish
