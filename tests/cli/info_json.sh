# info beside qemu-img: the same text, the same JSON, for the sample images.
. "$SRCDIR/tests/cli/support/testing.bash"
needs jq qemu-img
[[ ${IMAGES-} ]] || { echo "needs the sample images"; exit 77; }
export TZ=UTC

# The images are listed as they are found, so that new samples are compared too.
cd "$IMAGES" || exit 1
mapfile -t images < <(find qcow2 qcow raw -type f \( -name '*.qcow2' -o -name '*.img' -o \
    -name '*.qcow' -o -name '*.raw' \) | LC_ALL=C sort)

same_text() {
    qemu-img info "${options[@]}" "$1" >"$TEST_TMP/q" 2>/dev/null
    "$PLATTER" info "${options[@]}" "$1" 2>/dev/null >"$TEST_TMP/p"
    same_file "$TEST_TMP/q" "$TEST_TMP/p"
}
same_json() {
    qemu-img info --output=json "${options[@]}" "$1" 2>/dev/null | jq -S . >"$TEST_TMP/q"
    "$PLATTER" info --output=json "${options[@]}" "$1" 2>/dev/null | jq -S . >"$TEST_TMP/p"
    same_file "$TEST_TMP/q" "$TEST_TMP/p"
}
for image in "${images[@]}"; do
    case $image in *.qcow2 | *.img) format=qcow2 ;; *.qcow) format=qcow ;; *) format=raw ;; esac
    if ! knows "$format"; then
        skip "$image: $format is not built in"
        continue
    fi
    case $image in *luks* | *aes*)
        skip "$image: encrypted images are refused"
        continue ;;
    esac
    # qemu-img looks for an external data file beside itself, not beside the image: from its folder.
    cd "$IMAGES/${image%/*}" || exit 1
    options=()
    if ! qemu-img info "${image##*/}" >/dev/null 2>&1; then
        skip "$image: qemu-img does not read it"
        continue
    fi
    it "$image: text" same_text "${image##*/}"
    it "$image: JSON" same_json "${image##*/}"
done
cd "$IMAGES" || exit 1
options=(-f raw)
it "a file as raw: text" same_text qcow/vbox.qcow
it "a file as raw: JSON" same_json qcow/vbox.qcow
if knows qcow2; then
    options=()
    it "a parent in another folder: text" same_text qcow2/chain/q-over.qcow2
    it "a parent in another folder: JSON" same_json qcow2/chain/q-over.qcow2
    options=(--backing-chain)
    for image in q-over q-over-extl2 q-over-raw; do
        it "chain of $image: text" same_text "qcow2/chain/$image.qcow2"
        it "chain of $image: JSON" same_json "qcow2/chain/$image.qcow2"
    done

    cd "$TEST_TMP" || exit 1
    cp "$IMAGES/qcow2/chain/q-over.qcow2" lonely.qcow2
    options=()
    it "a missing parent does not stop info" same_text lonely.qcow2
    ask "$PLATTER" info --backing-chain lonely.qcow2
    it "but it stops --backing-chain" is 1 "$status"
    mkdir sub
    cp "$IMAGES/qcow2/chain/q-v2.qcow2" outside.qcow2
    (cd sub && "$PLATTER" create -q -f qcow2 -u -b ../outside.qcow2 -F qcow2 child.qcow2 1M)
    ask "$PLATTER" info --backing-chain --output=json sub/child.qcow2
    it "a parent outside the folder is against the policy" is policy \
        "$(jq -r .error.kind <<<"$err")"
    ask "$PLATTER" info --backing-chain --allow-dir . sub/child.qcow2
    it "--allow-dir lets it in" is 0 "$status"
fi
finish
