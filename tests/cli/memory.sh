#!/usr/bin/env bash
# Memory is bounded whatever the image's size: conversions of small, large and huge disks, checks,
# maps and comparisons peak below a limit that does not depend on them.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io python3 xz

LIMIT_MIB=96 GROUP_MIB=256

# Runs a command and prints the peak of its resident memory in MiB.
peak() { # COMMAND...
    python3 - "$@" <<'PYTHON'
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print((resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss + 1023) // 1024)
sys.exit(status)
PYTHON
}
stays_small() { # COMMAND...
    local mib
    mib=$(peak "$@" 2>run.err) || bad "failed: $(<run.err)"
    ((mib <= LIMIT_MIB)) || bad "$mib MiB, more than $LIMIT_MIB: $*"
    echo "- $mib MiB: ${*:2}"
}

# ---- the images ---------------------------------------------------------------------------------
# 1 GiB, half of it data; the noise is repeated so that making it is quick.
noise 16777216 >noise.16m
for ((i = 0; i < 32; i++)); do
    dd if=noise.16m of=big.raw bs=1M seek=$((i * 32)) conv=notrunc status=none
done
truncate -s 1G big.raw
"$PLATTER" convert -f raw -O qcow2 -c -o compression_type=zstd big.raw packed.qcow2 || exit 1
# 64 TiB with data in many places
qemu-img create -q -f qcow2 -o cluster_size=64k huge.qcow2 64T || exit 1
for ((i = 0; i < 300; i++)); do
    echo "write -P $((i % 255 + 1)) $((i * 234518167552)) 200k"
done | qemu-io -f qcow2 huge.qcow2 >io.out || exit 1

it "1 GiB: raw to qcow2" stays_small "$PLATTER" convert -f raw -O qcow2 big.raw out
it "1 GiB: raw to compressed qcow2" stays_small "$PLATTER" convert -c -f raw -O qcow2 big.raw out
it "1 GiB: clusters of 2 MiB, 16 workers" stays_small \
    "$PLATTER" convert -m 16 -c -f raw -O qcow2 -o cluster_size=2M big.raw out
it "1 GiB: clusters of 512 bytes" stays_small \
    "$PLATTER" convert -f raw -O qcow2 -o cluster_size=512 big.raw out512
it "1 GiB: from clusters of 512 bytes" stays_small "$PLATTER" convert -O raw out512 out
it "1 GiB: compressed to raw" stays_small "$PLATTER" convert -O raw packed.qcow2 out
it "1 GiB: compressed to a pipe" stays_small "$PLATTER" convert -O raw packed.qcow2 -
it "1 GiB: compressed to other clusters" stays_small \
    "$PLATTER" convert -c -O qcow2 -o cluster_size=4k packed.qcow2 out
it "1 GiB: comparing" stays_small "$PLATTER" compare packed.qcow2 out
it "1 GiB: checking clusters of 512 bytes" stays_small "$PLATTER" check out512
rm -f out out512
it "64 TiB: to qcow2" stays_small "$PLATTER" convert -O qcow2 huge.qcow2 out
it "64 TiB: the copy is the disk" stays_small "$PLATTER" compare huge.qcow2 out
it "64 TiB: checking" stays_small "$PLATTER" check huge.qcow2
it "64 TiB: mapping" stays_small "$PLATTER" map --output=json huge.qcow2
it "64 TiB: creating" stays_small "$PLATTER" create -f qcow2 new.qcow2 64T
it "64 TiB: measuring" stays_small "$PLATTER" measure -O qcow2 huge.qcow2
rm -f out new.qcow2

# ---- in a control group -------------------------------------------------------------------------
group=''
make_group() { # sets $group; its limit counts the page cache too, which must not get it killed
    local base=/sys/fs/cgroup/memory limit=memory.limit_in_bytes
    if [[ ! -d $base ]]; then
        base=/sys/fs/cgroup limit=memory.max
        grep -qw memory $base/cgroup.subtree_control 2>/dev/null || return
    fi
    group=$base/platter-test.$$
    mkdir "$group" 2>/dev/null || { group=''; return 1; }
    echo $((GROUP_MIB << 20)) 2>/dev/null >"$group/$limit"
}
leave_group() { [[ ! $group ]] || rmdir "$group" 2>/dev/null; }
trap leave_group EXIT
in_group() { # COMMAND...
    # shellcheck disable=SC2016 # for the inner shell
    LIMIT_SECONDS=120 must bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' - "$group" "$@"
}
if make_group; then
    it "in $GROUP_MIB MiB: raw to qcow2" in_group "$PLATTER" convert -f raw -O qcow2 big.raw out
    it "in $GROUP_MIB MiB: compressing" in_group "$PLATTER" convert -c -f raw -O qcow2 big.raw out
    it "in $GROUP_MIB MiB: unpacking" in_group "$PLATTER" convert -O raw packed.qcow2 out
    it "in $GROUP_MIB MiB: raw to raw" in_group "$PLATTER" convert -f raw -O raw big.raw out
    it "in $GROUP_MIB MiB: a disk of 64 TiB" in_group "$PLATTER" convert -O qcow2 huge.qcow2 out
else
    skip "no control group with a memory limit can be made" 5
fi
finish
