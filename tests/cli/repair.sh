#!/usr/bin/env bash
# qcow2 images with one defect in their tables: check finds it and says which sort it is, repair
# mends it, and qemu-img finds nothing wrong afterwards.  What the guest sees does not change where
# it could be read before.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz
damage=$SRCDIR/tests/support/damage_qcow2.py

make_content disk.raw 4194304
qemu-img convert -f raw -O qcow2 disk.raw plain.qcow2
qemu-img convert -f raw -O qcow2 -o cluster_size=4k,refcount_bits=32,lazy_refcounts=on disk.raw small.qcow2
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k subclusters.qcow2 4M
qemu-img convert -n -f raw -O qcow2 disk.raw subclusters.qcow2
cp small.qcow2 snapshots.qcow2
qemu-img snapshot -c first snapshots.qcow2
qemu-io -f qcow2 -c 'write -P 7 300k 1M' snapshots.qcow2 >/dev/null
qemu-img convert -c -f raw -O qcow2 disk.raw packed.qcow2
qemu-io -f qcow2 -c 'write -P 3 0 100k' -c 'write -P 4 2M 64k' packed.qcow2 >/dev/null

# leaks: 3, no harm: corrupt data or tables: 2; what must be said where it is not 2
expected() { # KIND IMAGE
    case $1 in
    leak | refcount_high) echo 3 ;;
    entry_of_header) if [[ $2 == subclusters* ]]; then echo 2; else echo 3; fi ;; # bits say otherwise
    corrupt_bit) echo 0 ;;
    *) echo 2 ;;
    esac
}

asan_survives() { # IMAGE
    cp "$1" asan.qcow2
    run "$PLATTER_ASAN" convert -t unsafe -f qcow2 -O raw asan.qcow2 asan.raw
    run "$PLATTER_ASAN" convert -n -f raw -O qcow2 disk.raw asan.qcow2
    cp "$1" asan.qcow2
    run "$PLATTER_ASAN" check -r all asan.qcow2
}

found() { # STATUS IMAGE
    local wanted=$1
    run "$PLATTER" check "$2"
    ((status == wanted)) || bad "check: status $status instead of $wanted: $(tail -n 3 run.out run.err)"
    run "$PLATTER" check --output=json "$2"
    ((status == wanted)) || bad "check --output=json: status $status"
    python3 -m json.tool <run.out >/dev/null || bad "no JSON"
}

mended() { # IMAGE
    run "$PLATTER" check -r all "$1"
    ((status == 0)) || bad "check -r all: status $status: $(tail -n 3 run.out run.err)"
    must "$PLATTER" check "$1"
    run qemu-img check "$1"
    ((status == 0)) || bad "qemu-img check afterwards: status $status: $(head -n 3 run.out) $(head -n 3 run.err)"
}

repair() { # KIND IMAGE
    local kind=$1 readable=no wanted
    wanted=$(expected "$kind" "$2")
    cp "$2" damaged.qcow2
    "$damage" "$kind" damaged.qcow2 || { bad "not damaged"; return; }
    rm -f before.raw after.raw
    "$PLATTER" convert -t unsafe -q -f qcow2 -O raw damaged.qcow2 before.raw 2>/dev/null && readable=yes
    found "$wanted" damaged.qcow2
    if ((wanted == 3)); then
        cp damaged.qcow2 leaking.qcow2
        run "$PLATTER" check -r leaks leaking.qcow2
        ((status == 0)) || bad "check -r leaks: status $status"
        run qemu-img check leaking.qcow2
        ((status == 0)) || bad "qemu-img check after -r leaks: $(head -n 3 run.out)"
    fi
    asan_survives damaged.qcow2
    mended damaged.qcow2
    must "$PLATTER" convert -t unsafe -f qcow2 -O raw damaged.qcow2 after.raw || return
    [[ $readable == no ]] || same_content before.raw after.raw
    must "$PLATTER" convert -n -f raw -O qcow2 disk.raw damaged.qcow2
    must qemu-img check -q damaged.qcow2
    must qemu-img compare -q -f raw -F qcow2 disk.raw damaged.qcow2
}

for image in plain small subclusters snapshots packed; do
    while read -r kind; do
        it "$image: $kind" repair "$kind" $image.qcow2
    done < <("$damage" list)
done

# ---- killed while it was being written ----------------------------------------------------------
killed() { # an image with lazy refcounts, as a killed virtual machine leaves it
    qemu-img create -q -f qcow2 -o lazy_refcounts=on killed.qcow2 4M
    { qemu-io -f qcow2 -c 'write -P 5 1M 1M' -c 'flush' -c abort killed.qcow2 >/dev/null; } 2>/dev/null
    qemu-img info killed.qcow2 | grep -q 'cleanly shut down: no' || bad "it is not dirty"
    cp killed.qcow2 second.qcow2
    must "$PLATTER" info --output=json killed.qcow2
    grep -q '"dirty-flag": true' run.out || bad "info does not say that it is dirty"
    must "$PLATTER" convert -O raw killed.qcow2 out.raw
    truncate -s 4M wanted.raw
    head -c 1M /dev/zero | tr '\0' '\5' | dd of=wanted.raw bs=1M seek=1 conv=notrunc status=none
    same_content wanted.raw out.raw
    mended killed.qcow2
    must "$PLATTER" convert -n -f raw -O qcow2 disk.raw second.qcow2
    must qemu-img check -q second.qcow2
    must qemu-img compare -q -f raw -F qcow2 disk.raw second.qcow2
}
it "an image with lazy refcounts whose writer was killed" killed
finish
