# What a signal in the middle of a conversion leaves behind: nothing under the final name.
. "$SRCDIR/tests/cli/support/testing.bash"
env --default-signal=INT true 2>/dev/null || { echo "needs env --default-signal"; exit 77; }

head -c 8M /dev/urandom >source.raw
slow=(-r 1M -f raw -O raw) # eight seconds

# start ARGUMENT...: a conversion in the background; a shell would have it ignore SIGINT.
start() {
    env --default-signal=INT,TERM,HUP "$PLATTER" convert "$@" 2>err &
    pid=$!
    sleep 0.7
}
# stop SIGNAL: how long it takes until it is gone, in $took; its status in $status.
stop() {
    local begin
    begin=$(date +%s%N)
    kill "-$1" "$pid"
    wait "$pid" 2>/dev/null
    status=$?
    took=$((($(date +%s%N) - begin) / 1000000))
}
folder_holds() {
    is "$*" "$(ls -A out | tr '\n' ' ' | sed 's/ $//')"
}

for signal in INT TERM HUP; do
    mkdir -p out
    start "${slow[@]}" source.raw out/target.raw
    it "$signal: the name does not exist while it runs" test ! -e out/target.raw
    stop "$signal"
    it "$signal: status 1" is 1 "$status"
    it "$signal: it stops within two seconds" test "$took" -lt 2000
    it "$signal: the folder is empty" folder_holds
    rm -rf out
done
mkdir -p out
start "${slow[@]}" source.raw out/target.raw
stop INT
it "SIGINT: the message" is "platter: interrupted" "$(<err)"
start "${slow[@]}" --output=json source.raw out/target.raw
stop TERM
it "SIGTERM: the kind in JSON" says "$(<err)" '"kind":"cancelled"'

start "${slow[@]}" source.raw out/target.raw
stop KILL
it "KILL: nothing under the final name" test ! -e out/target.raw
rm -rf out/* out/.[!.]*

echo precious >out/target.raw
for signal in INT KILL; do
    start "${slow[@]}" source.raw out/target.raw
    stop "$signal"
    it "$signal: an older file is as it was" is precious "$(<out/target.raw)"
done
rm -rf out/* out/.[!.]*

mkfifo pipe
sleep 30 >pipe &
writer=$!
env --default-signal=INT "$PLATTER" convert - out/target.raw <pipe 2>err &
pid=$!
sleep 0.5
stop INT
kill "$writer" 2>/dev/null
it "waiting for a pipe: it ends all the same" test "$took" -lt 5000
it "waiting for a pipe: it fails" test "$status" -ne 0
it "waiting for a pipe: nothing is left" folder_holds

nohup_convert() {
    (trap '' HUP; exec "$PLATTER" convert -r 4M -f raw -O raw source.raw out/kept.raw) &
    pid=$!
    sleep 0.5
    kill -HUP "$pid"
    wait "$pid"
}
it "an ignored signal stays ignored" nohup_convert
it "and the copy is complete" cmp source.raw out/kept.raw
rm -f out/kept.raw

if knows qcow2; then
    start -O qcow2 -c -r 1M -f raw source.raw out/target.qcow2
    stop INT
    it "compressing: status 1" is 1 "$status"
    it "compressing: the folder is empty" folder_holds
else
    skip "compressing: qcow2 is not built in"
fi

too_big() {
    (ulimit -f 64; "$PLATTER" convert -f raw -O raw source.raw out/target.raw)
}
ask too_big
it "a file size limit is an error, not the end by a signal" is 1 "$status"
it "a file size limit: nothing is left" folder_holds
finish
