#!/usr/bin/env bash
# VHD, VHDX and VDI files with one field changed to do harm, their checksums right: refused in one
# sentence, within five seconds and little memory; with sanitizers too.  A file may be as long as its
# header claims: holes cost an attacker nothing.  What the sample images have is not repeated here.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs python3 xz

cat >edit.py <<'PYTHON'
# edit.py IMAGE CHANGE...: what the changes are called says what they do.
import struct, sys

name, changes = sys.argv[1], sys.argv[2:]
file = open(name, "r+b")
table = []
for i in range(256):
    crc = i
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    table.append(crc)

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xffffffff

def get(at, n):
    file.seek(at)
    return file.read(n)

def put(at, data):
    file.seek(at)
    file.write(data)

def number(at, form, value):
    put(at, struct.pack(form, value))

# ---- VHD: header at 512, footer and its copy ----
def seal_vhd():
    for at, length, sum_at in (0, 512, 64), (512, 1024, 36):
        data = bytearray(get(at, length))
        data[sum_at:sum_at + 4] = bytes(4)
        number(at + sum_at, ">I", ~sum(data) & 0xffffffff)

def vhd(at, form, value):
    number(at, form, value)
    seal_vhd()
    put(file.seek(0, 2) - 512, get(0, 512))

# ---- VHDX: both headers, both region tables ----
def seal_vhdx():
    for at, length in (65536, 4096), (131072, 4096), (196608, 65536), (262144, 65536):
        data = bytearray(get(at, length))
        data[4:8] = bytes(4)
        number(at + 4, "<I", crc32c(data))

def headers(at, form, value):
    for base in 65536, 131072:
        number(base + at, form, value)
    seal_vhdx()

# Entry 0 or 1 of the region tables: its field at `at`.
def regions(entry, at, form, value):
    for base in 196608, 262144:
        number(base + 16 + 32 * entry + at, form, value)
    seal_vhdx()

LOG, LOG_GUID = 1 << 20, bytes(range(1, 17))

def log(make):
    headers(48, "16s", LOG_GUID)
    for at in range(0, 1 << 20, 4096):
        tail, sequence = make(at)
        entry = bytearray(4096)
        struct.pack_into("<4sIIIQII16sQQ", entry, 0, b"loge", 0, 4096, tail, sequence, 0, 0,
                         LOG_GUID, 4 << 20, 1 << 62)
        number_of = crc32c(entry)
        struct.pack_into("<I", entry, 4, number_of)
        put(LOG + at, entry)

def item_of_metadata(guid_start):
    data = get(2 << 20, 65536)
    for i in range(struct.unpack_from("<H", data, 10)[0]):
        at = 32 + 32 * i
        if data[at:at + 4] == guid_start:
            return (2 << 20) + struct.unpack_from("<I", data, at + 16)[0]
    raise SystemExit("no such metadata item")

def parameters(value): # the block size
    number(item_of_metadata(bytes.fromhex("3767a1ca")), "<I", value)

def bat_region():
    for i in 0, 1:
        if get(196608 + 16 + 32 * i, 4) == bytes.fromhex("6677c22d"):
            return i

actions = {
    "vhd-entries": lambda: vhd(512 + 28, ">I", 0xffffffff),
    "vhd-block-3M": lambda: vhd(512 + 32, ">I", 3 << 20),
    "vhd-block-1": lambda: vhd(512 + 32, ">I", 1),
    "vhd-bat-far": lambda: vhd(512 + 16, ">Q", 1 << 62),
    "vhd-bat-in-header": lambda: vhd(512 + 16, ">Q", 600),
    "vhd-size": lambda: vhd(48, ">Q", 1 << 63),
    "vhd-few-entries": lambda: vhd(512 + 28, ">I", 1),
    "vhd-header-far": lambda: vhd(16, ">Q", (1 << 64) - 1024),
    "vhd-header-in-footer": lambda: vhd(16, ">Q", 0),
    "vhdx-block-3M": lambda: parameters(3 << 20),
    "vhdx-log-far": lambda: (headers(48, "16s", LOG_GUID), headers(72, "<Q", 1 << 40)),
    "vhdx-log-at-the-end-of-all": lambda: (headers(48, "16s", LOG_GUID),
                                           headers(72, "<Q", (1 << 64) - (1 << 20))),
    "vhdx-log-4G": lambda: (headers(48, "16s", LOG_GUID), headers(68, "<I", 0xfff00000)),
    "vhdx-log-one-number": lambda: log(lambda at: (at, 7)),
    "vhdx-log-circle": lambda: log(lambda at: ((at + 4096) % (1 << 20), at // 4096 + 1)),
    "vhdx-log-last-number": lambda: log(lambda at: (at, (1 << 64) - 1 - (at // 4096) % 2)),
    "vhdx-log-file-of-4E": lambda: log(lambda at: (0, at // 4096 + 1)),
    "vhdx-bat-on-log": lambda: regions(bat_region(), 16, "<Q", 1 << 20),
    "vhdx-bat-on-metadata": lambda: regions(bat_region(), 16, "<Q", 2 << 20),
    "vhdx-bat-on-headers": lambda: regions(bat_region(), 16, "<Q", 0),
    "vhdx-bat-4G": lambda: regions(bat_region(), 24, "<I", 0xfff00000),
    "vhdx-bat-0": lambda: regions(bat_region(), 24, "<I", 0),
    "vhdx-entries": lambda: [number(base + 8, "<I", 0xffffffff) for base in (196608, 262144)] and
                    seal_vhdx(),
    "vdi-block-3M": lambda: number(376, "<I", 3 << 20),
    "vdi-blocks": lambda: number(384, "<I", 0xffffffff),
    "vdi-no-blocks": lambda: number(384, "<I", 0),
    "vdi-extra": lambda: number(380, "<I", 0xffffffff),
    "vdi-map-far": lambda: number(340, "<I", 0xffffffff),
    "vdi-data-on-map": lambda: number(344, "<I", 512),
    "vdi-map-on-header": lambda: number(340, "<I", 0),
    "vdi-size": lambda: number(368, "<Q", 1 << 63),
    "vdi-header-size": lambda: number(72, "<I", 0xffffffff),
    "vdi-allocated": lambda: number(388, "<I", 0xffffffff),
    "long": lambda: file.truncate(20 << 30),
}
for change in changes:
    actions[change]()
PYTHON

make_content disk.raw 6292992 4
for format in vhd vhdx vdi; do
    "$PLATTER" convert -f raw -O "$format" disk.raw "good.$format" || exit 1
done
# shellcheck disable=SC2016 # for the inner shell
in_little_memory=(bash -c 'ulimit -v 300000 && exec "$@"' -)

# Check may find it sound, mend it, or refuse; it comes to an end.
survives() { # IMAGE
    cp --sparse=always "$1" "mended.${1##*.}"
    LIMIT_SECONDS=5 run "${in_little_memory[@]}" "$PLATTER" check -r all "mended.${1##*.}"
    [[ $PLATTER_ASAN != "$PLATTER" ]] || return 0
    LIMIT_SECONDS=20 run "$PLATTER_ASAN" check -r all "$1"
}

is_refused() { # REGEX FORMAT CHANGE...
    local regex=$1 image=bad.$2
    shift 2
    cp "good.${image##*.}" "$image" && python3 edit.py "$image" "$@" || return
    rm -f out.raw
    LIMIT_SECONDS=5 refused "$regex" "${in_little_memory[@]}" \
        "$PLATTER" convert -m 2 -f "${image##*.}" -O raw "$image" out.raw
    [[ ! -e out.raw ]] || bad "a target was left behind"
    [[ $PLATTER_ASAN == "$PLATTER" ]] ||
        LIMIT_SECONDS=20 refused "$regex" "$PLATTER_ASAN" convert -f "${image##*.}" -O raw "$image" out.raw
    survives "$image"
}

is_survived() { # FORMAT CHANGE...: right or wrong, the end comes soon
    local image=bad.$1
    shift
    cp "good.${image##*.}" "$image" && python3 edit.py "$image" "$@" || return
    LIMIT_SECONDS=5 run "${in_little_memory[@]}" \
        "$PLATTER" convert -m 2 -f "${image##*.}" -O qcow2 "$image" out.qcow2
    ((status <= 1)) || bad "status $status"
    LIMIT_SECONDS=5 run "${in_little_memory[@]}" "$PLATTER" info "$image"
    LIMIT_SECONDS=5 run "${in_little_memory[@]}" "$PLATTER" check "$image"
    survives "$image"
    LIMIT_SECONDS=5 run "${in_little_memory[@]}" "$PLATTER" compact "$image"
}

while read -r format change regex; do
    it "$change" is_refused "$regex" "$format" "$change" || true
done <<'CASES'
vhd vhd-block-3M block_size 3145728
vhd vhd-block-1 block_size 1
vhd vhd-bat-far BAT.*past the end
vhd vhd-bat-in-header overlaps
vhd vhd-size too big
vhd vhd-few-entries too few
vhd vhd-header-far header.*past the end
vhd vhd-header-in-footer cookie|overlaps
vhdx vhdx-block-3M block ?size
vhdx vhdx-log-far log
vhdx vhdx-log-at-the-end-of-all log
vhdx vhdx-log-file-of-4E log.*too big
vhdx vhdx-bat-on-log overlap|region
vhdx vhdx-bat-on-metadata overlap|region
vhdx vhdx-bat-on-headers region
vhdx vhdx-bat-4G region|BAT
vhdx vhdx-bat-0 region|BAT
vhdx vhdx-entries entries
vdi vdi-block-3M cbBlock|block
vdi vdi-no-blocks blocks|map
vdi vdi-extra extra
vdi vdi-map-far offBlocks
vdi vdi-data-on-map data|map
vdi vdi-map-on-header offBlocks
vdi vdi-size too big
CASES

# The same in a file that is long enough for what it says.
it "a VHD whose BAT of 2^32 entries is all there" is_refused max_table_entries vhd long vhd-entries
it "a VHDX whose log of 4 GiB is all there" is_refused log vhdx long vhdx-log-4G
it "a VHDX whose BAT of 4 GiB is all there" is_survived vhdx long vhdx-bat-4G
it "a VDI whose map of 2^32 entries is all there" is_survived vdi long vdi-blocks
it "a VHDX whose log has one number everywhere" is_survived vhdx vhdx-log-one-number
it "a VHDX whose log goes round and round" is_survived vhdx vhdx-log-circle
it "a VHDX whose log has the last of all numbers" is_survived vhdx vhdx-log-last-number
it "a VDI whose header has 4 GiB" is_survived vdi vdi-header-size
it "a VDI that counts more blocks than it can have" is_survived vdi vdi-allocated
finish
