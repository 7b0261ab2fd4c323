# The command line itself: spellings of options, mistakes, exit statuses.
. "$SRCDIR/tests/cli/support/testing.bash"

"$PLATTER" create -q -f raw a.raw 1M
cp a.raw b.raw

# accepts NAME ARGUMENT...
accepts() {
    local name=$1
    shift
    ask "$PLATTER" "$@"
    it "$name" is 0 "$status"
}
accepts "a value joined to its letter" info -fraw a.raw
accepts "a value behind its letter" info -f raw a.raw
accepts "a value behind =" info --format=raw a.raw
accepts "a value as the next argument" info --format raw a.raw
accepts "combined letters" compare -qs a.raw b.raw
accepts "combined letters, the last with a value" convert -pO raw a.raw c.raw
accepts "options behind operands" convert a.raw c.raw -O raw
accepts "-- ends the options" info -f raw -- a.raw
accepts "the last of repeated options counts" info -f nonsense -f raw a.raw
accepts "qemu-img's letters of convert" convert -q -f raw -O raw -t none -T writeback -m 4 -W -S 4k \
    -r 1G a.raw c.raw
accepts "-C" convert -C -f raw -O raw a.raw c.raw
accepts "-U" info -U -f raw a.raw
accepts "help is help whatever else is said" convert --help --nonsense
accepts "help of the program" --help
accepts "help COMMAND" help convert
accepts "version" --version
accepts "a size with +" resize -f raw -q b.raw +1M
accepts "a negative size is no option" resize -f raw -q --shrink b.raw -1M
accepts "a negative size behind --" resize -f raw -q --shrink b.raw -- -512

touch ./-odd
accepts "an operand that looks like an option, behind --" info -f raw -- -odd

# refuses NAME STATUS MESSAGE ARGUMENT...
refuses() {
    local name=$1 expected=$2 message=$3
    shift 3
    ask "$PLATTER" "$@"
    it "$name: exit status" is "$expected" "$status"
    it "$name: message" says "$err" "$message"
    it "$name: nothing on standard output" is '' "$out"
}
refuses "no command" 1 "a command is missing"
refuses "an unknown command" 1 "there is no command 'inform'" inform
refuses "a mistyped command" 1 "did you mean 'convert'?" convrt
refuses "an unknown option" 1 "unknown option '--zzzzz'" info --zzzzz a.raw
refuses "a mistyped option" 1 "did you mean '--backing-chain'?" info --backing-chian a.raw
refuses "an unknown letter" 1 "unknown option '-Z'" info -Z a.raw
refuses "a flag with a value" 1 "takes no value" info --backing-chain=yes a.raw
refuses "a missing value" 1 "needs a value" info a.raw -f
refuses "no operand" 1 "expecting one image" info
refuses "too many operands" 1 "expecting one image" info a.raw b.raw
refuses "convert with one operand" 1 "usage: platter convert" convert a.raw
refuses "an unknown format of the source" 1 "raw" info -f nonsense a.raw
refuses "an unknown format of the target" 1 "raw" convert -O nonsense a.raw c.raw
refuses "an unknown output" 1 "human, json" info --output=xml a.raw
refuses "an unknown cache mode" 1 "writeback" convert -t fast a.raw c.raw
refuses "too many coroutines" 1 "from 1 to 16" convert -m 17 a.raw c.raw
refuses "no coroutine" 1 "from 1 to 16" convert -m 0 a.raw c.raw
refuses "a sparse size of half a sector" 1 "multiples of 512" convert -S 100 a.raw c.raw
refuses "a size that is none" 1 "is not a size" create x.raw 1Z
refuses "--image-opts" 1 "--format" info --image-opts driver=raw
refuses "--object" 1 "not supported" info --object secret,id=x a.raw
refuses "--target-is-zero without -n" 1 "--no-create" convert --target-is-zero a.raw c.raw
refuses "--target-is-zero with -B" 1 "exclude each other" convert -n --target-is-zero -B a.raw a.raw b.raw
refuses "--skip-broken-bitmaps alone" 1 "--bitmaps" convert --skip-broken-bitmaps a.raw c.raw
refuses "a backing format alone" 1 "no backing file" convert -F raw a.raw c.raw
refuses "two sources over a backing file" 1 "overlay" convert -B a.raw -O raw a.raw b.raw c.raw
refuses "-C with -S" 1 "exclude each other" convert -C -S 4k a.raw c.raw
refuses "measure of nothing" 1 "--size" measure -O raw
refuses "measure of two things" 1 "exclude each other" measure -O raw --size 1M a.raw
refuses "compare: wrong options are not 'different'" 2 "expecting two images" compare a.raw
refuses "compare: a missing image is not 'different'" 2 "nothing-there" compare a.raw nothing-there
refuses "a missing image" 1 "nothing-there" info nothing-there
refuses "a progress descriptor that is not open" 1 "not an open" convert --progress-fd 77 a.raw c.raw
refuses "an unknown option of a format" 1 "nonsense" create -f raw -o nonsense=1 x.raw 1M
if knows qcow2; then
    refuses "streams on standard output only" 1 "standard output" convert -O qcow2 a.raw -
fi
it "a refused create leaves nothing" test ! -e x.raw

finish
