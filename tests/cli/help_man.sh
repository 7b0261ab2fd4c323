# Help, manual pages and completion say what the program does: they come from the same tables.
. "$SRCDIR/tests/cli/support/testing.bash"

commands=$("$PLATTER" dump-options tsv | cut -f 1 | uniq)
it "there are ten commands and more" test "$(wc -w <<<"$commands")" -ge 10
pages=("$SRCDIR"/docs/man/platter-*.1)
it "there is a command for each manual page" is ${#pages[@]} "$(wc -w <<<"$commands")"

for command in $commands; do
    page=$SRCDIR/docs/man/platter-$command.1
    ask "$PLATTER" "$command" --help
    help=$out
    it "$command --help succeeds" is 0 "$status"
    it "$command: help fits 80 columns" awk 'length > 80 { print; bad = 1 } END { exit bad }' <<<"$help"
    it "$command has a manual page" test -f "$page"
    it "platter(1) names $command" grep -q "platter\\\\-$command" "$SRCDIR/docs/man/platter.1"
    it "the program's help names $command" grep -q "^  $command " <("$PLATTER" --help)
    while IFS=$'\t' read -r _ option letter _; do
        it "$command --$option: in the help" grep -q -e "--$option\b" <<<"$help"
        it "$command --$option: in the manual" grep -qF -e "\\-\\-${option//-/\\-}\\fR" "$page"
        [[ $letter == - ]] ||
            it "$command -$letter: in the manual" grep -qF -e "\\fB\\-$letter\\fR, " "$page"
    done < <("$PLATTER" dump-options tsv "$command")
    for section in NAME SYNOPSIS DESCRIPTION OPTIONS EXAMPLES "EXIT STATUS" "SEE ALSO"; do
        it "$command: section $section" grep -qx "\.SH $section" "$page"
    done
done
it "the OPTIONS sections are the program's" "$SRCDIR/docs/man/update-options" "$PLATTER" --check

# describes FORMAT PAGE: the page has all options of new images of that format.
describes() {
    local option
    for option in $("$PLATTER" formats --output=json |
        jq -r --arg format "$1" '.[] | select(.name == $format) | .options[].name'); do
        grep -qE -e "(\\b|f[BR])${option}\\b" "$SRCDIR/docs/man/$2" || bad "$2: nothing about $option"
    done
}
it "the manual has the options of VMDK" describes vmdk platter-create.1
it "the manual has the options of OVA" describes ova platter-convert.1

no_output() {
    local output
    output=$("$@" 2>&1)
    [[ ! $output ]] || { printf '%s\n' "$output"; return 1; }
}
for page in "$SRCDIR"/docs/man/*.1; do
    if command -v groff >/dev/null; then
        it "${page##*/}: groff finds nothing to warn of" no_output groff -man -ww -z "$page"
    else
        skip "${page##*/}: needs groff"
    fi
done

# completes EXPECTED WORD...: the last word is the one to complete.
completes() {
    local expected=$1
    shift
    bash -c '
        compopt() { :; }
        . "$1"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _platter
        printf "%s\n" "${COMPREPLY[@]}"' bash "$SRCDIR/cli/completion.bash" "$PLATTER" "$@" >completed
    grep -qx -e "$expected" completed || { echo "no $expected in:"; cat completed; return 1; }
}
it "completion: commands" completes convert con
it "completion: options" completes --backing-chain info --ba
it "completion: options with a value end in =" completes --checksum= convert --che
it "completion: formats" completes raw convert -O r
it "completion: choices" completes leaks check -r l
it "completion: choices behind =" completes json info --output = j
it "completion: actions" completes rollback snapshot ro
it "completion: help" completes resize help re
finish
