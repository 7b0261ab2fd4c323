#!/usr/bin/env bash
# commit and rebase: chains of every format, three images and more, into the parent and into any
# base, onto other images and onto none, with disks of different sizes and parents of other formats.
# After each step every image that is left has the content that it should, for qemu-img too.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz jq

# What the layers of a chain show: layer N has the changes of all up to it.  SIZES: theirs.
make_contents() { # SIZES...
    local layer=0 size
    for size; do
        if ((layer)); then
            cp "$((layer - 1)).raw" $layer.raw && truncate -s "$size" $layer.raw
        else
            make_content 0.raw "$size" 4
        fi
        change_content $layer.raw $((layer + 1))
        layer=$((layer + 1))
    done
    depth=$((layer - 1))
}

# chain/0.ROOT <- chain/1.FORMAT <- ...; the children have what differs alone.
make_chain() { # ROOT FORMAT OPTIONS
    local layer parent=0.$1 parent_format=$1
    rm -rf chain && mkdir chain
    must "$PLATTER" convert -f raw -O "$1" 0.raw "chain/0.$1" || return
    for ((layer = 1; layer <= depth; layer++)); do
        must "$PLATTER" convert -f raw -O "$2" -o "$3" -B "$parent" -F "$parent_format" \
            $layer.raw chain/$layer."$2" || return
        parent=$layer.$2 parent_format=$2
    done
    top=chain/$depth.$2 root=chain/0.$1
}

qemu_name() { echo "${1/#vhd/vpc}" | sed 's/^vpcx$/vhdx/'; }

# QEMU reads the image's whole chain.
for_qemu() { [[ $1 == *.qcow2 || $1 == *.raw ]]; }

shows() { # CONTENT IMAGE
    must "$PLATTER" compare -f raw "$1" "$2" || bad "$2 is another disk than $1"
    [[ $2 == *.raw ]] || must "$PLATTER" check -q "$2"
    for_qemu "$2" || return 0
    qemu-img compare -q -f raw -F "$(qemu_name "${2##*.}")" "$1" "$2" >qemu.out 2>&1 ||
        bad "qemu-img: $2 is another disk than $1: $(<qemu.out)"
    [[ $2 != *.qcow2 ]] || qemu-img check -q "$2" >qemu.out 2>&1 ||
        bad "qemu-img check of $2: $(<qemu.out)"
}

# The content of CONTENT laid over that of BELOW, which is kept behind its end.
laid_over() { # CONTENT BELOW
    cp "$2" wanted.raw
    dd if="$1" of=wanted.raw bs=64K conv=notrunc status=none
}

# ---- commit -------------------------------------------------------------------------------------
one_by_one() { # ROOT FORMAT OPTIONS
    local layer image
    make_chain "$@" || return
    cp $depth.raw wanted.raw
    for ((layer = depth; layer > 0; layer--)); do
        image=chain/$layer.$2
        must "$PLATTER" commit "$image" || return
        grep -q "^Image committed.$" run.out || bad "it says: $(<run.out)"
        shows "$depth.raw" "$top"
        shows wanted.raw "$image"
        mv wanted.raw committed.raw
        laid_over committed.raw $((layer - 1)).raw
        same "bytes of its own" 0 "$("$PLATTER" map --output=json "$image" |
            jq '[.[] | select(.depth == 0 and .present) | .length] | add // 0')"
    done
    shows wanted.raw "$root"
}

keeps_the_child() { # ROOT FORMAT OPTIONS
    make_chain "$@" || return
    cp "$top" kept
    must "$PLATTER" commit -q -d "$top"
    [[ ! -s run.out ]] || bad "-q says: $(<run.out)"
    same_content kept "$top"
    shows $depth.raw "$top"
    laid_over $depth.raw $((depth - 1)).raw
    shows wanted.raw "chain/$((depth - 1)).$2"
}

into_a_base() { # ROOT FORMAT OPTIONS
    make_chain "$@" || return
    must "$PLATTER" commit -b "$root" "$top" || return
    shows $depth.raw "$top"
    laid_over $depth.raw 0.raw
    shows wanted.raw "$root"
    must "$PLATTER" rebase -u -b "${root##*/}" -F "$1" "$top" || return
    find chain -name '[1-9].*' ! -name "${top##*/}" -delete
    shows $depth.raw "$top"
    must "$PLATTER" info --backing-chain "$top"
    same "the images of the chain" 2 "$(grep -c '^image:' run.out)"
    must "$PLATTER" commit "$top" && shows $depth.raw "$top"
}

into_the_middle() { # ROOT FORMAT OPTIONS
    make_chain "$@" || return
    must "$PLATTER" commit -b "1.$2" "$top" || return
    shows $depth.raw "$top"
    shows 0.raw "$root"
    laid_over $depth.raw 1.raw
    shows wanted.raw "chain/1.$2"
}

# ---- rebase -------------------------------------------------------------------------------------
names_parent() { # IMAGE NAME: VDI images know their parents by an identity alone
    [[ $1 == *.vdi ]] || same "the backing file of $1" "$2" "$("$PLATTER" info --output=json "$1" |
        jq -r '.["backing-filename"] // ""')"
}

onto_others() { # ROOT FORMAT OPTIONS
    make_chain "$@" || return
    must "$PLATTER" convert -f raw -O "$1" other.raw "chain/other.$1"
    for parent in "1.$2" "0.$1" "other.$1" ""; do
        must "$PLATTER" rebase -b "$parent" "$top" || return
        names_parent "$top" "$parent"
        shows $depth.raw "$top"
        shows 0.raw "$root"
    done
    find chain -type f ! -name "${top##*/}" -delete
    shows $depth.raw "$top"
}

gets_a_parent() { # ROOT FORMAT OPTIONS: after none it has one again
    make_chain "$@" || return
    must "$PLATTER" rebase -b "" "$top" || return
    must "$PLATTER" rebase -b "0.$1" -F "$1" "$top" && names_parent "$top" "0.$1"
    shows $depth.raw "$top"
}

# A layer with children of its own: they go on knowing it.
under_others() { # ROOT FORMAT OPTIONS
    local layer
    make_chain "$@" || return
    must "$PLATTER" rebase -b "" "chain/1.$2" || return
    rm "$root"
    for ((layer = 1; layer <= depth; layer++)); do
        shows $layer.raw "chain/$layer.$2"
    done
}

unsafe() { # ROOT FORMAT OPTIONS
    make_chain "$@" || return
    cp "$root" "chain/copy.$1"
    must "$PLATTER" rebase -u -b "copy.$1" -F "$1" "chain/1.$2" || return
    rm "$root"
    names_parent "chain/1.$2" "copy.$1"
    shows $depth.raw "$top"
}

makes_chains() { # FORMAT: what other formats cannot do yet is no failure of these commands
    rm -rf chain && mkdir chain
    "$PLATTER" create -q -f "$1" chain/a 4M && "$PLATTER" create -q -f "$1" -b a -F "$1" chain/b ||
        return
    "$PLATTER" rebase -u -q -b a -F "$1" chain/b 2>/dev/null && "$PLATTER" commit -q chain/b 2>/dev/null
}

every_way() { # TITLE ROOT FORMAT OPTIONS
    local title=$1
    shift
    it "$title: commit, layer by layer" one_by_one "$@"
    it "$title: commit -d" keeps_the_child "$@"
    it "$title: commit -b" into_a_base "$@"
    it "$title: commit -b into the middle" into_the_middle "$@"
    it "$title: rebase onto others" onto_others "$@"
    it "$title: rebase from none" gets_a_parent "$@"
    it "$title: rebase of a layer that others build on" under_others "$@"
    it "$title: rebase -u" unsafe "$@"
}

make_contents 6292992 6292992 6292992 6292992
make_content other.raw 6292992 9
every_way "qcow2" qcow2 qcow2 ""
every_way "qcow2 over raw" raw qcow2 cluster_size=4k
every_way "qcow2, version 2" qcow2 qcow2 compat=0.10
every_way "qcow2, clusters of 512 bytes" qcow2 qcow2 cluster_size=512
every_way "qcow2, extended L2 entries" qcow2 qcow2 extended_l2=on,cluster_size=32k
every_way "qcow2, clusters of 2 MiB, zstd, over VMDK" vmdk qcow2 cluster_size=2M,compression_type=zstd
for base in vdi vhdx vhd; do
    it "qcow2 over $base: commit -b" into_a_base $base qcow2 ""
    it "qcow2 over $base: rebase onto others" onto_others $base qcow2 ""
done
for format in vmdk vdi vhd vhdx; do
    if makes_chains $format; then
        every_way "$format" $format $format ""
    else
        skip "$format: another parent, or forgetting content, is not supported yet" 8
    fi
done

make_contents 6292992 9437184 4194304 7340544
make_content other.raw 5242880 9
every_way "disks of many sizes" qcow2 qcow2 ""
every_way "disks of many sizes over raw" raw qcow2 cluster_size=512
make_contents 3145728 4194816 6292992
every_way "disks that grow" raw qcow2 extended_l2=on
make_contents 6292992 4194816 3145728
every_way "disks that shrink" qcow2 qcow2 compat=0.10

# ---- chains of qemu-img's -----------------------------------------------------------------------
# base.qcow2 <- mid.qcow2 <- top.qcow2 by qemu-io: data, compressed clusters, zeros, discards.
qemu_chain() { # OPTIONS
    rm -rf chain && mkdir chain && cd chain || return
    qemu-img create -q -f qcow2 -o "${1//DATA/base}" base.qcow2 8M &&
        qemu-img create -q -f qcow2 -o "${1//DATA/mid}" -b base.qcow2 -F qcow2 mid.qcow2 &&
        qemu-img create -q -f qcow2 -o "${1//DATA/top}" -b mid.qcow2 -F qcow2 top.qcow2
    qemu-io -f qcow2 -c "write -q -P 1 0 5M" -c "write -q -P 2 6M 1M" base.qcow2
    qemu-io -f qcow2 -c "write -q -P 3 100k 900k" -c "write -q -z 2M 300k" -c "write -q -P 4 5M 64k" \
        mid.qcow2
    qemu-io -f qcow2 -c "write -q -P 5 7M 100k" -c "write -q -z -u 3M 256k" -c "write -q -P 6 512 512" \
        -c "discard -q 5M 64k" top.qcow2
    [[ $1 == *data_file* ]] || for layer in base mid top; do
        qemu-io -f qcow2 -c "write -q -c -P 7 4M 64k" $layer.qcow2 >/dev/null 2>&1
    done
    for layer in base mid top; do
        qemu-img convert -O raw $layer.qcow2 $layer.raw
    done
}

merge_and_rebase() {
    must "$PLATTER" rebase -b base.qcow2 top.qcow2 && shows top.raw top.qcow2
    must "$PLATTER" rebase -b mid.qcow2 top.qcow2 && shows top.raw top.qcow2
    must "$PLATTER" commit top.qcow2 && shows top.raw top.qcow2 && shows top.raw mid.qcow2
    qemu-io -f qcow2 -c "write -q -P 9 1M 3M" top.qcow2
    qemu-img convert -O raw top.qcow2 top.raw
    must "$PLATTER" commit -b base.qcow2 top.qcow2 && shows top.raw top.qcow2 &&
        shows top.raw base.qcow2
    must "$PLATTER" rebase -b "" top.qcow2 && shows top.raw top.qcow2
}
of_qemu_img() { # OPTIONS: in its folder, where QEMU looks for data files
    qemu_chain "$1" && merge_and_rebase
    cd "$TEST_TMP" || exit 1
}
for options in compat=1.1 compat=0.10 cluster_size=512 extended_l2=on,cluster_size=16k \
    lazy_refcounts=on compression_type=zstd data_file=DATA.bin refcount_bits=1; do
    it "qemu-img's chains, $options" of_qemu_img "$options"
done

for_qemu_img() { # what platter made of a chain, qemu-img merges and rebases
    make_chain qcow2 qcow2 "" || return
    must "$PLATTER" rebase -b "0.qcow2" "$top"
    qemu-img rebase -q -b 1.qcow2 -F qcow2 "$top" || bad "qemu-img rebase"
    shows $depth.raw "$top"
    must "$PLATTER" rebase -b 0.qcow2 "$top"
    qemu-img commit -q "$top" || bad "qemu-img commit"
    shows $depth.raw "$top"
    must "$PLATTER" commit --force "$top"
}
it "qemu-img merges and rebases what platter rebased" for_qemu_img

usable_bitmaps() { # IMAGE: names of those that are not marked inconsistent
    qemu-img info --output=json "$1" |
        jq -r '."format-specific".data.bitmaps // [] | .[] | select(.flags | index("in-use") | not) | .name'
}
with_bitmaps() { # the disk reads the same, so what records its changes stays right; not so the base's
    make_chain qcow2 qcow2 "" || return
    qemu-img bitmap --add "$top" changes && qemu-img bitmap --add "chain/$((depth - 1)).qcow2" below
    must "$PLATTER" rebase -b 0.qcow2 "$top"
    [[ ! -s run.err ]] || bad "it warns: $(<run.err)"
    same "bitmaps after the rebase" changes "$(usable_bitmaps "$top")"
    must "$PLATTER" rebase -b $((depth - 1)).qcow2 "$top"
    must "$PLATTER" commit "$top"
    grep -q "bitmap 'below' .*inconsistent" run.err || bad "no warning of the base's: $(<run.err)"
    same "bitmaps after the commit" changes "$(usable_bitmaps "$top")"
    same "the base's bitmaps" "" "$(usable_bitmaps "chain/$((depth - 1)).qcow2")"
    shows $depth.raw "$top"
}
it "bitmaps of what reads the same stay right" with_bitmaps

# Such a name is not followed by default: whoever gives it hears of it now, not when nothing opens.
out_of_its_folder() { # OPTION
    rm -rf d elsewhere && mkdir d elsewhere
    must "$PLATTER" create -q -f qcow2 elsewhere/base.qcow2 1M
    must "$PLATTER" create -q -f qcow2 d/disk.qcow2 1M
    must "$PLATTER" rebase $1 -F qcow2 -b ../elsewhere/base.qcow2 d/disk.qcow2
    grep -q "^platter: warning: .*outside its folder.*--allow-dir [^ ]*/elsewhere " run.err ||
        bad "no warning: $(<run.err)"
    must "$PLATTER" rebase $1 --allow-dir elsewhere -F qcow2 -b ../elsewhere/base.qcow2 d/disk.qcow2
    same "told without need" "" "$(<run.err)"
}
it "onto a file in another folder" out_of_its_folder ""
it "-u: onto a file in another folder" out_of_its_folder -u

evil_name() {
    local name=$'e\e[31mvil.raw'
    rm -rf d && mkdir d && truncate -s 1M "d/$name" || return
    must "$PLATTER" create -q -f qcow2 -b "$name" -F raw d/disk.qcow2 || return
    must "$PLATTER" commit d/disk.qcow2 || return
    grep -qF 'e\x1b[31mvil.raw: 0 ' run.out || bad "commit says: $(cat -v run.out)"
    must "$PLATTER" rebase -F raw -b "$name" d/disk.qcow2 || return
    grep -qF 'onto e\x1b[31mvil.raw; 0 ' run.out || bad "rebase says: $(cat -v run.out)"
}
it "a backing file's name with control characters is escaped" evil_name
finish
