/* Another backing file, or none: what the header says before, after, and after a crash in between;
 * and clusters that say nothing any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/memory.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/extensions.h"
#include "tests/support/flaky.h"
#include "tests/support/rig.h"

#define SIZE (256 * PL_KIB)
#define OWN_EXTENSION UINT32_C(0x12345678)

static char text_300[301], text_700[701], text_1023[1024], text_1024[1025];

static void make_texts(void)
{
    memset(text_300, 'a', 300);
    memset(text_700, 'b', 700);
    memset(text_1023, 'c', 1023);
    memset(text_1024, 'd', 1024);
}

struct change {
    const char *title, *options;
    const char *old_name, *old_format; /* null: none */
    const char *name, *format;
    uint32_t own_bytes;   /* of an extension that platter does not know; 0: none */
    enum pl_kind refused; /* PL_OK: it is done */
};

static const struct change changes[] = {
    { "another name of the same length", "", "old", "raw", "new", "raw", 0, PL_OK },
    { "a longer name, another format", "", "old", "raw", "a/longer/name", "qcow2", 0, PL_OK },
    { "a name of 300 bytes", "", "old", "raw", text_300, "qcow2", 0, PL_OK },
    { "a name of 1023 bytes", "", "old", "raw", text_1023, "qcow2", 0, PL_OK },
    { "from 1023 bytes to 700", "", text_1023, "raw", text_700, "qcow2", 0, PL_OK },
    { "from 1023 bytes to none", "", text_1023, "raw", NULL, NULL, 0, PL_OK },
    { "a name of 1024 bytes", "", "old", "raw", text_1024, "qcow2", 0, PL_E_LIMIT },
    { "none any more", "", "old", "raw", NULL, NULL, 0, PL_OK },
    { "the first one", "", NULL, NULL, "new", "raw", 0, PL_OK },
    { "none before and after", "", NULL, NULL, NULL, NULL, 0, PL_OK },
    { "a format that was not said", "", "old", NULL, "old", "raw", 0, PL_OK },
    { "a format that is not said any more", "", "old", "raw", "new", NULL, 0, PL_OK },
    { "a format with a long name", "", "old", "raw", "new", "format-of-20-letters", 0, PL_OK },
    { "an unknown extension of 700 bytes is kept", "", "old", "raw", "new-name", "qcow2", 700,
      PL_OK },
    { "an unknown extension of 700 bytes is kept when the format goes", "", "old", "raw", NULL,
      NULL, 700, PL_OK },
    { "version 2", "compat=0.10", "old", "raw", "new", "qcow2", 0, PL_OK },
    { "version 2, none any more", "compat=0.10", "old", "raw", NULL, NULL, 0, PL_OK },
    { "version 2, a name of 700 bytes", "compat=0.10", "old", "raw", text_700, "qcow2", 0, PL_OK },
    { "version 2, from 1023 bytes to 700", "compat=0.10", text_1023, "raw", text_700, "raw", 0,
      PL_OK },
    { "clusters of 512 bytes", "cluster_size=512", "old", "raw", text_300, "qcow2", 0, PL_OK },
    { "clusters of 512 bytes, a name too long", "cluster_size=512", "old", "raw", text_700, "qcow2",
      0, PL_E_LIMIT },
    { "clusters of 1 KiB", "cluster_size=1k", "old", "raw", text_300, "qcow2", 0, PL_OK },
    { "clusters of 1 KiB, a name too long", "cluster_size=1k", "old", "raw", text_1023, "qcow2", 0,
      PL_E_LIMIT },
    { "clusters of 2 KiB", "cluster_size=2k", "old", "raw", text_300, "qcow2", 0, PL_OK },
    { "clusters of 4 KiB, long names", "cluster_size=4k", text_700, "raw", text_1023, "qcow2", 0,
      PL_OK },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", "old", "raw", NULL, NULL, 0,
      PL_OK },
};

static struct pl_parent_ref ref(const char *name, const char *format)
{
    return (struct pl_parent_ref){ .name = name, .format = name ? format : NULL };
}

static int set_parent(struct rig *rig, const char *name, const char *format, struct pl_err *e)
{
    const struct pl_parent_ref parent = ref(name, format);

    return pl_qcow2.set_parent(rig->layer.state, &parent, e);
}

static void add_own_extension(struct qcow2 *q, uint32_t len)
{
    PL_FREE uint8_t *bytes = malloc(len + 1);
    struct pl_err e;

    if (!len)
        return;
    memset(bytes, 0x5a, len);
    must(qcow2_set_extension(q, OWN_EXTENSION, bytes, len, &e), &e);
    must(qcow2_write_header(q, &e), &e);
}

/* An image with the old parent and a few bytes of its own; closed. */
static void begin(struct rig *rig, const struct change *c)
{
    struct pl_err e;

    *rig = (struct rig){ .driver = &pl_qcow2 };
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->st, &e), &e);
    must(rig_create(rig, c->options, SIZE, &e), &e);
    must(rig_open(rig, &e), &e);
    add_own_extension(rig->layer.state, c->own_bytes);
    must(set_parent(rig, c->old_name, c->old_format, &e), &e);
    must(rig_write(rig, 70000, "own bytes", 9, &e), &e);
    must(rig_finish(rig, &e), &e);
}

static bool equal(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

/* The image is sound and all that belongs to no parent is there. */
static void assert_sound(struct rig *rig, const struct change *c)
{
    const struct qcow2_extension *own;
    struct pl_check_result result;
    char bytes[9];
    struct pl_err e;

    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.leaks, 0);
    must(rig_read(rig, 70000, bytes, 9, &e), &e);
    assert_memory_equal(bytes, "own bytes", 9);
    own = qcow2_extension(rig->layer.state, OWN_EXTENSION);
    assert_int_equal(own ? own->len : 0, c->own_bytes);
}

static bool names(const struct rig *rig, const char *name, const char *format)
{
    return equal(rig->layer.parent_name, name) &&
           equal(rig->layer.parent_format, name ? format : NULL);
}

static void is_changed(void **state)
{
    const struct change *c = *state;
    const bool done = c->refused == PL_OK;
    struct rig rig;
    struct pl_err e;

    begin(&rig, c);
    must(rig_open(&rig, &e), &e);
    if (done) {
        must(set_parent(&rig, c->name, c->format, &e), &e);
    } else {
        assert_int_equal(set_parent(&rig, c->name, c->format, &e), -1);
        assert_int_equal(e.kind, c->refused);
    }
    must(rig_finish(&rig, &e), &e);
    must(rig_open(&rig, &e), &e);
    assert_true(done ? names(&rig, c->name, c->format) : names(&rig, c->old_name, c->old_format));
    assert_sound(&rig, c);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* The storage's bytes in a flaky one, the image open in it. */
static void open_flaky(struct rig *rig)
{
    const size_t len = pl_storage_size(rig->st);
    PL_FREE uint8_t *bytes = malloc(len);
    struct pl_err e;

    must(pl_storage_read(rig->st, 0, bytes, len, &e), &e);
    pl_storage_close(rig->st, NULL);
    must(pl_flaky_storage(bytes, len, SIZE_MAX / 4, &rig->st, &e), &e);
    must(rig_open(rig, &e), &e);
}

/* What a crash left names the old parent or the new one, and can be given the new one. */
static void look_at_cut(struct pl_storage *flaky, uint64_t op, uint64_t seed,
                        const struct change *c)
{
    PL_FREE uint8_t *bytes = NULL;
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_err e;
    size_t len;

    pl_flaky_cut(flaky, op, seed, &bytes, &len);
    must(pl_memory_storage(bytes, len, SIZE_MAX / 2, &rig.st, &e), &e);
    must(rig_open(&rig, &e), &e);
    if (!names(&rig, c->old_name, c->old_format) && !names(&rig, c->name, c->format))
        fail_msg("cut at %llu, seed %llu: parent %s, format %s", (unsigned long long)op,
                 (unsigned long long)seed, rig.layer.parent_name, rig.layer.parent_format);
    assert_sound(&rig, c);
    must(set_parent(&rig, c->name, c->format, &e), &e);
    must(rig_finish(&rig, &e), &e);
    must(rig_open(&rig, &e), &e);
    assert_true(names(&rig, c->name, c->format));
    assert_sound(&rig, c);
    assert_true(((struct qcow2 *)rig.layer.state)->header.header_length <= QCOW2_HEADER_LENGTH);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void crash_leaves_one_of_both(void **state)
{
    const struct change *c = *state;
    struct rig rig;
    struct pl_err e;
    uint64_t end;

    if (c->refused != PL_OK)
        return;
    begin(&rig, c);
    open_flaky(&rig);
    must(set_parent(&rig, c->name, c->format, &e), &e);
    end = pl_flaky_operation_count(rig.st);
    for (uint64_t op = 0; op <= end; op++)
        for (uint64_t seed = 0; seed < 10; seed++)
            look_at_cut(rig.st, op, seed, c);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* Each write and sync fails in turn. */
static void a_failure_leaves_one_of_both(void **state)
{
    const struct change *c = *state;
    bool failed = c->refused == PL_OK;

    for (uint64_t n = 0; failed; n++) {
        struct rig rig;
        struct pl_err e;

        begin(&rig, c);
        open_flaky(&rig);
        pl_flaky_fail_at(rig.st, n, 5, true);
        failed = set_parent(&rig, c->name, c->format, &e) < 0;
        rig_close(&rig);
        pl_flaky_fail_at(rig.st, UINT64_MAX, 0, false);
        must(rig_open(&rig, &e), &e);
        assert_true(names(&rig, c->old_name, c->old_format) || names(&rig, c->name, c->format));
        assert_sound(&rig, c);
        rig_close(&rig);
        pl_storage_close(rig.st, NULL);
    }
}

static void a_raw_data_file_takes_no_parent(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_err e;

    (void)state;
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig.st, &e), &e);
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig.data, &e), &e);
    must(rig_create(&rig, "data_file=data,data_file_raw=on", SIZE, &e), &e);
    must(rig_open(&rig, &e), &e);
    assert_int_equal(set_parent(&rig, "new", "raw", &e), -1);
    assert_int_equal(e.kind, PL_E_UNSUPPORTED);
    assert_int_equal(pl_qcow2.forget(rig.layer.state, 0, SIZE, &e), -1);
    assert_int_equal(e.kind, PL_E_UNSUPPORTED);
    must(set_parent(&rig, NULL, NULL, &e), &e);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    pl_storage_close(rig.data, NULL);
}

/* ---- forgetting ---- */

struct kind {
    const char *title, *options;
    bool packed, data_file;
};

static const struct kind kinds[] = {
    { "clusters of 4 KiB", "cluster_size=4k", false, false },
    { "clusters of 64 KiB, compressed", "", true, false },
    { "clusters of 512 bytes, compressed", "cluster_size=512", true, false },
    { "version 2", "cluster_size=4k,compat=0.10", false, false },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", false, false },
    { "extended L2 entries, compressed", "cluster_size=16k,extended_l2=on", true, false },
    { "an external data file", "cluster_size=4k,data_file=data", false, true },
    { "an external data file, extended L2 entries",
      "cluster_size=16k,extended_l2=on,data_file=data", false, true },
};

/* A disk of data over a parent of other data, [16K, 32K) of it zeros. */
static void begin_kind(struct rig *rig, const struct kind *k, const uint8_t *parent,
                       const uint8_t *own)
{
    struct pl_err e;

    *rig = (struct rig){ .driver = &pl_qcow2, .parent = parent, .parent_len = SIZE };
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->st, &e), &e);
    if (k->data_file)
        must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->data, &e), &e);
    must(rig_create(rig, k->options, SIZE, &e), &e);
    must(rig_open(rig, &e), &e);
    must(k->packed ? rig_write_packed(rig, 0, own, SIZE, &e) : rig_write(rig, 0, own, SIZE, &e),
         &e);
    if (((struct qcow2 *)rig->layer.state)->cluster_size <= 16 * PL_KIB)
        must(rig_zero(rig, 16 * PL_KIB, 16 * PL_KIB, false, &e), &e);
    must(rig_flush(rig, &e), &e);
}

static void assert_content(struct rig *rig, const uint8_t *wanted)
{
    PL_FREE uint8_t *found = malloc(SIZE);
    struct pl_check_result result;
    struct pl_err e;

    must(rig_read(rig, 0, found, SIZE, &e), &e);
    for (uint64_t i = 0; i < SIZE; i++)
        if (found[i] != wanted[i])
            fail_msg("byte 0x%llx: %02x instead of %02x", (unsigned long long)i, found[i],
                     wanted[i]);
    must(rig_flush(rig, &e), &e);
    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.leaks, 0);
}

/* Ranges of granules, in no order, until all is the parent's. */
static void what_is_forgotten_is_the_parents(void **state)
{
    const struct kind *k = *state;
    PL_FREE uint8_t *parent = malloc(SIZE), *own = malloc(SIZE);
    uint64_t random = 7;
    struct rig rig;
    struct pl_err e;

    memset(parent, 'p', SIZE);
    memset(own, 'o', SIZE);
    begin_kind(&rig, k, parent, own);
    must(rig_read(&rig, 0, own, SIZE, &e), &e);
    for (unsigned turn = 0; turn < 40; turn++) {
        const uint64_t granule = rig.layer.granule, last = SIZE / granule;
        const uint64_t at = rig_below(&random, last) * granule;
        const uint64_t most = PL_MIN(SIZE - at, 24 * PL_KIB) / granule;
        const uint64_t len = (1 + rig_below(&random, PL_MAX(most, 1))) * granule;

        must(pl_qcow2.forget(rig.layer.state, at, PL_MIN(len, SIZE - at), &e), &e);
        memset(own + at, 'p', PL_MIN(len, SIZE - at));
        if (turn % 8 == 0)
            assert_content(&rig, own);
    }
    assert_content(&rig, own);
    must(pl_qcow2.forget(rig.layer.state, 0, SIZE, &e), &e);
    assert_content(&rig, parent);
    rig_close(&rig);
    must(rig_open(&rig, &e), &e);
    assert_content(&rig, parent);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    pl_storage_close(rig.data, NULL);
}

static void a_snapshot_keeps_what_the_disk_forgets(void **state)
{
    PL_FREE uint8_t *own = malloc(SIZE);
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_check_result result;
    struct pl_err e;
    uint64_t before;

    (void)state;
    if (!has_program("qemu-img"))
        return;
    memset(own, 'o', SIZE);
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig.st, &e), &e);
    must(rig_create(&rig, "cluster_size=4k", SIZE, &e), &e);
    must(rig_open(&rig, &e), &e);
    must(rig_write(&rig, 0, own, SIZE, &e), &e);
    must(rig_finish(&rig, &e), &e);
    must(rig_take_snapshot(&rig.st, "one", SIZE_MAX / 2, &e), &e);
    must(rig_open(&rig, &e), &e);
    must(pl_qcow2.forget(rig.layer.state, 0, SIZE, &e), &e);
    must(rig_flush(&rig, &e), &e);
    must(rig_check(&rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.leaks, 0);
    must(qcow2_refcount(rig.layer.state, 8, &before, &e), &e);
    assert_true(before > 0);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static struct CMUnitTest tests[3 * PL_COUNT(changes) + PL_COUNT(kinds) + 2];
static char titles[PL_COUNT(tests)][120];
static size_t test_count;

static void add(void (*test)(void **state), const char *prefix, const char *title,
                const void *state)
{
    char *name = titles[test_count];

    snprintf(name, sizeof titles[0], "%s%s", prefix, title);
    tests[test_count++] =
        (struct CMUnitTest){ .name = name, .test_func = test, .initial_state = (void *)state };
}

int main(void)
{
    make_texts();
    for (size_t i = 0; i < PL_COUNT(changes); i++) {
        add(is_changed, "", changes[i].title, &changes[i]);
        add(crash_leaves_one_of_both, "crash: ", changes[i].title, &changes[i]);
        add(a_failure_leaves_one_of_both, "failure: ", changes[i].title, &changes[i]);
    }
    for (size_t i = 0; i < PL_COUNT(kinds); i++)
        add(what_is_forgotten_is_the_parents, "forgotten: ", kinds[i].title, &kinds[i]);
    add(a_raw_data_file_takes_no_parent, "", "a raw data file takes no parent", NULL);
    add(a_snapshot_keeps_what_the_disk_forgets, "", "a snapshot keeps what the disk forgets", NULL);
    return _cmocka_run_group_tests("test_parent", tests, test_count, NULL, NULL);
}
