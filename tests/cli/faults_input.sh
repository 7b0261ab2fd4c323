#!/usr/bin/env bash
# Inputs that are not as they should be: missing, no file at all, cut short, unreadable in the
# middle, in use by somebody else, chains that go round or too deep, names that lead elsewhere.
# Each is one clear error, or read as well as can be where that was asked for.
# shellcheck disable=SC2154 # run sets $status
set -u
# shellcheck source=tests/support/cli.sh
. "$SRCDIR/tests/support/cli.sh"
needs qemu-img qemu-io xz

make_content disk.raw 4194304
noise 65536 | dd of=disk.raw bs=64K seek=16 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
qemu-img convert -c -f raw -O qcow2 disk.raw packed.qcow2

# ---- what is no image ---------------------------------------------------------------------------
it "a missing input is named" refused 'nothing\.here.*no such file' \
    "$PLATTER" convert -O raw nothing.here out
it "a folder is no image" refused 'folder|directory' "$PLATTER" info .
it "a device without blocks is no image" refused 'neither a file nor a block device' \
    "$PLATTER" info /dev/zero
it "an unknown format is named" refused 'qcow9' "$PLATTER" info -f qcow9 disk.qcow2
it "a wrong format is said to be wrong" refused 'not a qcow2 file' "$PLATTER" info -f qcow2 disk.raw

from_fifo() {
    mkfifo fifo
    { cat disk.raw >fifo; } 2>/dev/null &
    LIMIT_SECONDS=10 refused 'pipe' "$PLATTER" convert -f raw -O raw fifo out
    { kill $! && wait $!; } 2>/dev/null
    rm -f fifo
}
it "a named pipe is refused as input" from_fifo

# ---- cut short ----------------------------------------------------------------------------------
cut_short() { # IMAGE BYTES: the guest cannot be read as it was
    head -c "$2" "$1" >cut.qcow2
    run "$PLATTER_ASAN" convert -f qcow2 -O raw cut.qcow2 out.raw
    if ((status == 0)); then
        cmp -s disk.raw out.raw || bad "$1 cut to $2 bytes: other content without an error"
    else
        ((status == 1)) && grep -q '^platter: ' run.err || bad "status $status: $(<run.err)"
        [[ ! -e out.raw ]] || bad "a target was left behind"
    fi
    rm -f out.raw
    run "$PLATTER_ASAN" info -f qcow2 cut.qcow2
    ((status <= 1)) || bad "info: status $status"
    run "$PLATTER_ASAN" check -f qcow2 cut.qcow2
    ((status <= 3)) || bad "check: status $status"
    run "$PLATTER_ASAN" check -f qcow2 -r all cut.qcow2
    ((status <= 3)) || bad "check -r all: status $status"
}
cut_everywhere() { # IMAGE
    local at
    for at in 1 4 7 8 20 71 72 103 104 105 111 112 120 511 512 513 65535 65536 65544 131071 \
        131072 196608 262143 262144 262152 327680 $(($(stat -c %s "$1") - 70000)); do
        cut_short "$1" "$at"
    done
}
it "an image that ends early" cut_everywhere disk.qcow2
it "a compressed image that ends early" cut_everywhere packed.qcow2
is_empty() {
    : >empty.raw
    must "$PLATTER" convert -f raw -O qcow2 empty.raw empty.qcow2 && qemu-img check -q empty.qcow2
}
it "an empty file is an empty raw disk" is_empty

# ---- unreadable in the middle -------------------------------------------------------------------
# Fails every read of a file that ends in .bad and whose range meets [FAIL_AT, FAIL_AT + 4096).
make_shim() {
    cat >shim.c <<'SHIM'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
static int meets(int fd, off_t at, size_t len)
{
    char link[64], path[4096];
    const off_t bad = atoll(getenv("FAIL_AT"));
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path);
    if (n < 4 || strncmp(path + n - 4, ".bad", 4))
        return 0;
    return at < bad + 4096 && (off_t)(at + len) > bad;
}
static size_t total(const struct iovec *v, int n)
{
    size_t len = 0;
    while (n-- > 0)
        len += v[n].iov_len;
    return len;
}
#define FAIL_IF(condition) if (condition) { errno = EIO; return -1; }
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
ssize_t pread64(int fd, void *buf, size_t len, off64_t at)
{ FAIL_IF(meets(fd, at, len)) return NEXT(pread64)(fd, buf, len, at); }
ssize_t pread(int fd, void *buf, size_t len, off_t at) { return pread64(fd, buf, len, at); }
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t at, size_t room)
{ (void)room; return pread64(fd, buf, len, at); }
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t room)
{ (void)room; return pread64(fd, buf, len, at); }
ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t at)
{ FAIL_IF(meets(fd, at, total(v, n))) return NEXT(preadv64)(fd, v, n, at); }
ssize_t preadv(int fd, const struct iovec *v, int n, off_t at) { return preadv64(fd, v, n, at); }
ssize_t copy_file_range(int in, off64_t *at, int out, off64_t *to, size_t len, unsigned flags)
{ FAIL_IF(at && meets(in, *at, len)) return NEXT(copy_file_range)(in, at, out, to, len, flags); }
int ioctl(int fd, unsigned long request, ...)
{
    va_list more;
    va_start(more, request);
    void *arg = va_arg(more, void *);
    va_end(more);
    if (request == 0x4020940d || request == 0x40049409) { errno = EOPNOTSUPP; return -1; } /* FICLONE* */
    return NEXT(ioctl)(fd, request, arg);
}
SHIM
    "${CC:-cc}" -shared -fPIC -o shim.so shim.c -ldl 2>shim.err
}
fails_there() { # FILE OFFSET OPTION...
    refused "${1//./\\.}.*(input/output error)" env FAIL_AT="$2" LD_PRELOAD="$PWD/shim.so" \
        "$PLATTER" convert "${@:3}" "$1" out.raw
    [[ ! -e out.raw ]] || bad "a target was left behind"
}
salvages() { # FILE OFFSET OPTION...: there are zeros at 1 MiB instead, all else is whole
    local file=$1 at=$2
    must env FAIL_AT="$at" LD_PRELOAD="$PWD/shim.so" "$PLATTER" convert --salvage "${@:3}" \
        "$file" out.raw || return
    grep -q 'warning: .*cannot be read' run.err || bad "no warning: $(<run.err)"
    cp disk.raw wanted.raw
    dd if=/dev/zero of=wanted.raw bs=4096 seek=256 count=1 conv=notrunc status=none
    same_content wanted.raw out.raw
    rm -f out.raw
}
if ! command -v "${CC:-cc}" >/dev/null; then
    skip "no compiler for a library that makes reads fail" 4
elif ! make_shim || [[ $(env FAIL_AT=0 LD_PRELOAD="$PWD/shim.so" "$PLATTER" --version 2>&1) != platter* ]]; then
    skip "a library that makes reads fail cannot be loaded: $(head -n 1 shim.err)" 4
else
    cp disk.raw disk.bad
    cp disk.qcow2 image.bad
    # where the data of guest address 1 MiB is
    spot=$(qemu-img map --output=json -s 1M -l 64k disk.qcow2 | sed -n 's/.*"offset": \([0-9]*\).*/\1/p' |
        head -n 1)
    it "a read error of a raw file names the place" fails_there disk.bad 1048576 -f raw -O raw
    it "a read error of an image names the place" fails_there image.bad "$spot" -f qcow2 -O raw
    it "--salvage reads what can be read of a raw file" salvages disk.bad 1048576 -f raw -O raw
    it "--salvage reads what can be read of an image" salvages image.bad "$spot" -f qcow2 -O raw
fi

# ---- chains -------------------------------------------------------------------------------------
goes_round() {
    qemu-img create -q -f qcow2 a.qcow2 1M
    qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
    qemu-img rebase -u -f qcow2 -b b.qcow2 -F qcow2 a.qcow2
    LIMIT_SECONDS=5 refused 'already in the chain' "$PLATTER" convert -O raw a.qcow2 out
    LIMIT_SECONDS=5 refused 'already in the chain' "$PLATTER" info --backing-chain b.qcow2
    must "$PLATTER" info a.qcow2
}
is_deep() {
    local i
    mkdir deep
    "$PLATTER" create -q -f qcow2 -o cluster_size=512 deep/0 1M
    for ((i = 1; i <= 205; i++)); do
        "$PLATTER" create -q -u -f qcow2 -o cluster_size=512 -b $((i - 1)) -F qcow2 deep/$i 1M || return
    done
    must "$PLATTER" convert -O raw deep/190 out.raw
    LIMIT_SECONDS=5 refused 'deeper than 200' "$PLATTER" convert -O raw deep/205 out
}
it "a chain that comes back to itself is refused" goes_round
it "a chain of more than 200 images is refused" is_deep

leads_elsewhere() { # what an image names is opened beside it or where the user allows
    mkdir -p inside outside
    cp disk.qcow2 outside/base
    (cd inside && qemu-img create -q -f qcow2 -b "$PWD/../outside/base" -F qcow2 absolute.qcow2 &&
        qemu-img create -q -f qcow2 -b ../outside/base -F qcow2 relative.qcow2 &&
        ln -s ../outside/base link && qemu-img create -q -f qcow2 -b link -F qcow2 linked.qcow2)
    local image
    for image in absolute relative linked; do
        refused 'outside its folder' "$PLATTER" convert -O raw inside/$image.qcow2 out
        grep -q -- '--allow-dir' run.err || bad "no hint of --allow-dir: $(<run.err)"
        must "$PLATTER" convert --allow-dir outside -O raw inside/$image.qcow2 out.raw &&
            same_content disk.raw out.raw
        must "$PLATTER" info inside/$image.qcow2
    done
}
it "a backing file elsewhere needs --allow-dir" leads_elsewhere

missing_backing() {
    qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 orphan.qcow2 1M
    refused 'gone\.qcow2.*no such file' "$PLATTER" convert -O raw orphan.qcow2 out
    must "$PLATTER" info orphan.qcow2
}
it "a missing backing file is named" missing_backing

# ---- in use -------------------------------------------------------------------------------------
in_use() {
    cp disk.qcow2 used.qcow2
    coproc qemu-io -f qcow2 used.qcow2 >io.out 2>&1
    local pid=$COPROC_PID to=${COPROC[1]} i
    echo 'read 0 512' >&"$to"
    for ((i = 0; i < 50; i++)); do
        grep -q 'read 512' io.out && break
        sleep 0.1
    done
    refused "process $pid|pid $pid|\\($pid\\)|\\b$pid\\b" "$PLATTER" convert -O raw used.qcow2 out
    refused "\\b$pid\\b" "$PLATTER" resize used.qcow2 8M
    refused "\\b$pid\\b" "$PLATTER" check -r all used.qcow2
    refused "\\b$pid\\b" "$PLATTER" convert -f raw -O qcow2 disk.raw used.qcow2
    refused "\\b$pid\\b" "$PLATTER" convert -n -f raw -O qcow2 disk.raw used.qcow2
    must "$PLATTER" info -U used.qcow2
    must "$PLATTER" convert -U -O raw used.qcow2 out.raw && same_content disk.raw out.raw
    must "$PLATTER" compare -U used.qcow2 disk.qcow2
    echo quit >&"$to"
    wait "$pid" 2>/dev/null
    must "$PLATTER" convert -O raw used.qcow2 out.raw
    same_content used.qcow2 disk.qcow2
}
it "an image that a virtual machine writes is refused with its process, -U reads it" in_use

# ---- standard input -----------------------------------------------------------------------------
from_stdin() {
    rm -f out.raw
    cat disk.qcow2 | "$PLATTER" convert -O raw - out.raw || bad "a pipe of qcow2: status $?"
    same_content disk.raw out.raw
    "$PLATTER" convert -O raw - out.raw <packed.qcow2 || bad "a file of qcow2: status $?"
    same_content disk.raw out.raw
    cat disk.raw | "$PLATTER" convert -f raw -O qcow2 - out.qcow2 || bad "a pipe of raw: status $?"
    qemu-img compare -q -f raw -F qcow2 disk.raw out.qcow2 || bad "another disk"
}
it "standard input is read, pipe or file" from_stdin
finish
