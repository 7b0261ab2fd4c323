# shellcheck shell=bash
# parents.sh - what the scripts that change the parents of disks share: four raw disks, each changed
# from the one before, another one, and chains of images with that content.
#
# The script has sourced cli.sh and says in `change FILE LAYER` what changes a raw disk.

make_layers() { # BYTES: 0.raw to 3.raw and other.raw
    local layer
    make_content 0.raw "$1" 4
    for layer in 1 2 3; do
        cp "$((layer - 1)).raw" "$layer.raw"
        change "$layer.raw" "$layer"
    done
    cp 0.raw other.raw && change other.raw 9
}

# Disks 0 to 3, each over the one before, and one that has no parent, in a folder that is entered.
begin() { # FORMAT OPTIONS
    rm -rf chain && mkdir chain && cd chain || exit 1
    must "$PLATTER" convert -f raw -O "$1" ../0.raw "0.$1"
    must "$PLATTER" convert -f raw -O "$1" ../other.raw "other.$1"
    local layer
    for layer in 1 2 3; do
        must "$PLATTER" convert -f raw -O "$1" -o "$2" -B "$((layer - 1)).$1" -F "$1" \
            "../$layer.raw" "$layer.$1"
    done
}

# The chain of an image, the youngest first, as the program tells it.
chain_is() { # FORMAT LAYER WANTED...: names of the files without their ending
    local format=$1 layer=$2
    shift 2
    must "$PLATTER" info --backing-chain "$layer.$format"
    is "$*" "$(sed -n "s/^image: //p" run.out | sed "s/\.$format//" | xargs)" || bad "another chain"
}
