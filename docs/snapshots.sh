#!/usr/bin/env bash
# Snapshots as a user makes them: a disk of each format is filled, kept, spoiled, looked at, rolled
# back and tidied up.  Every line that begins with "+" is a command to type.
#
# usage: docs/snapshots.sh [FORMAT]...
#
# PLATTER is the program (platter); work is done in a folder of its own, which is removed afterwards.
set -euo pipefail
platter=${PLATTER:-platter}
(($#)) || set -- qcow2 raw vmdk vhd vhdx vdi

folder=$(mktemp -d "${TMPDIR:-/tmp}/platter-snapshots.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"

try() { # COMMAND...: shows it and runs it
    printf '+ platter %s\n' "$*"
    "$platter" "$@"
}

# What the guest does: here the content comes from a file.
guest_writes() { # FORMAT FILE
    printf '# the guest writes %s\n' "$2"
    "$platter" convert -n -f raw -O "$1" "$2" "disk.$1"
}

# The disk must read as the file does.
disk_is() { # FORMAT FILE
    "$platter" compare -q -f raw -F "$1" "$2" "disk.$1" || { echo "disk.$1 is not $2" >&2; exit 1; }
    printf '# the disk reads as %s\n' "$2"
}

content() { # FILE WORD: 8 MiB of a word
    yes "$2" | head -c 8M >"$1" || true
}
content installed "a fresh system"
content updated "a system with an update"
content broken "a system that does not start"

for format; do
    printf '\n=== %s ===\n' "$format"
    try create -q -f "$format" "disk.$format" 8M
    guest_writes "$format" installed
    try snapshot create -f "$format" "disk.$format" installed

    guest_writes "$format" updated
    try snapshot create -f "$format" "disk.$format" updated

    guest_writes "$format" broken
    try snapshot diff -f "$format" "disk.$format" updated
    try snapshot list -f "$format" "disk.$format"

    # Back to the state before the accident, then to the first one, then forward again.
    try snapshot rollback -f "$format" "disk.$format" updated
    disk_is "$format" updated
    try snapshot rollback -f "$format" "disk.$format" installed
    disk_is "$format" installed
    try snapshot rollback -f "$format" "disk.$format" updated
    disk_is "$format" updated

    # The first state is needed no longer; the second gets a better name, then goes, too.
    try snapshot delete -f "$format" "disk.$format" installed
    disk_is "$format" updated
    try snapshot rename -f "$format" "disk.$format" updated good
    try snapshot list -f "$format" "disk.$format"
    try snapshot delete -f "$format" "disk.$format" good
    disk_is "$format" updated
    try check -q -f "$format" "disk.$format" || (($? == 63)) # raw has nothing to check
    rm -f "disk.$format"
    [[ -z $(ls disk* 2>/dev/null) ]] || { echo "something is left: $(ls)" >&2; exit 1; }
done
