# shellcheck shell=bash
# snapshots.sh - what the scripts about snapshots share, on top of cli.sh: raw models of the states of
# a disk d/disk.FORMAT, and what must be true of it.  0.raw is the first content, N.raw the one after N
# changes.
SIZE=6292992 # the last block is short

# Changes to a raw disk, which depend on the seed alone.
change() { # FILE SEED
    python3 - "$@" <<'PYTHON'
import random, sys
name, seed = sys.argv[1], int(sys.argv[2])
source = random.Random(seed)
with open(name, "r+b") as disk:
    size = disk.seek(0, 2)
    for turn in range(9):
        length = source.choice([1, 511, 4096, 70000, 200000])
        disk.seek(source.randrange(size - length))
        disk.write([source.randbytes(length), bytes(length), b"state" * length][turn % 3][:length])
PYTHON
}

make_models() {
    local n
    make_content 0.raw "$SIZE" 5
    for n in 1 2 3 4; do
        cp "$((n - 1)).raw" "$n.raw"
        change "$n.raw" "$n"
    done
}
# The sum of the sectors in which two files differ.
changed_bytes() { # FILE FILE
    python3 - "$@" <<'PYTHON'
import sys
a, b = (open(name, "rb").read() for name in sys.argv[1:3])
print(sum(min(512, len(a) - at) for at in range(0, len(a), 512) if a[at:at+512] != b[at:at+512]))
PYTHON
}

json() { # EXPRESSION of what run.out holds, which is called it
    python3 -c 'import json, sys; it = json.load(open("run.out")); print(eval(sys.argv[1]))' "$1"
}

P=$PLATTER # the program of the case at hand
snapshot() { must "$P" snapshot "$@"; }

write_disk() { # MODEL
    must "$PLATTER" convert -q -n -f raw -O "$format" "$1" "d/disk.$format"
}
disk_is() { # MODEL
    must "$P" compare -f raw -F "$format" "$1" "d/disk.$format"
}
state_is() { # NAME MODEL
    local file="d/disk.snapshot-$1.$format"
    if [[ -e $file ]]; then
        must "$P" compare -f raw -F "$format" "$2" "$file"
    else
        rm -f state.raw
        must "$PLATTER" convert -f "$format" -l "$1" -O raw "d/disk.$format" state.raw &&
            same_content "$2" state.raw
    fi
}
tree_is() { # "NAME PARENT, ..." STANDS-ON
    snapshot list -f "$format" --output=json "d/disk.$format" || return
    same "the tree" "$1" "$(json '", ".join(s["name"] + " " + str(s["parent"]) for s in it["snapshots"])')"
    same "where it stands" "$2" "$(json 'it["stands-on"]')"
    same "the current one" "$2" \
        "$(json '(["None"] + [s["name"] for s in it["snapshots"] if s["current"]])[-1]')"
}

new_disk() { # FORMAT OPTIONS [MODEL]
    format=$1
    rm -rf d && mkdir d
    must "$PLATTER" convert -q -f raw -O "$1" ${2:+-o "$2"} "${3:-0.raw}" "d/disk.$1"
}

# Three states; the disk then has 3.raw.
three_states() { # OPTION...
    local n
    for n in 1 2 3; do
        snapshot create "$@" -f "$format" "d/disk.$format" "s$n" && write_disk "$n.raw" || return
        sleep 0.01 # file dates are no finer than the kernel's clock tick
    done
}
