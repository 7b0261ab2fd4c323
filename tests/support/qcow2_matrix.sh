# shellcheck shell=bash
# qcow2_matrix.sh - kinds of qcow2 images that cover every pair of features at least once, and how
# qemu-img makes each of them.  Needs cli.sh.
#
# A kind is one line of MATRIX; matrix_row sets the variables that the heading names.  `size` is the
# virtual size, `backing` the format of the backing file and whether it is shorter or longer.

# size  cluster refcount_bits compat codec extended_l2 preallocation lazy_refcounts data_file backing
# shellcheck disable=SC2034 # for the scripts that use this file
MATRIX='
3145728 64k  8  1.1  zlib off off      on  none qcow2-short
3145728 64k  64 1.1  none on  metadata on  raw  none
3145728 512  16 0.10 zlib off off      off none raw-long
3145728 1k   32 1.1  zstd off off      off none qcow2-long
3145728 4k   4  1.1  none off off      on  file raw-short
3145728 16k  1  1.1  none on  falloc   on  none raw-short
3145728 16k  2  1.1  zstd off off      on  none raw-short
3145728 2M   16 1.1  none on  full     off file qcow2-short
3145728 2M   16 0.10 none off off      off none qcow2-short
4194816 64k  32 1.1  none on  full     off file raw-short
4194816 512  8  1.1  zlib off off      on  none raw-short
4194816 512  32 1.1  none off metadata off raw  none
4194816 1k   1  1.1  zlib off off      on  none qcow2-short
4194816 1k   4  1.1  zlib off off      on  none raw-long
4194816 4k   16 0.10 none off falloc   off none none
4194816 4k   64 1.1  zlib off off      on  none qcow2-short
4194816 16k  2  1.1  none on  metadata off file qcow2-long
4194816 2M   64 1.1  zstd on  off      on  none raw-short
1000448 64k  16 0.10 zlib off off      off none raw-short
1000448 512  4  1.1  zstd off off      on  none qcow2-short
1000448 1k   8  1.1  zstd off off      off none raw-short
1000448 4k   1  1.1  none off full     on  raw  none
1000448 4k   2  1.1  none off off      off raw  none
1000448 16k  64 1.1  none on  falloc   off file qcow2-long
1000448 2M   1  1.1  none on  metadata off file raw-long
1000448 2M   32 1.1  none on  falloc   on  file qcow2-short
66048   64k  2  1.1  none on  metadata on  file qcow2-short
66048   512  1  1.1  zstd off off      on  none qcow2-long
66048   512  64 1.1  zstd off off      on  none raw-long
66048   1k   64 1.1  none off full     off raw  none
66048   4k   16 0.10 zlib off off      off none qcow2-long
66048   16k  4  1.1  none on  metadata off file raw-short
66048   16k  8  1.1  none on  metadata off file none
66048   16k  32 1.1  zlib off off      on  none qcow2-short
66048   2M   4  1.1  none off falloc   on  raw  none
512     64k  16 1.1  zstd on  off      off none none
512     64k  1  1.1  none on  falloc   off none raw-long
512     512  2  1.1  none off full     off file none
512     1k   2  1.1  none off falloc   on  file none
512     4k   4  1.1  none off off      off file none
512     4k   64 1.1  zlib off off      off none qcow2-long
512     16k  16 1.1  none off metadata on  raw  none
512     16k  16 0.10 none off full     off none none
512     2M   8  1.1  none on  full     on  none qcow2-long
512     2M   32 1.1  zstd on  off      off none raw-long
0       64k  2  1.1  zlib off off      off none raw-long
0       64k  4  1.1  none off off      on  none qcow2-long
0       64k  64 1.1  none off falloc   off none none
0       512  1  1.1  zstd off off      off none qcow2-long
0       512  8  1.1  none off falloc   off raw  none
0       1k   16 0.10 none off metadata off none none
0       4k   8  1.1  zstd off off      on  none raw-long
0       4k   32 1.1  none off metadata on  file none
0       16k  4  1.1  none on  full     off file raw-long
0       2M   2  1.1  zlib on  off      off none none'

# Reads a line of MATRIX.  Sets besides: $kind (its name), $cluster_bytes, $backing_format and
# $backing_size (empty without one).
# shellcheck disable=SC2034 # for the scripts that use this file
matrix_row() { # LINE
    read -r size cluster refcount_bits compat codec extended_l2 preallocation lazy_refcounts \
        data_file backing <<<"$1"
    kind="$size bytes, cluster $cluster, refcount $refcount_bits, v$compat, codec $codec"
    kind+=", l2 $extended_l2, prealloc $preallocation, lazy $lazy_refcounts"
    kind+=", data file $data_file, backing $backing"
    cluster_bytes=$(numfmt --from=iec "${cluster^^}")
    backing_format='' backing_size=''
    [[ $backing != none ]] || return 0
    backing_format=${backing%-*}
    backing_size=$((size + 1000448))
    [[ $backing != *-short ]] || backing_size=$((size / 2 / 512 * 512))
}

# What -o says for the row.
matrix_options() { # DATA_FILE
    local o=cluster_size=$cluster_bytes,compat=$compat,preallocation=$preallocation
    if [[ $compat == 1.1 ]]; then
        o+=,refcount_bits=$refcount_bits,extended_l2=$extended_l2,lazy_refcounts=$lazy_refcounts
    fi
    [[ $codec == none || $compat != 1.1 ]] || o+=,compression_type=$codec
    case $data_file in
    file) o+=,data_file=$1 ;;
    raw) o+=,data_file=$1,data_file_raw=on ;;
    esac
    echo "$o"
}

matrix_backing() { # FILE: makes the backing file of the row
    [[ $backing_format ]] || return 0
    make_content backing.raw "$backing_size" 5
    qemu-img convert -f raw -O "$backing_format" backing.raw "$1"
}

# A row's image as qemu-img makes it, empty.
matrix_create() { # IMAGE BACKING_FILE
    local -a parent=()
    [[ ! $backing_format ]] || parent=(-b "$2" -F "$backing_format")
    qemu-img create -q -f qcow2 -o "$(matrix_options "$1.data")" "${parent[@]}" "$1" "$size"
}

# Puts "qemu-io COMMAND" with a range cut to the disk on the list `io`; nothing if it is outside.
io=()
io_add() { # OFFSET LENGTH COMMAND
    local at=$1 len=$2
    ((at < size)) || return 0
    ((at + len <= size)) || len=$((size - at))
    io+=(-c "$3 $at $len")
}
io_run() { # IMAGE
    local -a commands=("${io[@]}")
    io=()
    ((${#commands[@]} == 0)) || qemu-io -f qcow2 -d unmap "${commands[@]}" "$1" >io.out 2>&1 ||
        { cat io.out; return 1; }
    ! grep -qiE 'failed|error' io.out 2>/dev/null || { cat io.out; return 1; }
}

# Writes of every sort: whole and partial clusters, zeros, discards, compressed clusters.
matrix_fill() { # IMAGE
    local unused=$(((524288 + cluster_bytes - 1) / cluster_bytes * cluster_bytes))
    [[ -f pattern.noise ]] || noise 70000 >pattern.noise
    [[ -f pattern.text ]] || seq 9000 | head -c 50000 >pattern.text
    io_add 0 512 'write -s pattern.noise'
    io_add 1536 2560 'write -s pattern.text'
    io_add $((cluster_bytes * 2)) $((cluster_bytes * 3)) 'write -s pattern.noise'
    io_add 66560 210432 'write -s pattern.text'
    io_add 100352 66048 'write -z'
    io_add 204800 51200 discard
    io_add 307200 131072 'write -z -u'
    io_add 65536 512 'write -P 0x5a'
    if [[ $codec != none ]]; then
        io_add "$unused" "$cluster_bytes" 'write -c -s pattern.text'
        ((cluster_bytes == unused)) ||
            io_add $((unused + cluster_bytes)) "$cluster_bytes" 'write -c -s pattern.noise'
    fi
    io_add $((size - size % cluster_bytes)) "$cluster_bytes" 'write -s pattern.text'
    io_run "$1"
}

# What came after a snapshot: writes over clusters that it shares.
matrix_change() { # IMAGE
    local unused=$(((524288 + cluster_bytes - 1) / cluster_bytes * cluster_bytes))
    io_add 67072 4608 'write -P 0x77'
    io_add $((cluster_bytes * 2 + 512)) 512 'write -P 0x78'
    io_add 0 512 'write -z'
    [[ $codec == none ]] ||
        io_add $((unused + cluster_bytes * 2)) "$cluster_bytes" 'write -c -s pattern.text'
    io_add 786432 66048 'write -s pattern.text'
    io_add 131072 131072 'write -z -u'
    io_run "$1"
}

# Whether qemu-img can take an internal snapshot of the row's image.  A cluster that holds several
# compressed ones has as many references, which 2 bits cannot double.
matrix_has_snapshots() {
    [[ $data_file == none ]] || return
    [[ $codec == none ]] && ((refcount_bits >= 2)) || ((refcount_bits >= 4))
}

matrix_clean() { rm -f -- *.qcow2 *.data *.raw back; }
