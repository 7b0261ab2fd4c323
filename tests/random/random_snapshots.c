/* Random work on the states of a disk against copies in memory: writes, growth, states kept, gone
 * back to, renamed and deleted, for every format and every way of keeping them.  Every now and then
 * each state must read as it did, the tree must be the one expected, and the list of what changed
 * between two states must be exactly what differs.  At the end qemu-img reads the disk, where it
 * knows the format's chains.
 *
 * RANDOM_SEED and RANDOM_STEPS in the environment choose another run. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "core/base/scope.h"
#include "tests/unit/engine/disks.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define LARGEST (12 * MIB)
#define STATES_MAX 10

static const struct way {
    const char *name, *format, *options;
    bool files; /* qcow2: not inside */
    bool grows;
    uint64_t size;
    const char *qemu; /* the format that qemu-img reads the chain by; null: it cannot */
} ways[] = {
    { "raw", "raw", "", false, true, 3 * MIB + 512, "raw" },
    { "qcow2, inside", "qcow2", "cluster_size=4k", false, true, 2 * MIB, "qcow2" },
    { "qcow2, files", "qcow2", "cluster_size=4k", true, true, 3 * MIB, "qcow2" },
    { "vmdk", "vmdk", "", false, true, 3 * MIB, "vmdk" },
    { "vmdk, flat", "vmdk", "subformat=monolithicFlat", false, true, 2 * MIB, "vmdk" },
    { "vhd", "vhd", "block_size=64k", false, true, 2 * MIB, NULL },
    { "vhd, fixed", "vhd", "subformat=fixed", false, false, 2 * MIB, NULL },
    { "vhdx", "vhdx", "block_size=1M", false, true, 5 * MIB, NULL },
    { "vdi", "vdi", "block_size=64k", false, true, 2 * MIB, NULL },
    { "vdi, static", "vdi", "static=on,block_size=64k", false, false, 2 * MIB, NULL },
};

/* A disk's content under a name. */
struct state {
    char name[32];
    uint8_t *bytes; /* LARGEST */
    uint64_t size;
    size_t parent; /* PL_NO_STATE: none */
    bool kept;
};

struct run {
    const struct way *way;
    char *path;
    struct state disk; /* its parent is what it stands on */
    struct state states[STATES_MAX];
    uint8_t *buf; /* LARGEST */
    uint64_t random;
    unsigned names; /* given so far */
};

static uint64_t next_random(struct run *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static struct pl_state_options options_for(const struct run *r)
{
    return (struct pl_state_options){ .format = r->way->format, .files = r->way->files };
}

/* ---- the disk ---- */

static void change(struct run *r)
{
    struct pl_image *img = open_disk(r->path, r->way->format, true);

    for (unsigned i = 0; i < 1 + next_random(r) % 4; i++) {
        const uint64_t at = next_random(r) % r->disk.size;
        const uint64_t wanted = 1 + next_random(r) % (next_random(r) % 4 ? 5000 : 300 * KIB);
        const uint64_t len = PL_MIN(wanted, r->disk.size - at);
        const bool zero = next_random(r) % 4 == 0;

        fill_pattern(r->disk.bytes + at, at, len, zero ? 0 : (unsigned)next_random(r) | 1);
        if (zero)
            OK(pl_zero(img, at, len, true, &e));
        else
            OK(pl_write(img, at, r->disk.bytes + at, len, &e));
    }
    OK(pl_close(img, &e));
}

static void grow(struct run *r)
{
    const uint64_t size = pl_round_up(r->disk.size + next_random(r) % MIB, 512);
    struct pl_image *img;

    if (!r->way->grows || size > LARGEST)
        return;
    img = open_disk(r->path, r->way->format, true);
    OK(pl_resize(img, size, false, 0, &e));
    OK(pl_close(img, &e));
    r->disk.size = size;
}

/* ---- states ---- */

/* Any state; null: there is none. */
static struct state *choose(struct run *r)
{
    for (unsigned i = 0; i < 4 * STATES_MAX; i++) {
        struct state *s = &r->states[next_random(r) % STATES_MAX];

        if (s->kept)
            return s;
    }
    return NULL;
}

static size_t index_of(const struct run *r, const struct state *s)
{
    return (size_t)(s - r->states);
}

static void give_name(struct run *r, struct state *s)
{
    snprintf(s->name, sizeof s->name, "%s%u", next_random(r) % 2 ? "s" : "a state ", r->names++);
}

static void copy_content(struct state *to, const struct state *from)
{
    memcpy(to->bytes, from->bytes, LARGEST);
    to->size = from->size;
}

static void create(struct run *r)
{
    const struct pl_state_options options = options_for(r);
    struct state *s = r->states;

    while (s < r->states + STATES_MAX && s->kept)
        s++;
    if (s == r->states + STATES_MAX)
        return;
    give_name(r, s);
    OK(pl_state_create(r->path, s->name, &options, NULL, &e));
    copy_content(s, &r->disk);
    s->parent = r->disk.parent;
    s->kept = true;
    r->disk.parent = index_of(r, s);
}

static void roll_back(struct run *r)
{
    const struct pl_state_options options = options_for(r);
    struct state *s = choose(r);

    if (!s)
        return;
    OK(pl_state_rollback(r->path, s->name, &options, &e));
    copy_content(&r->disk, s);
    r->disk.parent = index_of(r, s);
}

static void rename_one(struct run *r)
{
    const struct pl_state_options options = options_for(r);
    struct state *s = choose(r);
    char old[sizeof s->name];

    if (!s)
        return;
    memcpy(old, s->name, sizeof old);
    give_name(r, s);
    OK(pl_state_rename(r->path, old, s->name, &options, &e));
}

static void delete_one(struct run *r)
{
    const struct pl_state_options options = options_for(r);
    struct state *s = choose(r);

    if (!s)
        return;
    OK(pl_state_delete(r->path, s->name, &options, &e));
    for (size_t i = 0; i < STATES_MAX; i++)
        if (r->states[i].parent == index_of(r, s))
            r->states[i].parent = s->parent;
    if (r->disk.parent == index_of(r, s))
        r->disk.parent = s->parent;
    s->kept = false;
}

/* ---- what must be true ---- */

static void reads_as(struct run *r, struct pl_image *img, const struct state *s)
{
    assert_int_equal(pl_size(img), s->size);
    OK(pl_read(img, 0, r->buf, s->size, &e));
    for (uint64_t i = 0; i < s->size; i++)
        if (r->buf[i] != s->bytes[i])
            fail_msg("'%s', guest address 0x%" PRIx64 ": 0x%02x instead of 0x%02x", s->name, i,
                     r->buf[i], s->bytes[i]);
    OK(pl_close(img, &e));
}

static const char *name_of(const struct pl_states *list, size_t index)
{
    return index == PL_NO_STATE ? "(none)" : list->state[index].name;
}

static const char *expected_name(const struct run *r, size_t index)
{
    return index == PL_NO_STATE ? "(none)" : r->states[index].name;
}

static void state_is_right(struct run *r, const struct pl_states *list, const struct state *s)
{
    struct pl_open_options how = { .format = r->way->format };
    struct pl_image *img;
    size_t index;

    OK(pl_states_find(list, s->name, &index, &e));
    assert_string_equal(name_of(list, list->state[index].parent), expected_name(r, s->parent));
    assert_int_equal(list->state[index].size, s->size);
    assert_false(list->state[index].deleting || list->state[index].unreadable);
    how.snapshot = list->state[index].id;
    OK(pl_open(list->state[index].path ? list->state[index].path : r->path, &how, &img, &e));
    reads_as(r, img, s);
}

static void all_is_right(struct run *r)
{
    const struct pl_state_options options = options_for(r);
    struct pl_states *list;
    size_t kept = 0;

    OK(pl_states_list(r->path, &options, &list, &e));
    for (size_t i = 0; i < STATES_MAX; i++)
        if (r->states[i].kept) {
            state_is_right(r, list, &r->states[i]);
            kept++;
        }
    assert_int_equal(list->count, kept);
    assert_string_equal(name_of(list, list->stands_on), expected_name(r, r->disk.parent));
    pl_states_free(list);
    reads_as(r, open_disk(r->path, r->way->format, false), &r->disk);
}

/* What is expected of a diff, byte by byte as far as it came. */
struct walk {
    const struct state *from, *to;
    uint64_t at;
};

static uint8_t byte_of(const struct state *s, uint64_t at)
{
    return at < s->size ? s->bytes[at] : 0;
}

static bool sector_differs(const struct walk *w, uint64_t at, uint64_t end)
{
    for (; at < end; at++)
        if (byte_of(w->from, at) != byte_of(w->to, at))
            return true;
    return false;
}

static int check_run(void *ctx, const struct pl_changed_run *run, struct pl_err *e)
{
    struct walk *w = ctx;

    (void)e;
    assert_true(run->at >= w->at && run->len > 0);
    assert_false(sector_differs(w, w->at, run->at));
    for (uint64_t at = run->at, end; at < run->at + run->len; at = end) {
        end = PL_MIN(at + 512, run->at + run->len);
        assert_true(sector_differs(w, at, end));
        for (uint64_t i = at; run->zero && i < end; i++)
            assert_int_equal(byte_of(w->to, i), 0);
    }
    w->at = run->at + run->len;
    return 0;
}

static void diff_is_right(struct run *r)
{
    struct state *from = choose(r), *other = choose(r);
    const struct state *to = next_random(r) % 2 ? &r->disk : other;
    struct walk w = { .from = from, .to = to };
    const struct pl_diff_options options = { .common = options_for(r),
                                             .run = check_run,
                                             .ctx = &w };
    struct pl_diff_result result;

    if (!from || !to)
        return;
    OK(pl_state_diff(r->path, from->name, to == &r->disk ? NULL : to->name, &options, &result, &e));
    assert_false(sector_differs(&w, w.at, PL_MAX(from->size, to->size)));
    assert_int_equal(result.from_size, from->size);
    assert_int_equal(result.to_size, to->size);
}

static void qemu_img_agrees(struct run *r)
{
    PL_FREE char *model = test_tmp("model");
    char command[1000];

    if (!r->way->qemu)
        return;
    if (system("command -v qemu-img >/dev/null") != 0)
        TEST_SKIP("qemu-img is not here to read the result");
    write_file(model, r->disk.bytes, r->disk.size);
    snprintf(command, sizeof command, "timeout 60 qemu-img compare -q -f %s -F raw '%s' '%s'",
             r->way->qemu, r->path, model);
    assert_int_equal(system(command), 0);
    unlink(model);
}

/* ---- a run ---- */

static void step(struct run *r)
{
    const unsigned what = (unsigned)(next_random(r) % 100);

    if (what < 40)
        change(r);
    else if (what < 60)
        create(r);
    else if (what < 70)
        roll_back(r);
    else if (what < 76)
        rename_one(r);
    else if (what < 86)
        delete_one(r);
    else if (what < 90)
        grow(r);
    else
        diff_is_right(r);
}

/* What an earlier test left when it failed, too. */
static void clear_folder(void)
{
    char *all = test_tmp("disk*");
    char command[1000];

    snprintf(command, sizeof command, "rm -f -- %s", all);
    assert_int_equal(system(command), 0);
    free(all);
}

static void begin(struct run *r)
{
    clear_folder();
    r->path = test_tmp("disk.img");
    r->buf = calloc(1, LARGEST);
    r->disk = (struct state){
        .name = "the disk", .bytes = calloc(1, LARGEST), .size = r->way->size, .parent = PL_NO_STATE
    };
    assert_true(r->buf && r->disk.bytes);
    for (size_t i = 0; i < STATES_MAX; i++) {
        r->states[i] = (struct state){ .bytes = calloc(1, LARGEST), .parent = PL_NO_STATE };
        assert_non_null(r->states[i].bytes);
    }
    create_disk(r->path, r->way->format, r->disk.size, r->way->options, NULL);
}

static void end(struct run *r)
{
    clear_folder();
    for (size_t i = 0; i < STATES_MAX; i++)
        free(r->states[i].bytes);
    free(r->disk.bytes);
    free(r->buf);
    free(r->path);
}

static void agrees_with_memory(void **state)
{
    const uint64_t steps = test_number("RANDOM_STEPS", 150);
    struct run r = { .way = *state };

    r.random = test_number("RANDOM_SEED", (uint64_t)time(NULL) * 2654435761u) | 1;
    printf("# RANDOM_SEED=%" PRIu64 "\n", r.random);
    begin(&r);
    for (uint64_t i = 0; i < steps; i++) {
        step(&r);
        if (i % 8 == 7)
            all_is_right(&r);
    }
    all_is_right(&r);
    qemu_img_agrees(&r);
    end(&r);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(ways)];

    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < PL_COUNT(ways); i++) {
        tests[i].name = ways[i].name;
        tests[i].test_func = agrees_with_memory;
        tests[i].initial_state = (void *)&ways[i];
    }
    return _cmocka_run_group_tests("random_snapshots", tests, PL_COUNT(tests), NULL, NULL);
}
