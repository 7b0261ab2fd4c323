# Errors and warnings as JSON: each line on standard error is an object that a program can read.
. "$SRCDIR/tests/cli/support/testing.bash"
needs jq

"$PLATTER" create -q -f raw a.raw 1M

# error_is NAME KIND ARGUMENT...
error_is() {
    local name=$1 kind=$2
    shift 2
    ask "$PLATTER" "$@"
    it "$name: kind" is "$kind" "$(jq -r .error.kind <<<"$err")"
    it "$name: a message" test -n "$(jq -r '.error.message // empty' <<<"$err")"
    it "$name: one line" is 1 "$(wc -l <<<"$err")"
    it "$name: it fails" test "$status" -ne 0
    it "$name: nothing on standard output" is '' "$out"
}
error_is "a missing image" not-found info --output=json nothing-there
error_is "an unknown option" invalid info --output=json --nonsense a.raw
error_is "an unknown option before --output" invalid info --nonsense --output json a.raw
error_is "a refused option" unsupported info --image-opts --output=json a.raw
error_is "an unknown command" invalid nonsense --output=json
error_is "an unknown format" invalid info --output=json -f nonsense a.raw
error_is "a folder that is not there" not-found convert --output=json a.raw nowhere/c.raw
error_is "checks that the format has not" unsupported check --output=json -f raw a.raw
it "no checks: status 63" is 63 "$status"

ask "$PLATTER" info --output=json --nonsense a.raw
it "the hint is a member of its own" test -n "$(jq -r '.error.hint // empty' <<<"$err")"

ask "$PLATTER" info --output=json "$(printf 'bad\xffname\n')"
it "a name that is not UTF-8 makes valid JSON" json_is .error.message <<<"$err"
ask "$PLATTER" info "$(printf 'esc\033[31mred')"
it "control characters do not reach the terminal" says "$err" 'esc\\x1b'

ask "$PLATTER" info nothing-there
it "for people: the program, then what happened" says "$err" "platter: *nothing-there*"
ask "$PLATTER" info --nonsense
it "for people: the hint on a second line" is "hint: " "$(sed -n '2s/^\(hint: \).*/\1/p' <<<"$err")"

it "a full disk is an error of info" bash -c '! "$0" info a.raw >/dev/full 2>err' "$PLATTER"
it "and says so" grep -q "standard output" err
it "a closed pipe does not kill it silently" \
    bash -c '{ "$0" map --output=json a.raw; test $? -lt 126; } | true; exit ${PIPESTATUS[0]}' "$PLATTER"

if knows qcow2; then
    "$PLATTER" create -q -f qcow2 planted.img 1M
    ask "$PLATTER" info --output=json planted.img
    it "a planted header: a warning" says "$(jq -r .warning.message <<<"$err")" "-f raw"
    it "a planted header: still an answer" is qcow2 "$(jq -r .format <<<"$out")"
    ask "$PLATTER" info -f qcow2 planted.img
    it "no warning once the format is given" is '' "$err"
    ask "$PLATTER" info -f raw planted.img
    it "raw when raw is said" says "$out" "file format: raw"
    cp planted.img planted.qcow2
    ask "$PLATTER" info planted.qcow2
    it "no warning for a name that says so" is '' "$err"
else
    skip "planted headers: qcow2 is not built in"
fi
finish
