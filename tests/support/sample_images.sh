# shellcheck shell=bash
# The rows of the sample images' INDEX.tsv of some folders: images that other software made are read with exactly
# the content that they hold, and those that are broken are refused in one sentence, with and
# without sanitizers, in little time and memory.  No sample is changed.
# A script names the folders: sample_images FOLDER...
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
[[ -n ${IMAGES:-} ]] || { echo "there are no sample images"; exit 77; }

GIB=$((1 << 30))
formats=" $("$PLATTER" formats | awk 'NR > 1 { print $1 }' | tr '\n' ' ')"
declare -A waiting=() # rows by the format that they wait for

# The digest of all blocks of 4096 bytes that are not zero, each behind its index: see the README of
# the samples.
digest_of_blocks() { # FILE
    python3 - "$1" <<'PYTHON'
import hashlib, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size, digest, at = os.fstat(fd).st_size, hashlib.sha256(), 0
while at < size:
    try:
        at = os.lseek(fd, at, os.SEEK_DATA) & ~4095
    except OSError:
        break
    end = os.lseek(fd, at, os.SEEK_HOLE)
    while at < end:
        for i in range(0, len(piece := os.pread(fd, 1 << 20, at)), 4096):
            block = piece[i:i + 4096].ljust(4096, b"\0")
            if block.strip(b"\0"):
                digest.update(((at + i) // 4096).to_bytes(8, "little") + block)
        at += len(piece)
print(digest.hexdigest())
PYTHON
}

sanitized_too() { [[ $PLATTER_ASAN != "$PLATTER" ]]; }
# shellcheck disable=SC2016 # for the inner shell
in_little_memory=(bash -c 'ulimit -v 1048576 && exec "$@"' -)

# Of a big disk only what is not zero is looked at.
check_file() { # WANTED: the digest of out.raw
    if [[ $1 == nz4096:* ]]; then
        same "digest of the blocks" "${1#*:}" "$(digest_of_blocks out.raw)"
    else
        same "digest" "$1" "$(digest_of out.raw)"
    fi
}

reads() { # SIZE DIGEST [OPTION]...
    local size=$1 digest=$2
    shift 2
    rm -f out.raw
    must "$PLATTER" convert "$@" -O raw "$sample" out.raw || return
    same "size" "$size" "$(stat -c %s out.raw)"
    check_file "$digest"
    sanitized_too && ((size <= GIB / 8)) || return 0
    rm -f out.raw
    must "$PLATTER_ASAN" convert "$@" -O raw "$sample" out.raw && check_file "$digest"
}

# Within five seconds and a GiB of addresses; a sanitized program is slower and needs more.
refuses() { # REGEX [OPTION]...
    local regex=$1
    shift
    LIMIT_SECONDS=5 refused "$regex" "${in_little_memory[@]}" \
        "$PLATTER" convert -m 2 "$@" -O raw "$sample" out.raw
    [[ ! -e out.raw ]] || bad "a target was left behind"
    sanitized_too || return 0
    LIMIT_SECONDS=20 refused "$regex" "$PLATTER_ASAN" convert "$@" -O raw "$sample" out.raw
    LIMIT_SECONDS=20 run "$PLATTER_ASAN" info "$sample"
    LIMIT_SECONDS=20 run "$PLATTER_ASAN" check "$sample"
}

refuses_or_reads() { # DIGEST
    LIMIT_SECONDS=5 run "${in_little_memory[@]}" \
        "$PLATTER" convert -m 2 -O raw "$sample" out.raw
    if ((status == 0)); then
        check_file "$1"
    else
        refuses 'platter: '
    fi
    LIMIT_SECONDS=20 run "$PLATTER_ASAN" info "$sample"
}

is_format() { # REGEX: what the sample is taken for, if it is not refused
    run "$PLATTER_ASAN" info --output=json "$sample"
    ((status == 1)) || grep -qE "\"format\": \"$1\"" run.out || bad "taken for $(grep '"format"' run.out)"
}

check_snapshots() { # those of qemu-snap.qcow2; qemu-img cannot say, it pads them
    it "snapshot first by name" reads 6292992 \
        42ff1d1dec3aec49ead4efcdbd4f6966cbeeb80a25b6687f0547ea50bacf9227 -l first
    it "snapshot second by id" reads 6292992 \
        ce2084e91191b96c300ec0053edf2daddf20062fd04986bb0d5bfa3585aed6c4 -l snapshot.id=2
    it "snapshot second by both" reads 6292992 \
        ce2084e91191b96c300ec0053edf2daddf20062fd04986bb0d5bfa3585aed6c4 \
        -l snapshot.id=2,snapshot.name=second
    it "a snapshot that is not there" refused "no snapshot" \
        "$PLATTER" convert -l third -O raw "$sample" out.raw
}

row() { # FORMAT SIZE EXPECTATION SPECIAL
    local expectation=$3
    rm -f out.raw
    case $expectation in
    REFUSE)
        if [[ $4 == *"when no format is forced"* ]]; then # its magic is what is broken
            refuses 'platter: ' -f "$1" && is_format raw
        else
            refuses 'platter: '
        fi
        ;;
    REFUSE-OR:*) refuses_or_reads "${expectation#*:}" ;;
    POLICY) refuses 'prefix .* refused|--allow-dir' ;;
    OTHER) is_format raw ;;
    *) case $4 in
        *'password "'*) refuses 'encrypt|aes|luks' ;;
        *) reads "$2" "$expectation" && is_format "$1" ;;
        esac ;;
    esac
}

# A format that platter does not read yet: nothing may crash over it.
only_survives() { # FORMAT
    LIMIT_SECONDS=20 run "$PLATTER_ASAN" info "$sample"
    ((status <= 1)) || bad "status $status"
    if ((problems)); then
        case_end
    else
        waiting[$1]=$((${waiting[$1]:-0} + 1))
    fi
}

# Of disks above 64 MiB the digest of the blocks is taken where there is one: most of them is zeros.
rows() { # FOLDER
    awk -F '\t' -v OFS='\t' -v folder="$1/" 'NR > 1 && index($1, folder) == 1 {
        wanted = $4 > 67108864 && $9 != "" && $5 !~ /^[A-Z]/ ? "nz4096:" $9 : $5
        print $1, $2, $4 == "" ? "-" : $4, wanted, $7 }' "$IMAGES/INDEX.tsv"
}

no_sample_is_changed() { # FOLDER
    (cd "$IMAGES" && grep "  $1/" SHA256SUMS | sha256sum --check --quiet)
}

sample_images() { # FOLDER...
    local folder file format size expectation special
    for folder in "$@"; do
        while IFS=$'\t' read -r file format size expectation special; do
            sample=$IMAGES/$file
            case_begin "$file"
            if [[ $expectation != OTHER && $formats != *" $format "* ]]; then
                only_survives "$format"
                continue
            fi
            row "$format" "$size" "$expectation" "$special"
            case_end
            [[ $file != qcow2/qemu-snap.qcow2 ]] || check_snapshots
        done < <(rows "$folder")
        rm -f out.raw
        it "no sample of $folder is changed" no_sample_is_changed "$folder"
    done
    for format in "${!waiting[@]}"; do
        skip "$format is not read yet: only that its ${waiting[$format]} samples crash nothing" \
            "${waiting[$format]}"
    done
    finish
}
