# Sourced by the scripts in tests/cli that test the command line itself; adds to tests/support/cli.sh
# what looks at the words of the program:
#
#   ask COMMAND...      runs it; output, errors and status are in $out, $err and $status
#   is EXPECTED FOUND   texts are equal           says TEXT PATTERN   the pattern is somewhere in it
#   same_file A B       else the difference       knows FORMAT        this platter has it
#   json_is FILTER ...  of jq: true for what it reads
#
# Within a case each of them calls bad itself, wherever it stands, and returns its status.
# shellcheck shell=bash disable=SC2034
set -u
. "$SRCDIR/tests/support/cli.sh"
cd "$TEST_TMP" || exit 1
out='' err='' status=0

ask() {
    "$@" >"$TEST_TMP/run.out" 2>"$TEST_TMP/run.err" </dev/null
    status=$?
    out=$(<"$TEST_TMP/run.out") err=$(<"$TEST_TMP/run.err")
}

is() {
    [[ $1 == "$2" ]] || bad "expected: $1"$'\n'"    found:    $2"
}

says() {
    # shellcheck disable=SC2053 # a pattern on purpose
    [[ $1 == *$2* ]] || bad "expected: *$2*"$'\n'"    found:    $1"
}

same_file() {
    diff -u "$1" "$2" || bad "$1 is not $2"
}

knows() {
    "$PLATTER" formats | awk 'NR > 1 { print $1 }' | grep -qx "$1"
}

# json_is FILTER [FILE]: the filter finds something that is neither null nor false.
json_is() {
    jq -e "$@" >/dev/null || bad "no: $1"
}
