# Progress: for people on standard output or a terminal, for programs on a descriptor.
. "$SRCDIR/tests/cli/support/testing.bash"

head -c 8M /dev/urandom >source.raw
convert=("$PLATTER" convert -f raw -O raw)

ask "${convert[@]}" source.raw out.raw
it "without -p: not a word" is '' "$out$err"
ask "${convert[@]}" -p source.raw out.raw
it "-p: it begins at 0" says "$out" "    (0.00/100%)"
it "-p: it ends at 100" says "$out" "    (100.00/100%)"
it "-p: on standard output" is '' "$err"
it "-p: one line, rewritten" is 1 "$(wc -l <run.out)"
it "-p: no escapes where there is no terminal" bash -c '! grep -q "$(printf "\033")" run.out'
ask "${convert[@]}" -pq source.raw out.raw
it "-q silences -p" is '' "$out$err"
ask "$PLATTER" compare -f raw -F raw -p source.raw out.raw
it "compare -p: progress, then the answer" says "$out" "(100.00/100%)*Images are identical."
: >empty.raw
ask "${convert[@]}" -p empty.raw out.raw
it "nothing to copy ends at 100 too" says "$out" "(100.00/100%)"

"${convert[@]}" -p source.raw - >piped.raw 2>run.err </dev/null
it "a disk on standard output is not garbled by -p" cmp source.raw piped.raw

if command -v jq >/dev/null; then
    "${convert[@]}" -r 8M --progress-fd 3 source.raw out.raw 3>lines </dev/null
    it "--progress-fd: objects, one a line" \
        json_is 'has("done") and has("total") and has("rate") and has("eta")' lines
    it "--progress-fd: several" test "$(wc -l <lines)" -ge 2
    it "--progress-fd: the last one is complete" \
        json_is -s 'last | .done == .total and .done > 0' lines
    it "--progress-fd: it never goes back" \
        json_is -s '[.[].done] | . == sort' lines
    ask "${convert[@]}" --output=json -p source.raw out.raw
    it "--output=json: standard output is JSON alone" json_is '."virtual-size"' <<<"$out"
else
    skip "--progress-fd: needs jq"
fi

if command -v script >/dev/null; then
    on_terminal() {
        script -qec "$(printf '%q ' "$@")" /dev/null </dev/null | tr '\r' '\n'
    }
    on_terminal "${convert[@]}" -p -r 4M source.raw out.raw >shown
    it "on a terminal, -p: the rate" grep -q 'iB/s' shown
    it "on a terminal, -p: the time left" grep -q 'left' shown
    on_terminal "${convert[@]}" source.raw out.raw >shown
    it "on a terminal, short work: not a word" bash -c '! grep -q . shown'
    on_terminal "${convert[@]}" -r 2M source.raw out.raw >shown
    it "on a terminal, long work shows progress unasked" grep -q '/100%' shown
    on_terminal "${convert[@]}" -q -r 2M source.raw out.raw >shown
    it "on a terminal, -q: not a word" bash -c '! grep -q . shown'
    on_terminal "$PLATTER" convert -f raw source.raw - >shown
    it "a disk is not written to a terminal" grep -q 'terminal' shown
else
    skip "terminals: needs script(1)"
fi

"${convert[@]}" -r 4M source.raw out.raw 2>err </dev/null &
pid=$!
sleep 1
kill -USR1 "$pid"
wait "$pid"
it "SIGUSR1 asks for a line" grep -q '/100%' err
finish
