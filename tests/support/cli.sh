# shellcheck shell=bash
# cli.sh - what the scripts of tests/cli share: cases that count themselves, runs of the program
# that notice crashes, and content to put into images.
#
#   case_begin SENTENCE; ...; case_end     one test: it fails if bad was called in between
#   it SENTENCE COMMAND...                 one test that is one command
#   skip REASON [N]                        N tests that cannot run here
#   finish                                 prints the counts, ends the script
#
# Within a case: run, must, refused, same and same_content call bad themselves and return its status.
passed=0 failed=0 skipped=0
case_name='' problems=0
LIMIT_SECONDS=${LIMIT_SECONDS:-60}

needs() { # PROGRAM...: the script is skipped without them
    local program
    for program; do
        command -v "$program" >/dev/null || { echo "$program is not installed"; exit 77; }
    done
}

case_begin() { case_name=$1 problems=0; }

case_end() {
    if ((problems)); then
        failed=$((failed + 1))
        echo "FAILED: $case_name"
    else
        passed=$((passed + 1))
    fi
    return $((problems != 0))
}

bad() { # WHAT
    problems=$((problems + 1))
    echo "    $case_name: $*"
    return 1
}

it() { # SENTENCE COMMAND...
    case_begin "$1"
    shift
    "$@" || ((problems)) || bad "status $? of: $*"
    case_end
}

skip() { # REASON [N]
    skipped=$((skipped + ${2:-1}))
    echo "skip: $1"
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    exit $((failed != 0))
}

# Runs a command; its output goes to run.out and run.err, its status to $status.  A crash, a
# sanitizer's report or too long a run is bad.
run() { # COMMAND...
    status=0
    timeout -k 5 "$LIMIT_SECONDS" "$@" >run.out 2>run.err </dev/null || status=$?
    if ((status == 124 || status == 137)); then
        bad "not finished after $LIMIT_SECONDS s: $*"
    elif ((status > 128)) || grep -qE 'Sanitizer|runtime error:' run.err; then
        bad "crashed (status $status): $*"
        head -n 30 run.err
        return 1
    fi
}

must() { # COMMAND...: it succeeds
    run "$@" || return 1
    ((status == 0)) && return 0
    bad "status $status of: $*"
    head -n 5 run.err
    return 1
}

# It ends with status 1 and one clear message that matches.
refused() { # REGEX COMMAND...
    local regex=$1
    shift
    run "$@" || return 1
    ((status == 1)) || { bad "status $status instead of 1: $*"; return 1; }
    [[ $(grep -vc '^platter: warning: ' run.err) -le 2 && $(tail -n 2 run.err) == *'platter: '* ]] ||
        { bad "not one message: $(<run.err)"; return 1; }
    grep -qiE -- "$regex" run.err || { bad "the message does not match '$regex': $(<run.err)"; return 1; }
}

same() { # WHAT WANTED GOT
    [[ $2 == "$3" ]] || bad "$1: wanted $2, got $3"
}

same_content() { # FILE FILE: byte for byte
    cmp -s "$1" "$2" || bad "$1 and $2 differ: $(cmp "$1" "$2" 2>&1)"
}

digest_of() { sha256sum <"$1" | cut -d ' ' -f 1; } # FILE

# Bytes that no codec makes smaller, the same on every run.
noise() { # BYTES [SEED]
    awk -v seed="${2:-1}" -v n=$(($1 / 3 + 100)) \
        'BEGIN { srand(seed); for (i = 0; i < n; i++) print rand() }' |
        xz -0 --format=lzma -T 1 | tail -c +100 | head -c "$1"
}

# A disk of SIZE bytes: noise, zeros and text in runs of odd lengths.
make_content() { # FILE SIZE [SEED]
    local size=$2 seed=${3:-1}
    local kept=content.$size.$seed
    [[ -f $kept ]] || fill_content "$kept" "$size" "$seed"
    cp --sparse=always "$kept" "$1"
}

fill_content() { # FILE SIZE SEED
    local file=$1 size=$2 seed=$3 at=0 turn=0 len
    local -a copy=(dd of="$file" bs=64K iflag=count_bytes oflag=seek_bytes conv=notrunc status=none)
    noise 262144 "$seed" >content.noise
    seq "$seed" 60000 | head -c 262144 >content.text
    truncate -s "$size" "$file"
    while ((at < size)); do
        len=$(((turn * 7919 + seed * 523) % 200 * 512 + 512))
        ((len <= size - at)) || len=$((size - at))
        case $((turn % 4)) in
        0) "${copy[@]}" if=content.noise count="$len" seek="$at" ;;
        1) "${copy[@]}" if=content.text count="$len" seek="$at" ;;
        esac
        at=$((at + len)) turn=$((turn + 1))
    done
}

# Changes a raw disk: bytes, text and zeros, which depend on the seed alone.
change_content() { # FILE SEED
    python3 - "$@" <<'PYTHON'
import random, sys
name, seed = sys.argv[1], int(sys.argv[2])
source = random.Random(seed)
with open(name, "r+b") as disk:
    size = disk.seek(0, 2)
    for turn in range(12):
        length = source.choice([1, 511, 512, 4096, 70000, 1 << 20])
        disk.seek(source.randrange(size - length))
        disk.write([source.randbytes(length), bytes(length), b"layer" * length][turn % 3][:length])
PYTHON
}
