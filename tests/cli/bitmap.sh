# bitmap: steps in the order of the line, beside qemu-img; what is refused; with snapshots.
. "$SRCDIR/tests/cli/support/testing.bash"
needs qemu-img qemu-io jq

# The bitmaps of an image: "NAME GRANULARITY FLAGS", a line each.
bitmaps_of() {
    qemu-img info --output=json "$1" | jq -r '."format-specific".data.bitmaps // [] | .[] |
        "\(.name) \(.granularity) \(.flags | join(","))"'
}
sound() { qemu-img check -q "$1" && "$PLATTER" check -q "$1"; }
# The same steps by both; then the bitmaps are the same.
both() { # ARGUMENT...: without the image, then the bitmap
    local status theirs
    qemu-img bitmap "${@:1:$#-1}" theirs.qcow2 "${!#}" >/dev/null 2>&1
    theirs=$?
    ask "$PLATTER" bitmap "${@:1:$#-1}" ours.qcow2 "${!#}"
    is "$theirs" "$status" || { echo "$err"; return 1; }
    is "$(bitmaps_of theirs.qcow2)" "$(bitmaps_of ours.qcow2)" && sound ours.qcow2
}

qemu-img create -q -f qcow2 theirs.qcow2 10M
cp theirs.qcow2 ours.qcow2
it "--add" both --add a
it "--add: the name is taken" both --add a
it "--disable" both --disable a
it "--disable once more" both --disable a
it "--enable" both --enable a
it "--clear" both --clear a
it "-g" both --add -g 512 b
it "steps in their order" both --add --disable -g 4k --merge a --merge b c
it "a step that fails after others" both --add --add d
it "--remove" both --remove d
it "--add and --remove" both --add --remove e
it "--remove: there is none" both --remove e
it "--clear: there is none" both --clear e
it "--merge: there is no source" both --merge e a
it "--merge: there is no target" both --merge a e
it "no step" both a
it "-g without --add" both --clear -g 512 a
it "-g: no power of two" both --add -g 1000 e
it "-g: too little" both --add -g 256 e
it "-g: too much" both --add -g 4G e
it "-b without --merge" both --clear -b theirs.qcow2 a
it "-F without -b" both --merge a -F qcow2 b
it "no name" both --add ''
it "the last ones go" both --remove a
it "all of them go" both --remove b
"$PLATTER" bitmap --remove ours.qcow2 c
it "no bitmap is left" is '' "$(bitmaps_of ours.qcow2)"
it "nor the extension" json_is '."format-specific".data.bitmaps == null' \
    <("$PLATTER" info --output=json ours.qcow2)
it "and the image is sound" sound ours.qcow2

# What qemu recorded, merged with other granularities: bits beside bits.
for granularity in 512 4k 64k 1M; do
    rm -f from.qcow2 ours.qcow2 theirs.qcow2
    qemu-img create -q -f qcow2 from.qcow2 10000k
    qemu-img bitmap --add -g 4k from.qcow2 s
    qemu-io -f qcow2 -c 'write 10k 30k' -c 'write 5M 1' -c 'write 9999k 1k' from.qcow2 >/dev/null
    qemu-img create -q -f qcow2 ours.qcow2 10000k
    qemu-img bitmap --add -g "$granularity" ours.qcow2 t
    cp ours.qcow2 theirs.qcow2
    qemu-img bitmap --merge s -b from.qcow2 -F qcow2 theirs.qcow2 t
    "$PLATTER" bitmap --merge s -b from.qcow2 -F qcow2 ours.qcow2 t
    it "--merge -b into $granularity: sound" sound ours.qcow2
    it "--merge -b into $granularity: qemu's bits" cmp \
        <("$SRCDIR/tests/support/bitmap_bits.py" ours.qcow2 t) \
        <("$SRCDIR/tests/support/bitmap_bits.py" theirs.qcow2 t)
done
ask "$PLATTER" bitmap --merge s -b from.qcow2 ours.qcow2 t
it "-b without -F: found out" is 0 "$status"
qemu-img create -q -f qcow2 larger.qcow2 20M
qemu-img bitmap --add larger.qcow2 s
ask "$PLATTER" bitmap --merge s -b larger.qcow2 ours.qcow2 t
it "--merge: another size" says "$err" "one size"
it "--merge: another size, status" is 1 "$status"

truncate -s 1M r.raw
it "raw has none" refused 'does not support|not support' "$PLATTER" bitmap --add -f raw r.raw a
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
it "version 2 has none" refused 'cannot hold' "$PLATTER" bitmap --add v2.qcow2 a
it "and the way out is said" grep -q 'amend -o compat=1.1' run.err
it "no image" refused 'expecting' "$PLATTER" bitmap --add
it "no bitmap" refused 'expecting' "$PLATTER" bitmap --add ours.qcow2
it "--object" refused 'not supported' "$PLATTER" bitmap --add --object x ours.qcow2 a

# Inconsistent ones can be removed only.
qemu-img create -q -f qcow2 ours.qcow2 1M
"$PLATTER" bitmap --add ours.qcow2 a
printf %65536s x >bytes.raw
"$PLATTER" convert -q -n -f raw -O qcow2 bytes.raw ours.qcow2 2>/dev/null
it "what platter writes is not recorded" is "a 65536 in-use,auto" "$(bitmaps_of ours.qcow2)"
it "an inconsistent bitmap: --clear" refused 'inconsistent' "$PLATTER" bitmap --clear ours.qcow2 a
it "an inconsistent bitmap: the way out" grep -q -e '--remove' run.err
it "an inconsistent bitmap: --enable" refused 'inconsistent' "$PLATTER" bitmap --enable ours.qcow2 a
it "an inconsistent bitmap: --remove" "$PLATTER" bitmap --remove --add ours.qcow2 a
it "a new one in its place" is "a 65536 auto" "$(bitmaps_of ours.qcow2)"

# Beside internal snapshots of qemu's.
qemu-img snapshot -c one ours.qcow2
it "with a snapshot: steps" "$PLATTER" bitmap --disable --clear --enable ours.qcow2 a
it "with a snapshot: sound" sound ours.qcow2
it "with a snapshot: it is there" is 1 "$(qemu-img snapshot -l ours.qcow2 | grep -c ' one ')"

ask "$PLATTER" bitmap --add --disable --output=json ours.qcow2 j
it "--output=json" json_is '.filename == "ours.qcow2" and .bitmap == "j" and
    .done == ["add", "disable"]' <<<"$out"
ask "$PLATTER" bitmap --add ours.qcow2 quiet
it "not a word else" is '' "$out$err"
finish
