#!/usr/bin/env bash
# platter chain: sound and broken chains of every format as text and JSON, parents found again by
# identity and by name, the commands that mend, children, and what hostile images do to it.
# shellcheck disable=SC2154 # run and ask set $status, $out and $err
# shellcheck source=tests/cli/support/testing.bash
. "$SRCDIR/tests/cli/support/testing.bash"
needs jq qemu-img python3

SIZE=2M
# Layers 0 (the oldest) to 3 in chain/, each with something of its own.
make_chain() { # FORMAT
    local layer
    rm -rf chain away && mkdir chain away
    must "$PLATTER" create -q -f "$1" chain/0."$1" "$SIZE" && write "$1" chain/0."$1" 0 || return
    for layer in 1 2 3; do
        must "$PLATTER" create -q -f "$1" -b "$((layer - 1)).$1" -F "$1" chain/"$layer.$1" &&
            write "$1" chain/"$layer.$1" "$layer" || return
    done
}
# A disk with other bytes at one place, written through the image.
write() { # FORMAT FILE SEED
    must "$PLATTER" convert -f "$1" -O raw "$2" w.raw &&
        noise 5000 "$3" | dd of=w.raw bs=64k seek=$((4 + $3)) conv=notrunc status=none &&
        must "$PLATTER" convert -n -f raw -O "$1" w.raw "$2"
}
chain() { # STATUS OPERAND...: runs it for text, then for JSON into j
    local wanted=$1
    shift
    run "$PLATTER" chain --output=json "$@" || return 1
    cp run.out j
    same "exit status for JSON of: $*" "$wanted" "$status"
    run "$PLATTER" chain "$@" || return 1
    same "exit status of: $*" "$wanted" "$status"
    [[ $PLATTER_ASAN == "$PLATTER" ]] || run "$PLATTER_ASAN" chain "$@"
}
shows() { # TEXT
    [[ $(<run.out) == *"$1"* ]] || bad "no '$1' in: $(<run.out)"
}
shows_not() { # TEXT
    [[ $(<run.out) != *"$1"* ]] || bad "'$1' in: $(<run.out)"
}
json() { # FILTER OPTION...
    jq -e "$@" j >/dev/null || bad "not in JSON: $*: $(<j)"
}
has_identity() { [[ $1 != qcow2 ]]; }
has_names() { [[ $1 != vdi ]]; }
can_rebase() { "$PLATTER" dump-options tsv | grep -q ^rebase; }

# The commands that the last run proposed, one a line.
commands() {
    grep '^    platter rebase ' run.out
}
# Runs them as somebody would who pastes them.
paste_commands() {
    local line count=0
    commands >pasted
    while IFS= read -r line; do
        platter() { "$PLATTER" "$@"; }
        eval "$line" >eval.out 2>&1 || bad "fails: $line: $(<eval.out)"
        count=$((count + 1))
    done <pasted
    ((count)) || bad "no command in: $(<run.out)"
}

# ---- every format ----
sound() { # FORMAT
    make_chain "$1" || return
    chain 0 chain/3."$1"
    same "lines" 4 "$(wc -l <run.out)"
    shows "chain/3.$1: $1, 2 MiB, "
    shows "    \`- chain/0.$1: $1, 2 MiB, "
    json '.sound and ([.chain[].link] == ["sound", "sound", "sound", "none"])'
    json --arg f "$1" '[.chain[].filename] == [range(4) | "chain/\(3 - .).\($f)"]'
    json --arg f "$1" 'all(.chain[]; .format == $f and ."virtual-size" == 2097152 and
        ."actual-size" > 0 and (has("mend") or has("error") or has("candidates") | not))'
    has_identity "$1" || { json 'all(.chain[]; has("identity") | not)'; return; }
    json '. as $all | all(range(3); . as $i |
        any($all.chain[$i]."parent-identity"[]; . as $word |
            $all.chain[$i + 1].identity | index($word) != null))'
    shows "$(jq -r '.chain[3].identity | join(" ")' j)"
}
moved() { # FORMAT
    make_chain "$1" || return
    mkdir -p "away/a b/it's \$HOME" && "$PLATTER" convert -f "$1" -O raw chain/3."$1" wanted.raw
    mv chain/1."$1" "away/a b/it's \$HOME/"
    mv chain/0."$1" away/
    chain 2 chain/3."$1"
    shows MISSING
    shows "--find DIR"
    shows_not "platter rebase"
    json '.sound == false and (.chain | length) == 2 and .chain[1].link == "missing" and
        .chain[1].error.kind == "not-found"'
    chain 2 --find away chain/3."$1"
    json '[.chain[].link] == ["sound", "missing", "missing", "none"] and
        (.chain[1].candidates | length) == 1 and (.chain[2].candidates | length) == 1'
    json --arg guess "$(has_identity "$1" && echo false || echo true)" \
        '.chain[1].candidates[0] | (.guess | tostring) == $guess'
    json --arg name "$(has_names "$1" && echo true || echo false)" \
        '.chain[1].candidates[0] | (."same-name" | tostring) == $name'
    json '.chain[1]."allow-dir" | endswith("/away/a b/it'"'"'s $HOME")'
    shows "--allow-dir '"
    if ! has_names "$1"; then
        shows_not "platter rebase"
        chain 0 --allow-dir away --allow-dir "away/a b/it's \$HOME" chain/3."$1"
        return
    fi
    same "commands" 2 "$(commands | wc -l)"
    # the oldest first, so that each finds what it leads to
    [[ $(commands | tail -n 1) == *" chain/2.$1" ]] || bad "order: $(commands)"
    json '.chain[1].mend.arguments[0:4] == ["platter", "rebase", "-u", "-b"]'
    can_rebase || return 0
    paste_commands
    chain 0 --allow-dir away chain/3."$1"
    must "$PLATTER" compare --allow-dir away -f raw -F "$1" wanted.raw chain/3."$1"
}
# Below the child's folder: a name leads there, an identity alone does not.
moved_below() { # FORMAT
    make_chain "$1" || return
    mkdir chain/below && mv chain/0."$1" chain/below/
    chain 2 --find chain chain/3."$1"
    if has_names "$1"; then
        shows "platter rebase -u -b below/0.$1"
        shows_not "--allow-dir"
        json '.chain[2] | has("allow-dir") | not'
        return
    fi
    shows "    --allow-dir $(realpath chain/below)"
    json --arg dir "$(realpath chain/below)" '.chain[2]."allow-dir" == $dir'
    chain 0 --allow-dir chain/below chain/3."$1"
}
other_disk() { # FORMAT
    make_chain "$1" || return
    mv chain/1."$1" away/
    must "$PLATTER" create -q -f "$1" chain/1."$1" "$SIZE"
    chain 2 chain/3."$1"
    shows "ANOTHER IDENTITY"
    shows "chain/1.$1: $1, 2 MiB" # it is shown all the same
    json '[.chain[].link] == ["sound", "mismatch", "none"] and .chain[1].error.kind == "mismatch"'
    chain 2 --find away chain/3."$1"
    json '.chain[1].candidates | length == 1'
    json '[.chain[].link][1] == "mismatch" and (.chain | length) >= 3'
}
loop() { # FORMAT
    make_chain "$1" || return
    cp chain/2."$1" chain/0."$1"
    LIMIT_SECONDS=10 chain 2 chain/3."$1"
    if has_identity "$1"; then
        json '.chain[-1].link | IN("loop", "mismatch", "none", "missing")'
    else
        shows LOOP
        json '[.chain[].link][-1] == "loop"'
    fi
}
for format in qcow2 vmdk vhd vhdx vdi; do
    it "$format: a sound chain" sound "$format"
    it "$format: two parents that were moved" moved "$format"
    it "$format: a parent that was moved into a folder below" moved_below "$format"
    has_identity "$format" && has_names "$format" && it "$format: another disk under the name" other_disk "$format"
    it "$format: a younger image in the place of the oldest" loop "$format"
done

changed_parent() { # FORMAT
    make_chain "$1" && write "$1" chain/1."$1" 7 || return
    chain 2 chain/3."$1"
    shows 'CHANGED after the image above was made from it'
    json '[.chain[].link] == ["sound", "changed", "sound", "none"]'
    [[ ! -s run.err ]] || bad "said twice: $(<run.err)"
}
it "vdi: a parent that was written to" changed_parent vdi

# A parent in the child's folder that only its identity leads to: sound, for us.
renamed() { # FORMAT
    make_chain "$1" && mv chain/0."$1" chain/other-name."$1" || return
    chain 0 chain/3."$1"
    json '.chain[2]."found-by" == "identity" and .chain[1]."found-by" == "name"'
    has_names "$1" || return 0
    shows "found by its identity; the name leads elsewhere: 0.$1"
    same "the command" "platter rebase -u -b other-name.$1 -F $1 chain/1.$1" \
        "$(commands | sed 's/^ *//')"
    can_rebase || return 0
    paste_commands
    chain 0 chain/3."$1"
    json '.chain[2]."found-by" == "name"'
}
for format in vmdk vhd vhdx; do
    it "$format: a parent under another name beside its child" renamed "$format"
done

# ---- guesses: qcow2 and raw ----
guess_beside() {
    rm -rf q && mkdir q
    must "$PLATTER" create -q -f qcow2 q/base.qcow2 1M &&
        must "$PLATTER" create -q -u -f qcow2 -b /nowhere/pool/base.qcow2 -F qcow2 q/top.qcow2 1M || return
    chain 2 q/top.qcow2
    shows "NOT ALLOWED"
    shows "it may be, a guess by name and size: "
    same "the command" "    platter rebase -u -b base.qcow2 -F qcow2 q/top.qcow2" "$(commands)"
    json '.chain[0].candidates == [{"filename": "'"$PWD"'/q/base.qcow2", "format": "qcow2",
        "virtual-size": 1048576, "guess": true, "same-name": true, "changed": false}]'
    json '.chain[0] | has("allow-dir") | not'
    can_rebase || return 0
    paste_commands
    chain 0 q/top.qcow2
}
guess_raw() {
    rm -rf q && mkdir -p q pool/a pool/b pool/c
    truncate -s 1M pool/a/base.raw
    truncate -s 512K pool/b/base.raw
    truncate -s 3M pool/c/base.raw
    must "$PLATTER" create -q -u -f qcow2 -b base.raw -F raw q/top.qcow2 1M || return
    chain 2 --find pool q/top.qcow2
    # the one of the same size first; the larger one cannot be it
    json '[.chain[0].candidates[].filename | split("/")[-2]] == ["a", "b"]'
    json '.chain[1].format == "raw"'
    [[ $(commands) == *"/pool/a/base.raw -F raw q/top.qcow2" ]] || bad "command: $(commands)"
}
guess_back_into_chain() { # the only file of that name stands on the image itself
    rm -rf q && mkdir -p q/x
    must "$PLATTER" create -q -u -f qcow2 -b base.qcow2 -F qcow2 q/top.qcow2 1M &&
        must "$PLATTER" create -q -u -f qcow2 -b "$PWD/q/top.qcow2" -F qcow2 q/x/base.qcow2 1M || return
    LIMIT_SECONDS=10 chain 2 --allow-dir q --find q q/top.qcow2
    shows LOOP
    shows_not "platter rebase"
}
it "qcow2: the folder was moved, the name is absolute" guess_beside
it "raw: by the name, and a size that fits" guess_raw
it "a guess that leads back is not proposed" guess_back_into_chain

copies() {
    make_chain vdi && cp chain/0.vdi away/same.vdi && cp chain/0.vdi away/z.vdi &&
        write vdi away/same.vdi 9 || return
    mv chain/0.vdi away/zz.vdi
    chain 2 --find away chain/1.vdi
    json '[.chain[0].candidates[] | (.filename | split("/")[-1]), .changed] ==
        ["z.vdi", false, "zz.vdi", false, "same.vdi", true]'
}
it "of several files with the identity those that are unchanged come first" copies

odd_names() {
    local odd=$'-a\n\e[31m\'b' parent=$'\u00e9\e]0;x\a' dir=$'od\td "x"'
    rm -rf odd && mkdir -p odd/"$dir"
    must "$PLATTER" create -q -f qcow2 odd/"$dir/$parent" 1M &&
        must "$PLATTER" create -q -u -f qcow2 -b "$parent" -F qcow2 -- "odd/$odd" 1M || return
    cd odd || return
    chain 2 --find "$dir" -- "$odd"
    mv run.out run.err j ..
    cd ..
    LC_ALL=C grep -q $'[\t\e]' run.out && bad "control characters: $(cat -A run.out)"
    shows '-a\x0a\x1b[31m'
    same "lines with a command" 1 "$(commands | wc -l)"
    json --arg name "$odd" '.chain[0].mend.arguments[-1] == $name and
        .chain[0].mend.arguments[-2] == "--"'
    can_rebase || return 0
    (cd odd && cp ../run.out . && paste_commands && ((problems == 0))) || bad "the command"
    (cd odd && exec "$PLATTER" chain --allow-dir "$dir" -- "$odd" >../run.out 2>&1) ||
        bad "$(cat -A run.out)"
}
it "names with quotes, blanks and control characters" odd_names

# ---- children ----
children() {
    make_chain vmdk && mkdir -p chain/sub || return
    must "$PLATTER" create -q -f vmdk -b ../0.vmdk -F vmdk chain/sub/twin.vmdk || return
    must "$PLATTER" create -q -f qcow2 -b 0.vmdk -F vmdk chain/q.qcow2 || return
    echo nothing >chain/text.vmdk && mkfifo chain/pipe && ln -s 1.vmdk chain/link.vmdk
    chain 0 --children chain chain/0.vmdk
    json '[.children[].filename | split("/")[-1]] == ["1.vmdk", "q.qcow2", "twin.vmdk"] and
        all(.children[]; .link == "sound")'
    shows "Children:"
    shows "/chain/1.vmdk: vmdk, 2 MiB"
    chain 0 --children chain chain/3.vmdk
    shows "Children: none found"
    json '.children == []'
    write vmdk chain/0.vmdk 5
    chain 0 --children chain chain/0.vmdk
    json '[.children[] | select(.format == "vmdk") | .link] == ["mismatch", "mismatch"]'
    shows "ANOTHER IDENTITY"
    rm chain/pipe
}
children_by_identity() { # FORMAT: in a folder below, as VirtualBox keeps them
    make_chain "$1" && mkdir chain/Snapshots && mv chain/1."$1" chain/Snapshots/ || return
    chain 0 --children chain chain/0."$1"
    json '[.children[].filename | split("/")[-1]] == ["1.'"$1"'"]'
    run "$PLATTER" chain --children nowhere chain/0."$1"
    same "status" 1 "$status"
}
it "children by name, of other formats too, in folders below" children
for format in vmdk vhd vhdx vdi; do
    it "$format: children by identity alone" children_by_identity "$format"
done

# ---- images of other software ----
sample() { # FOLDER CHILD PARENT
    local child=${2##*/}
    rm -rf sample && mkdir sample && cp "$IMAGES/$1/$2" "$IMAGES/$1/$3" sample/ || return
    chain 0 sample/"$child"
    json --arg parent "sample/$3" '[.chain[].link] == ["sound", "none"] and .chain[1].filename == $parent'
    mkdir sample/elsewhere && mv sample/"$3" sample/elsewhere/
    chain 2 sample/"$child"
    chain 2 --find sample sample/"$child"
    json --arg parent "/sample/elsewhere/$3" '.chain[0].candidates | length == 1 and
        (.[0].filename | endswith($parent))'
    [[ $1 == qcow2/* ]] && mv sample/elsewhere/"$3" sample/ # the name is all there is
    chain 0 --children sample "$(find sample -name "$3")"
    json --arg child "/sample/$child" '.children | length == 1 and (.[0].filename | endswith($child))'
}
samples() {
    while read -r folder child parent; do
        if [[ -f ${IMAGES:-/nowhere}/$folder/$child ]]; then
            it "$folder: $child" sample "$folder" "$child" "$parent"
        else
            skip "there is no sample $folder/$child"
        fi
    done
}
samples <<'LIST'
vmdk/vbox-diff diff-child.vmdk diff-parent.vmdk
vhd/vbox-diff diff-child.vhd diff-parent.vhd
vdi/vbox-diff diff-child.vdi diff-parent.vdi
vhd/windows10-diff fat-differential.vhd fat-parent.vhd
vhdx/windows10-diff fat-differential.vhdx fat-parent.vhdx
vmdk/qemu-delta q-delta.vmdk q-sparse.vmdk
qcow2/chain q-over.qcow2 q-v2.qcow2
qcow2/chain q-over-extl2.qcow2 q-v2.qcow2
qcow2/chain q-over-raw.qcow2 q-rawbase.raw
LIST
sample_links() { # STATUS FILE LINK
    cp "$IMAGES/$2" sample.img && chain "$1" sample.img
    json --arg link "$3" '.chain[-1].link == $link'
}
if [[ -d ${IMAGES:-/nowhere}/malformed ]]; then
    it "a sample without its backing file" sample_links 2 malformed/missing-backing.qcow2 missing
    it "a sample that names a protocol" sample_links 2 malformed/qcow2-backing-json.qcow2 refused
    backs_itself() {
        cp "$IMAGES/malformed/qcow2-backing-self.qcow2" . || return
        LIMIT_SECONDS=10 chain 2 qcow2-backing-self.qcow2
        shows LOOP
        shows_not "platter rebase"
    }
    it "a sample that is its own backing file" backs_itself
else
    skip "there are no sample images" 3
fi

# ---- hostile images and folders ----
deep() {
    rm -rf deep && mkdir deep
    must "$PLATTER" create -q -u -f qcow2 -b d001.qcow2 -F qcow2 deep/d000.qcow2 1M || return
    python3 - <<'PYTHON'
first = open("deep/d000.qcow2", "rb").read()
for layer in range(1, 300):
    name = b"d%03d.qcow2" % (layer + 1)
    open("deep/d%03d.qcow2" % layer, "wb").write(first.replace(b"d001.qcow2", name))
PYTHON
    LIMIT_SECONDS=20 chain 2 deep/d000.qcow2
    shows "TOO DEEP"
    json '(.chain | length) == 200 and .chain[-1].link == "too-deep"'
    chain 2 deep/d200.qcow2
    shows "MISSING"
    json '(.chain | length) == 100'
}
evil_name() {
    must "$PLATTER" create -q -u -f qcow2 -b $'e\e]0;x\a\nfile format: raw' -F qcow2 evil.qcow2 1M || return
    chain 2 evil.qcow2
    LC_ALL=C grep -q $'[\e\a]' run.out && bad "control characters: $(cat -A run.out)"
    grep -q '^file format' run.out && bad "a forged line: $(<run.out)"
    shows '\x1b]0;x\x07\x0afile format: raw: MISSING'
}
damaged_parent() {
    make_chain qcow2 && printf 'QFI\373' >chain/1.qcow2 || return
    chain 2 chain/3.qcow2
    shows "CANNOT BE OPENED"
    json '.chain[-1].link == "unreadable" and .chain[-1].error.message != ""'
}
incomplete_parent() {
    rm -rf flat && mkdir flat
    must "$PLATTER" create -q -f vmdk -o subformat=monolithicFlat flat/p.vmdk 2M &&
        must "$PLATTER" create -q -f vmdk -b p.vmdk -F vmdk flat/c.vmdk &&
        must "$PLATTER" create -q -f vmdk -o subformat=twoGbMaxExtentSparse -b c.vmdk -F vmdk flat/d.vmdk ||
        return
    rm flat/d-s001.vmdk
    chain 0 --children flat flat/c.vmdk
    json '[.children[].filename | endswith("/d.vmdk")] == [true]' # a child though it lacks a file
    rm flat/p-flat.vmdk
    chain 2 flat/c.vmdk
    shows "CANNOT BE OPENED"
    shows "p-flat.vmdk"
    json '[.chain[].link] == ["unreadable"]'
}
nasty_folder() {
    make_chain vhdx && rm -rf nasty && mkdir -p nasty/1/2/3/4/5/6/7/8/9 || return
    mv chain/0.vhdx nasty/1/2/3/4/5/6/7/8/9/
    mkfifo nasty/pipe.vhdx
    ln -s . nasty/self
    ln -s "$PWD/chain" nasty/out
    ln -s /dev/zero nasty/zero
    ln -s nowhere nasty/dangling
    LIMIT_SECONDS=10 chain 2 --find nasty chain/3.vhdx
    json '.chain[-1] | has("candidates") | not'
    grep -q 'levels below it were not looked at' run.err || bad "no warning: $(<run.err)"
    LIMIT_SECONDS=10 chain 2 --find nasty/1 chain/3.vhdx
    json '.chain[-2].candidates | length == 1'
}
crowd() {
    make_chain vdi && mv chain/0.vdi away/ && rm -rf crowd && mkdir -p crowd/a crowd/b || return
    (cd crowd/a && seq -f '%g' 12000 | xargs touch)
    (cd crowd/b && seq -f '%g' 12000 | xargs touch)
    mv away/0.vdi crowd/c.vdi
    chain 2 --find crowd chain/1.vdi
    json '.chain[0].candidates | length == 1'
    grep -q 'more than' run.err || bad "no warning: $(<run.err)"
    rm -rf crowd
}
no_such_folder() {
    make_chain vdi && mv chain/0.vdi away/ || return
    refused 'nowhere' "$PLATTER" chain --find nowhere chain/1.vdi
    refused 'no such file|nothing' "$PLATTER" chain nothing.vdi
    refused 'expecting one image' "$PLATTER" chain
}
it "300 images" deep
it "a parent's name with control characters is escaped" evil_name
it "a parent that is damaged" damaged_parent
it "disks of which a file is missing" incomplete_parent
it "folders with pipes, links and many levels" nasty_folder
it "folders of too many files" crowd
it "folders and images that are not there" no_such_folder

locked_parent() {
    make_chain qcow2 || return
    qemu-io -f qcow2 -c 'sleep 4000' chain/1.qcow2 >/dev/null 2>&1 &
    local pid=$!
    for _ in $(seq 100); do
        qemu-img info chain/1.qcow2 >/dev/null 2>&1 || break
        sleep 0.1
    done
    chain 1 chain/3.qcow2
    json '.chain[-1].link == "unreadable" and .chain[-1].error.kind == "locked"'
    chain 0 -U chain/3.qcow2
    kill $pid 2>/dev/null
    wait $pid 2>/dev/null || true
}
if command -v qemu-io >/dev/null; then
    it "a parent that somebody writes to" locked_parent
else
    skip "qemu-io is not installed"
fi

appliance() {
    make_content a.raw 1049088 && must "$PLATTER" convert -O ova a.raw a.ova || return
    chain 0 a.ova
    json '.chain | length == 1'
}
it "a disk in an appliance stands alone" appliance
finish
