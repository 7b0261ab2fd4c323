# map, compare, check and measure beside qemu-img: the same output and the same exit status.
. "$SRCDIR/tests/cli/support/testing.bash"
needs jq qemu-img
[[ ${IMAGES-} ]] || { echo "needs the sample images"; exit 77; }
knows qcow2 || { echo "qcow2 is not built in"; exit 77; }

# agrees ARGUMENT...: standard output and exit status.
agrees() {
    local expected found
    qemu-img "$@" >"$TEST_TMP/q" 2>/dev/null </dev/null
    expected=$?
    "$PLATTER" "$@" >"$TEST_TMP/p" 2>"$TEST_TMP/run.err" </dev/null
    found=$?
    is "status $expected" "status $found" && same_file "$TEST_TMP/q" "$TEST_TMP/p" && return
    cat "$TEST_TMP/run.err"
    return 1
}
agrees_json() {
    local expected found
    qemu-img "$@" 2>/dev/null | jq -S . >"$TEST_TMP/q"
    expected=${PIPESTATUS[0]}
    "$PLATTER" "$@" 2>"$TEST_TMP/run.err" | jq -S . >"$TEST_TMP/p"
    found=${PIPESTATUS[0]}
    is "status $expected" "status $found" && same_file "$TEST_TMP/q" "$TEST_TMP/p" && return
    cat "$TEST_TMP/run.err"
    return 1
}

# The map without what says nothing about the content: the depth at which nothing was found (qemu-img
# counts differently behind the end of a shorter parent), and the offset of room that holds no data.
maps_alike() {
    local program
    for program in qemu-img "$PLATTER"; do
        "$program" map --output=json "$1" | jq -c 'reduce (.[] |
            if .present then . else del(.depth) end | if .data then . else del(.offset) end) as $run
            ([]; if length > 0 and (.[-1] | del(.start, .length)) == ($run | del(.start, .length)) and
                    ($run | has("offset") | not)
                then .[-1].length += $run.length else . + [$run] end) | .[]' >"$TEST_TMP/${program##*/}.map"
    done
    same_file "$TEST_TMP/qemu-img.map" "$TEST_TMP/${PLATTER##*/}.map"
}
# No bitmaps to copy: qemu-img says so, or leaves it out where the source could not have any.
measures_alike() {
    local program
    for program in qemu-img "$PLATTER"; do
        "$program" measure -O "$1" "$2" | grep -v '^bitmaps size: 0$' >"$TEST_TMP/${program##*/}.size"
        "$program" measure --output=json -O "$1" "$2" |
            jq -S 'if .bitmaps == 0 then del(.bitmaps) else . end' >>"$TEST_TMP/${program##*/}.size"
    done
    same_file "$TEST_TMP/qemu-img.size" "$TEST_TMP/${PLATTER##*/}.size"
}

# Written out in full: qemu-img also looks for holes that the host made in the image's file, and
# where those are is not a matter of the image.
cp -r --sparse=never "$IMAGES/qcow2" "$TEST_TMP/full"
cd "$TEST_TMP/full" || exit 1
mapfile -t images < <(find . -maxdepth 1 -name '*.qcow2' | sed 's,^\./,,' | LC_ALL=C sort)
for image in "${images[@]}"; do
    case $image in *luks* | *aes*)
        skip "$image: encrypted: neither program reads it without its key"
        continue ;;
    esac
    it "map $image" agrees map "$image"
    case $image in
    *extl2*) it "map --output=json $image" maps_alike "$image" ;;
    *) it "map --output=json $image" agrees map --output=json "$image" ;;
    esac
    it "check $image" agrees check "$image"
    it "check --output=json $image" agrees_json check --output=json "$image"
    for target in raw qcow2; do
        it "measure $image as $target" measures_alike "$target" "$image"
    done
done
for image in q-over q-over-extl2 q-over-raw; do
    it "map through the chain of $image" maps_alike "chain/$image.qcow2"
    it "map through the chain of $image, for people" agrees map "chain/$image.qcow2"
done
it "map of a part" agrees map --output=json --start-offset=100k --max-length=1M chain/q-over.qcow2
it "map of a part, for people" agrees map --start-offset=100k --max-length=1M chain/q-over.qcow2
it "map behind the end, for people" agrees map --start-offset=1G chain/q-over.qcow2
# qemu-img takes the size of the disk as it is now for that of the snapshot.
snapshot_measures() {
    "$PLATTER" convert -q -O qcow2 -l "$1" qemu-snap.qcow2 "$TEST_TMP/snapshot.qcow2" &&
        "$PLATTER" measure -O qcow2 -l "$1" qemu-snap.qcow2 >"$TEST_TMP/p" &&
        qemu-img measure -O qcow2 "$TEST_TMP/snapshot.qcow2" >"$TEST_TMP/q" &&
        same_file "$TEST_TMP/q" "$TEST_TMP/p"
}
it "measure a snapshot" snapshot_measures first
it "measure a snapshot by its id" snapshot_measures snapshot.id=2
it "measure a snapshot by id and name" snapshot_measures snapshot.id=1,snapshot.name=first
ask "$PLATTER" measure -O qcow2 -l snapshot.id=1,snapshot.name=second qemu-snap.qcow2
it "a snapshot whose id and name do not belong together" says "$err" "no snapshot"
for size in 0 512 1M 1G 3.5T; do
    it "measure --size $size as raw" agrees measure -O raw --size "$size"
    it "measure --size $size as qcow2" agrees measure -O qcow2 --size "$size"
done
for option in cluster_size=512 cluster_size=2M refcount_bits=64 compat=0.10 \
    cluster_size=64k,extended_l2=on preallocation=full; do
    it "measure -o $option" agrees measure -O qcow2 -o "$option" --size 10G
done

cd "$TEST_TMP" || exit 1
cp full/qemu-v2.qcow2 a.qcow2
"$PLATTER" convert -q -O raw a.qcow2 a.raw
"$PLATTER" convert -q -O qcow2 -c a.qcow2 b.qcow2
cp a.raw longer.raw
truncate -s +1M longer.raw
cp longer.raw tail.raw
printf x | dd of=tail.raw bs=1 seek=$(($(stat -c %s a.raw) + 70000)) conv=notrunc status=none
cp a.raw differs.raw
printf x | dd of=differs.raw bs=1 seek=3000000 conv=notrunc status=none
it "compare: equal, of two formats" agrees compare a.qcow2 a.raw
it "compare: equal, compressed" agrees compare a.qcow2 b.qcow2
it "compare: the longer one ends in zeros" agrees compare a.qcow2 longer.raw
it "compare: strict about sizes" agrees compare -s a.qcow2 longer.raw
it "compare: different in the part that only one has" agrees compare a.qcow2 tail.raw
it "compare: different" agrees compare a.qcow2 differs.raw
it "compare: different, the other way round" agrees compare differs.raw a.qcow2
it "compare: formats given" agrees compare -f qcow2 -F raw a.qcow2 a.raw
it "compare: as raw files" agrees compare -f raw -F raw a.qcow2 b.qcow2
it "compare -q" agrees compare -q a.qcow2 differs.raw
it "compare: a missing image" agrees compare a.qcow2 missing
it "compare: strict, equal" agrees compare -s a.raw a.raw
ask "$PLATTER" compare --output=json a.raw differs.raw
it "compare --output=json: to the byte" is 3000000 "$(jq .offset <<<"$out")"
it "compare --output=json: the status is the same" is 1 "$status"

it "map of a raw file with holes" agrees map --output=json longer.raw
it "map of a raw file with holes, for people" agrees map longer.raw
it "check: no checks for raw" agrees check -f raw a.raw
it "check: a missing image" agrees check missing
ask "$PLATTER" check -f raw a.raw
it "check: it says so" says "$err" "not support"

# A cluster that nothing refers to, and one that is referred to though it counts as free.
"$PLATTER" create -q -f qcow2 leak.qcow2 1M
qemu-io -f qcow2 -c 'write -P 1 0 192k' leak.qcow2 >/dev/null 2>&1 || "$PLATTER" convert -q -O qcow2 \
    a.qcow2 leak.qcow2
cp leak.qcow2 corrupt.qcow2
table=$((16#$(od -An -tx1 -j48 -N8 leak.qcow2 | tr -d ' \n')))
block=$((16#$(od -An -tx1 -j"$table" -N8 leak.qcow2 | tr -d ' \n')))
clusters=$(($(stat -c %s leak.qcow2) / 65536))
printf '\0\1' | dd of=leak.qcow2 bs=1 seek=$((block + 2 * (clusters + 1))) conv=notrunc status=none
truncate -s $(((clusters + 2) * 65536)) leak.qcow2
printf '\0\0' | dd of=corrupt.qcow2 bs=1 seek=$((block + 2 * (clusters - 1))) conv=notrunc status=none
it "check: a leak is status 3" agrees check leak.qcow2
it "check: a leak, as JSON" agrees_json check --output=json leak.qcow2
it "check: a corruption is status 2" agrees check corrupt.qcow2
it "check: a corruption, as JSON" agrees_json check --output=json corrupt.qcow2
it "check -q: no word on standard output" agrees check -q corrupt.qcow2
repairs() {
    cp "$2" p.img
    cp "$2" q.img
    qemu-img check -f qcow2 -r "$1" q.img >/dev/null 2>&1
    local expected=$?
    "$PLATTER" check -f qcow2 -r "$1" p.img >/dev/null
    is "$expected" "$?" && qemu-img check -q -f qcow2 p.img
}
it "check -r leaks mends a leak" repairs leaks leak.qcow2
it "check -r all mends a leak" repairs all leak.qcow2
it "check -r all mends a corruption" repairs all corrupt.qcow2
ask "$PLATTER" check -r some leak.qcow2
it "check: an unknown repair" says "$err" "leaks, all"
finish
