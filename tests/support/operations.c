/* operations.c - the table of operations that are interrupted; see operation.h, and trial.c for
 * what setting up may use. */
#include "tests/support/operation.h"

#include "core/base/checked.h"

#define DISK                                                                                       \
    {                                                                                              \
        .path = "disk.img"                                                                         \
    }
#define BASE                                                                                       \
    {                                                                                              \
        .path = "base.img", .rule = VIEW_SAME                                                      \
    }

#define SAME_DISK                                                                                  \
    {                                                                                              \
        .path = "disk.img", .rule = VIEW_SAME                                                      \
    }

#define INSIDE(name_, rule_)                                                                       \
    {                                                                                              \
        .path = "disk.img", .snapshot = name_, .rule = rule_                                       \
    }
#define BESIDE(name_, rule_)                                                                       \
    {                                                                                              \
        .path = "disk.snapshot-" name_ ".img", .rule = rule_, .aside = true                        \
    }

#define SPARSE                                                                                     \
    "qcow2 qcow2:cluster_size=4k qcow2:compat=0.10,cluster_size=512 "                              \
    "qcow2:extended_l2=on,cluster_size=16k vmdk vdi:block_size=64k "                               \
    "vhd:block_size=512k vhdx:block_size=1M"
#define SHRINKABLE                                                                                 \
    "qcow2 qcow2:cluster_size=4k qcow2:compat=0.10,cluster_size=512 "                              \
    "qcow2:extended_l2=on,cluster_size=16k vdi:block_size=64k vdi:static=on "                      \
    "vhd:block_size=512k vhd:subformat=fixed vhdx:block_size=1M raw"
#define FLAT "raw vmdk:subformat=monolithicFlat vdi:static=on vhd:subformat=fixed"
#define OVERLAYS "qcow2 vmdk vdi:block_size=64k vhd:block_size=512k vhdx:block_size=1M"

/* Data, zeros of both kinds, and room that was never written to; the base under it is full. */
#define FILLED "guest disk.img noise:1:0:900K null:200K:300K zero:700K:100K noise:2:1500K:70K\n"
#define COMPACTABLE "guest disk.img noise:1:0:2M null:0:1900K\n"
#define OVERLAY                                                                                    \
    "new base.img 2M\n"                                                                            \
    "guest base.img noise:7:0:2M\n"                                                                \
    "p create -q -f $F $WITH -b base.img -F $F disk.img\n"
/* With one more in between. */
#define OVERLAY3                                                                                   \
    "new base.img 2M; guest base.img noise:7:0:2M\n"                                               \
    "p create -q -f $F $WITH -b base.img -F $F middle.img; guest middle.img noise:8:100K:300K\n"   \
    "p create -q -f $F $WITH -b middle.img -F $F disk.img\n"
/* States of a disk: s1, s2 over it where there are two, the disk over the last. */
#define STATE1 "new disk.img 2M\n" FILLED "p snapshot -q -f $F $MORE create disk.img s1\n"
#define STATE2                                                                                     \
    STATE1 "guest disk.img noise:3:300K:500K zero:1M:200K\n"                                       \
           "p snapshot -q -f $F $MORE create disk.img s2\n"
#define CHANGED "guest disk.img noise:4:100K:300K noise:5:1700K:300K discard:512K:512K\n"
/* Two over one state. */
#define FORK STATE2 "p snapshot -q -f $F rollback disk.img s1\n" CHANGED
#define QCOW2                                                                                      \
    "qcow2 qcow2:cluster_size=4k qcow2:extended_l2=on,cluster_size=16k "                           \
    "qcow2:compat=0.10,cluster_size=512"
#define CHILDREN "vmdk vdi:block_size=64k vhd:block_size=512k vhdx:block_size=1M"
#define CHILDREN_OR_RAW CHILDREN " vmdk:subformat=monolithicFlat raw"

const struct operation operations[] = {
    { .name = "create",
      .formats = SPARSE " " FLAT,
      .setup = "",
      .command = "create -q -f $F $WITH disk.img 2M",
      .views = { DISK },
      .new_disk = true },
    { .name = "create, over an older disk", /* several files cannot be replaced at once */
      .formats = SPARSE " raw vdi:static=on vhd:subformat=fixed",
      .setup = "new disk.img 2M\n" FILLED,
      .command = "create -q -f $F $WITH disk.img 3M",
      .views = { DISK },
      .new_disk = true },
    { .name = "create, an overlay",
      .formats = OVERLAYS,
      .setup = "new base.img 2M; guest base.img noise:7:0:2M",
      .command = "create -q -f $F $WITH -b base.img -F $F disk.img",
      .views = { DISK, BASE },
      .new_disk = true },
    { .name = "a guest's writes",
      .formats = SPARSE " " FLAT,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "guest disk.img noise:3:100K:20K flush noise:4:600K:200K noise:5:1M:5K flush "
                 "zero:0:70K discard:256K:256K flush noise:6:80K:1K noise:7:1900K:100K",
      .views = { { .path = "disk.img", .rule = VIEW_SECTORS } } },
    { .name = "a guest's writes to an overlay",
      .formats = OVERLAYS,
      .setup = OVERLAY,
      .command = "guest disk.img noise:3:100K:20K flush noise:4:600K:200K noise:5:1M:5K flush "
                 "zero:0:70K discard:256K:256K flush noise:6:80K:1K noise:7:1900K:100K",
      .views = { { .path = "disk.img", .rule = VIEW_SECTORS }, BASE } },
    { .name = "resize, larger",
      .formats = SPARSE " " FLAT,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "resize -q -f $F disk.img 3M",
      .views = { DISK } },
    { .name = "resize, much larger",
      .formats = SPARSE " " FLAT,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "resize -q -f $F disk.img 200M",
      .views = { DISK } },
    { .name = "resize, larger, with room made ahead",
      .formats = "qcow2 qcow2:cluster_size=4k " FLAT,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "resize -q --preallocation=falloc -f $F disk.img 3M",
      .views = { DISK } },
    { .name = "resize, smaller",
      .formats = SHRINKABLE,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "resize -q --shrink -f $F disk.img 1M",
      .views = { DISK } },
    { .name = "resize, an overlay past its base",
      .formats = OVERLAYS,
      .setup = OVERLAY,
      .command = "resize -q -f $F disk.img 3M",
      .views = { DISK, BASE } },
    { .name = "resize, by further files",
      .formats = "vmdk:subformat=twoGbMaxExtentSparse vmdk:subformat=twoGbMaxExtentFlat",
      .clear_up = "for file in disk-?0*; do grep -q $file disk.vmdk || rm $file; done",
      .setup = "new disk.vmdk 1G; guest disk.vmdk noise:1:0:300K noise:2:1023M:1M",
      .command = "resize -q -f $F disk.vmdk 5G",
      .views = { { .path = "disk.vmdk" } } },
    { .name = "compact",
      .formats = SPARSE,
      .setup = "new disk.img 2M\n" COMPACTABLE,
      .command = "compact -q -f $F disk.img",
      .views = { SAME_DISK } },
    { .name = "compact, an overlay",
      .formats = "qcow2 vmdk vdi:block_size=64k vhdx:block_size=1M", /* VHD has no zeros */
      .setup = OVERLAY COMPACTABLE,
      .command = "compact -q -f $F disk.img",
      .views = { SAME_DISK, BASE } },
    { .name = "convert, to a new file",
      .formats = SPARSE " " FLAT,
      .setup = "new source.img 2M; guest source.img noise:3:500K:600K",
      .command = "convert -f $F -O $F $WITH source.img disk.img",
      .views = { DISK, { .path = "source.img", .rule = VIEW_SAME } },
      .new_disk = true },
    { .name = "convert, onto a disk",
      .formats = SPARSE " " FLAT,
      .setup = "new source.img 2M; guest source.img noise:3:500K:600K\n"
               "new disk.img 2M\n" FILLED,
      .command = "convert -n -f $F -O $F source.img disk.img",
      .views = { { .path = "disk.img", .rule = VIEW_SECTORS },
                 { .path = "source.img", .rule = VIEW_SAME } } },
    { .name = "commit",
      .formats = OVERLAYS,
      .setup = OVERLAY FILLED,
      .command = "commit -q -f $F disk.img",
      .views = { SAME_DISK, { .path = "base.img", .rule = VIEW_SECTORS } } },
    { .name = "commit, keeping the child",
      .formats = OVERLAYS,
      .setup = OVERLAY FILLED,
      .command = "commit -q -d -f $F disk.img",
      .views = { SAME_DISK, { .path = "base.img", .rule = VIEW_SECTORS } } },
    { .name = "commit, into a shorter base",
      .formats = OVERLAYS,
      .setup = "new base.img 1M; guest base.img noise:7:0:1M\n"
               "p create -q -f $F $WITH -b base.img -F $F disk.img 2M\n" FILLED,
      .command = "commit -q -f $F disk.img",
      .views = { SAME_DISK, { .path = "base.img", .rule = VIEW_SECTORS } } },
    { .name = "commit, through a chain",
      .formats = OVERLAYS,
      .setup = OVERLAY3 FILLED,
      .command = "commit -q -f $F -b base.img disk.img",
      .views = { SAME_DISK, { .path = "base.img", .rule = VIEW_SECTORS } } },
    { .name = "rebase",
      .formats = OVERLAYS,
      .setup = OVERLAY FILLED "new other.img 2M; guest other.img noise:9:0:1M noise:2:1500K:30K",
      .command = "rebase -q -f $F -b other.img -F $F disk.img",
      .views = { SAME_DISK, BASE, { .path = "other.img", .rule = VIEW_SAME } } },
    { .name = "rebase, within the chain",
      .formats = OVERLAYS,
      .setup = OVERLAY3 FILLED,
      .command = "rebase -q -f $F -b base.img -F $F disk.img",
      .views = { SAME_DISK, BASE, { .path = "middle.img", .rule = VIEW_SAME } } },
    { .name = "rebase, to no base",
      .formats = OVERLAYS,
      .setup = OVERLAY FILLED,
      .command = "rebase -q -f $F -b '' disk.img",
      .views = { SAME_DISK, BASE } },
    { .name = "rebase -u", /* VDI has no name to change */
      .formats = "qcow2 vmdk vhd:block_size=512k vhdx:block_size=1M",
      .setup = OVERLAY FILLED "cp base.img other.img",
      .command = "rebase -u -f $F -b other.img -F $F disk.img",
      .views = { SAME_DISK, { .path = "base.img", .rule = VIEW_SAME, .aside = true } } },
    { .name = "snapshot create",
      .formats = QCOW2,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "snapshot -q -f $F create disk.img s1",
      .views = { SAME_DISK, INSIDE("s1", VIEW_WHOLE) } },
    { .name = "snapshot create, beside",
      .formats = CHILDREN_OR_RAW,
      .setup = "new disk.img 2M\n" FILLED,
      .command = "snapshot -q -f $F create disk.img s1",
      .views = { SAME_DISK, BESIDE("s1", VIEW_WHOLE) } },
    { .name = "snapshot create --external",
      .formats = "qcow2",
      .setup = "new disk.img 2M\n" FILLED,
      .command = "snapshot -q -f $F --external create disk.img s1",
      .views = { SAME_DISK, BESIDE("s1", VIEW_WHOLE) } },
    { .name = "snapshot create, a second",
      .formats = QCOW2,
      .setup = STATE1 CHANGED,
      .command = "snapshot -q -f $F create disk.img s2",
      .views = { SAME_DISK, INSIDE("s1", VIEW_SAME), INSIDE("s2", VIEW_WHOLE) } },
    { .name = "snapshot create, a second beside",
      .formats = CHILDREN_OR_RAW,
      .setup = STATE1 CHANGED,
      .command = "snapshot -q -f $F create disk.img s2",
      .views = { SAME_DISK, BESIDE("s1", VIEW_SAME), BESIDE("s2", VIEW_WHOLE) } },
    { .name = "snapshot rollback",
      .formats = QCOW2,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F rollback disk.img s1",
      .views = { DISK, INSIDE("s1", VIEW_SAME), INSIDE("s2", VIEW_SAME) } },
    { .name = "snapshot rollback, beside",
      .formats = CHILDREN_OR_RAW,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F rollback disk.img s1",
      .views = { DISK, BESIDE("s1", VIEW_SAME), BESIDE("s2", VIEW_SAME) } },
    { .name = "snapshot delete",
      .formats = QCOW2,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F delete disk.img s1",
      .views = { SAME_DISK, INSIDE("s1", VIEW_WHOLE), INSIDE("s2", VIEW_SAME) } },
    { .name = "snapshot delete, the last one beside",
      .formats = CHILDREN_OR_RAW,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F delete disk.img s2",
      .views = { SAME_DISK, BESIDE("s1", VIEW_SAME), BESIDE("s2", VIEW_GOING) },
      .next_write_mends = true },
    { .name = "snapshot delete, the first one beside",
      .formats = CHILDREN_OR_RAW,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F delete disk.img s1",
      .views = { SAME_DISK, BESIDE("s2", VIEW_SAME), BESIDE("s1", VIEW_GOING) },
      .next_write_mends = true },
    { .name = "snapshot delete, one that two build on",
      .formats = CHILDREN_OR_RAW,
      .setup = FORK,
      .command = "snapshot -q -f $F delete disk.img s1",
      .views = { SAME_DISK, BESIDE("s2", VIEW_SAME), BESIDE("s1", VIEW_GOING) },
      .next_write_mends = true },
    { .name = "snapshot delete, of qcow2 beside",
      .formats = "qcow2",
      .setup = "MORE=--external\n" STATE2 CHANGED,
      .command = "snapshot -q -f $F delete disk.img s1",
      .views = { SAME_DISK, BESIDE("s2", VIEW_SAME), BESIDE("s1", VIEW_GOING) } },
    { .name = "snapshot rename",
      .formats = QCOW2,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F rename disk.img s1 t1",
      .views = { SAME_DISK, INSIDE("s1", VIEW_WHOLE), INSIDE("t1", VIEW_WHOLE),
                 INSIDE("s2", VIEW_SAME) } },
    { .name = "snapshot rename, beside",
      .formats = CHILDREN_OR_RAW,
      .setup = STATE2 CHANGED,
      .command = "snapshot -q -f $F rename disk.img s1 t1",
      .views = { SAME_DISK, BESIDE("s1", VIEW_WHOLE), BESIDE("t1", VIEW_WHOLE),
                 BESIDE("s2", VIEW_SAME) },
      .next_write_mends = true },
    { .name = "amend, to version 2",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup = "new disk.img 2M\n" FILLED,
      .command = "amend -q -f qcow2 -o compat=0.10 disk.img",
      .views = { SAME_DISK } },
    { .name = "amend, wider counts",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup = "new disk.img 2M\n" FILLED,
      .command = "amend -q -f qcow2 -o refcount_bits=64 disk.img",
      .views = { SAME_DISK } },
    { .name = "bitmap",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup = "new disk.img 2M\n" FILLED "p bitmap --add -g 64k disk.img a",
      .command = "bitmap --add --merge a --disable -g 64k disk.img b",
      .views = { SAME_DISK } },
    { .name = "dd",
      .formats = "qcow2 vmdk vdi vhd vhdx raw",
      .setup = "new source.img 2M; guest source.img noise:3:500K:600K",
      .command = "dd -f $F -O $F bs=64k if=source.img of=disk.img",
      .views = { DISK, { .path = "source.img", .rule = VIEW_SAME } },
      .new_disk = true },
    { .name = "check -r, a leak",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup = "new disk.img 2M\n" FILLED "python3 \"$TOOLS\"/damage_qcow2.py leak disk.img",
      .command = "check -q -r leaks disk.img",
      .views = { SAME_DISK } },
    { .name = "check -r, counts that are too high",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup =
          "new disk.img 2M\n" FILLED "python3 \"$TOOLS\"/damage_qcow2.py refcount_high disk.img",
      .command = "check -q -r all disk.img",
      .views = { SAME_DISK },
      .damaged = true },
    { .name = "check -r, counts that are zero",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup = "new disk.img 2M\n" FILLED
               "for kind in refcount_zero refcount_zero_of_table copied_missing; do\n"
               "    python3 \"$TOOLS\"/damage_qcow2.py $kind disk.img; done",
      .command = "check -q -r all disk.img",
      .views = { SAME_DISK },
      .damaged = true },
    { .name = "check -r, no counts at all",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup = "new disk.img 2M\n" FILLED "python3 \"$TOOLS\"/damage_qcow2.py blocks_gone disk.img",
      .command = "check -q -r all disk.img",
      .views = { SAME_DISK },
      .damaged = true },
    { .name = "check -r, two guest clusters in one place",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup =
          "new disk.img 2M\n" FILLED "python3 \"$TOOLS\"/damage_qcow2.py copied_wrong disk.img",
      .command = "check -q -r all disk.img",
      .views = { SAME_DISK },
      .damaged = true },
    { .name = "check --undo",
      .formats = "qcow2 qcow2:cluster_size=4k",
      .setup =
          "new disk.img 2M\n" FILLED "python3 \"$TOOLS\"/damage_qcow2.py blocks_gone disk.img\n"
          "p check -q -r all disk.img",
      .command = "check -q --undo --force disk.img",
      .views = { SAME_DISK },
      .damaged = true,
      .ends_damaged = true,
      .opens_again = true },
    { .name = "check -r, two grains in one place",
      .formats = "vmdk",
      .setup = "new disk.img 2M\n" FILLED "python3 \"$TOOLS\"/damage_vmdk.py disk.img twice",
      .command = "check -q -r all disk.img",
      .views = { SAME_DISK },
      .damaged = true },
    { .name = "check -r, two blocks in one place",
      .formats = "vhd:block_size=512k vhdx:block_size=1M vdi:block_size=64k",
      .setup =
          "new disk.img 2M\n" FILLED "case $F in vhd) at=1536 each=4;; vhdx) at=3145728 each=8;; "
          "vdi) at=65536 each=4;; esac\n"
          "dd if=disk.img of=disk.img bs=$each skip=$((at / each)) "
          "seek=$((at / each + 1)) count=1 conv=notrunc status=none",
      .command = "check -q -r all disk.img",
      .views = { SAME_DISK },
      .damaged = true },
};

const size_t operation_count = PL_COUNT(operations);
