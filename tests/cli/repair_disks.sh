#!/usr/bin/env bash
# Damaged VHD, VHDX and VDI images are told, mended by check -r all and sound afterwards, for
# qemu-img too; they are resized and compacted under its eyes; nobody changes one that another
# process is writing to.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img python3 xz

SIZE=6292992 # the last block is short
make_content disk.raw "$SIZE" 4

qemu_name() { # FORMAT
    if [[ $1 == vhd ]]; then echo vpc; else echo "$1"; fi
}

qemu_agrees() { # FORMAT IMAGE RAW
    [[ $1 == vhd ]] || # qemu-img has no check for it
        qemu-img check -q -f "$1" "$2" >check.out 2>&1 || bad "qemu-img check: $(<check.out)"
    must qemu-img compare -q -f "$(qemu_name "$1")" -F raw "$2" "$3"
}

# Entry INDEX of the table gets a value; "first" is the value of entry 0.
set_entry() { # FORMAT IMAGE INDEX VALUE
    python3 "$SRCDIR/tests/support/set_entry.py" "$@"
}

# Where the content of the blocks in question is not known any more, both must read the same.
is_mended() { # FORMAT IMAGE
    run "$PLATTER" check "$2"
    ((status == 2)) || bad "check: status $status"
    refused 'platter: ' "$PLATTER" convert -n -f raw -O "$1" disk.raw "$2"
    must "$PLATTER" check -r all "$2" && must "$PLATTER" check "$2"
    must "$PLATTER" convert -O raw "$2" now.raw && qemu_agrees "$1" "$2" now.raw
    must "$PLATTER" convert -n -f raw -O "$1" disk.raw "$2" && qemu_agrees "$1" "$2" disk.raw
}

entry_is_mended() { # FORMAT OPTIONS VALUE
    rm -f image
    must "$PLATTER" convert -f raw -O "$1" -o "$2" disk.raw image."$1" || return
    set_entry "$1" image."$1" 1 "$3" && is_mended "$1" image."$1"
}

while read -r format options value what; do
    it "$format: $what" entry_is_mended "$format" "$options" "$value"
done <<'CASES'
vhd subformat=dynamic 0x00ffff00 a block past the end
vhd subformat=dynamic first two blocks in one place
vhd subformat=dynamic 2 a block over the header
vhd block_size=512k 3 a block over the BAT
vhdx block_size=1M 0x10000000006 a block past the end
vhdx block_size=1M first two blocks in one place
vhdx block_size=1M 0x100006 a block over the log
vhdx block_size=1M 0x300006 a block over the BAT
vhdx block_size=1M 0x500004 a state that no block has
vhdx subformat=fixed,block_size=1M first two blocks of a fixed disk in one place
vdi static=off 0x00001000 a block past the end
vdi static=off first two blocks in one place
vdi static=on first two blocks of a static disk in one place
CASES

# A copy that is damaged or old is replaced by the other one.
copy_is_mended() { # OFFSET
    must "$PLATTER" convert -f raw -O vhdx disk.raw image.vhdx || return
    printf 'x' | dd of=image.vhdx bs=1 seek="$1" conv=notrunc status=none
    must "$PLATTER" compare -f raw -F vhdx disk.raw image.vhdx
    must "$PLATTER" check -r all image.vhdx && must "$PLATTER" check image.vhdx
    qemu_agrees vhdx image.vhdx disk.raw
}
for at in 65540 131076 65800 196612 262148; do
    it "vhdx: one of the two headers or region tables is damaged at $at" copy_is_mended "$at"
done

# ---- sizes and room ----
changes_size() { # FORMAT OPTIONS
    local image=image."$1" size before
    rm -f "$image"
    must "$PLATTER" convert -f raw -O "$1" -o "$2" disk.raw "$image" || return
    cp disk.raw now.raw
    for size in 8M 33M 3146240 5M 512 6M; do
        must "$PLATTER" resize -q --shrink "$image" "$size"
        truncate -s "$size" now.raw
        qemu_agrees "$1" "$image" now.raw
        must "$PLATTER" check "$image"
    done
    refused 'shrink' "$PLATTER" resize "$image" 1M
    must "$PLATTER" convert -n -f raw -O "$1" --target-is-zero -S 0 now.raw "$image"
    before=$(stat -c %s "$image")
    must "$PLATTER" compact -q "$image"
    qemu_agrees "$1" "$image" now.raw
    must "$PLATTER" check "$image"
    [[ $2 =~ fixed|static=on ]] || (($(stat -c %s "$image") < before)) || bad "nothing was given back"
}
for options in vhd:subformat=dynamic vhd:block_size=64k vhd:subformat=fixed vhdx:block_size=1M \
    vhdx:subformat=fixed,block_size=1M vdi:static=off vdi:static=on; do
    it "$options: larger, smaller, compacted" changes_size "${options%%:*}" "${options#*:}"
done

# ---- one writer ----
only_one_writes() { # FORMAT
    local image=image."$1" command
    must "$PLATTER" convert -f raw -O "$1" disk.raw "$image" || return
    "$PLATTER" convert -n -r 10k -f raw -O "$1" disk.raw "$image" >/dev/null 2>&1 &
    local writer=$!
    # not by asking platter, which would hold a lock of its own just when the writer wants one
    for _ in {1..200}; do
        readlink /proc/"$writer"/fd/* 2>/dev/null | grep -q "/$image\$" && break
        sleep 0.05
    done
    sleep 0.2
    while read -ra command; do
        refused "in use by process $writer" "$PLATTER" "${command[@]}"
    done <<COMMANDS
convert -n -f raw -O $1 disk.raw $image
convert -O raw $image out.raw
resize $image 10M
check -r all $image
compact $image
COMMANDS
    must "$PLATTER" info -U "$image"
    kill "$writer" && wait "$writer" 2>/dev/null
    must "$PLATTER" check -r all "$image"
    must "$PLATTER" convert -n -f raw -O "$1" disk.raw "$image" && qemu_agrees "$1" "$image" disk.raw
}
for format in vhd vhdx vdi; do
    it "$format: an image that is written to is nobody else's" only_one_writes "$format"
done
finish
