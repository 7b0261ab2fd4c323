#!/usr/bin/env bash
# What `make install` puts in place is complete and works on its own: the header compiles alone, the
# shared library exports what the header declares and nothing else, the examples build with
# pkg-config and run, `make uninstall` leaves nothing behind.
#
# An example says in its first comment how it is called: "usage: NAME IMAGE OUT"; here IMAGE becomes
# a qcow2 image, RAW a raw one and OUT a new file.
set -u
[[ -d $O/stage ]] || { echo "nothing is staged: run make check or make test"; exit 77; }
! grep -q fsanitize "$O/flags" || { echo "the build has sanitizers"; exit 77; }
cp -r "$O/stage" stage
usr=$PWD/stage/usr lib=$PWD/stage/usr/lib
export PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$PWD/stage
passed=0 failed=0 skipped=0

try() { # SENTENCE COMMAND...
    local sentence=$1
    shift
    if "$@"; then
        passed=$((passed + 1)) && echo "- $sentence"
    else
        failed=$((failed + 1)) && echo "FAILED: $sentence"
    fi
}

installed_files() {
    local f missing=0
    for f in bin/platter include/platter.h lib/libplatter.a lib/libplatter.so lib/libplatter.so.0 \
        lib/pkgconfig/platter.pc; do
        [[ -s $usr/$f ]] || { echo "$f is missing"; missing=1; }
    done
    return "$missing"
}
header_is_c() {
    echo '#include <platter.h>' | cc -std=c11 -Wall -Wextra -Werror -I"$usr/include" -xc -fsyntax-only -
}
header_is_cxx() {
    echo '#include <platter.h>' | "$cxx" -Wall -Wextra -Werror -I"$usr/include" -xc++ -fsyntax-only -
}
soname() { readelf -d "$lib/libplatter.so" | grep -q 'SONAME.*\[libplatter\.so\.0\]'; }
exports() {
    nm -D --defined-only "$lib/libplatter.so" | awk '{ print $3 }' | LC_ALL=C sort >exported
    # Each declaration that begins with PL_API: the word before its first parenthesis.
    tr '\n' ' ' <"$usr/include/platter.h" | grep -oP '\bPL_API\b\s+[^;(]*?\bpl_\w+(?=\s*[(;\[])' |
        grep -oP 'pl_\w+$' | LC_ALL=C sort -u >declared
    diff declared exported
}
runs_alone() { env -u LD_LIBRARY_PATH "$usr/bin/platter" --help >/dev/null; }
build_example() { # FILE NAME
    # shellcheck disable=SC2046 # words
    cc -std=gnu17 -Wall -Wextra -Werror -o "$2" "$1" $(pkg-config --cflags --libs platter)
}
build_static() { # FILE NAME
    # shellcheck disable=SC2046 # words
    cc -std=gnu17 -I"$usr/include" -o "$2-static" "$1" "$lib/libplatter.a" -pthread \
        $(env -u PKG_CONFIG_SYSROOT_DIR pkg-config --libs libdeflate zlib libzstd libcrypto uuid \
            jansson libxml-2.0 libarchive)
}
run_example() { # FILE NAME
    local words
    rm -f raw.img image.qcow2 out
    printf 'some bytes' >raw.img && truncate -s 1M raw.img
    "$PLATTER" convert -f raw -O qcow2 raw.img image.qcow2 || return 1
    read -r -a words < <(sed -n 's/.*[Uu]sage: *[^ ]* *//p; T; q' "$1" | sed 's/[^A-Z ].*//')
    words=("${words[@]/%IMAGE/image.qcow2}")
    words=("${words[@]/%RAW/raw.img}")
    words=("${words[@]/%OUT/out}")
    LD_LIBRARY_PATH=$lib "./$2" "${words[@]}"
}
uninstall() {
    make -s -C "$SRCDIR" O="$O" DESTDIR="$PWD/stage" PREFIX=/usr BINDIR=/usr/bin LIBDIR=/usr/lib \
        INCLUDEDIR=/usr/include MANDIR=/usr/share/man uninstall >/dev/null
    [[ -z $(find stage ! -type d) ]] || { find stage ! -type d; return 1; }
}

try "program, header, libraries and platter.pc are installed" installed_files
try "the header compiles alone as strict C11" header_is_c
if cxx=$(command -v g++ || command -v clang++); then
    try "the header compiles alone as C++" header_is_cxx
else
    echo "skip: no C++ compiler" && skipped=$((skipped + 1))
fi
try "the soname is libplatter.so.0" soname
try "the library exports what the header declares and nothing else" exports
try "the installed program runs" runs_alone
for source in "$SRCDIR"/examples/*.c; do
    [[ -f $source ]] || { echo "skip: no examples"; skipped=$((skipped + 1)); break; }
    name=$(basename "$source" .c)
    try "example $name builds with pkg-config" build_example "$source" "$name"
    try "example $name links with the static library" build_static "$source" "$name"
    try "example $name runs" run_example "$source" "$name"
done
try "uninstall leaves nothing behind" uninstall
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
