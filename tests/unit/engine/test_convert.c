/* test_convert.c - what pl_convert makes of sizes, several inputs, threads and existing targets. */
#include "tests/unit/engine/disks.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <time.h>

static struct pl_convert_options request_for(const char *format)
{
    return (struct pl_convert_options){
        .format = format, .target_format = format, .sparse = PL_SPARSE_DEFAULT, .workers = 2
    };
}

/* Converts one raw file; the result must have that kind of error, PL_E_NONE for none. */
static void convert_file(const char *from, const char *to, const struct pl_convert_options *options)
{
    struct pl_image *img = open_disk(from, "raw", false);

    OK(pl_convert(&img, 1, to, options, NULL, &e));
    OK(pl_close(img, &e));
}

static uint8_t *read_file(const char *path, size_t *len)
{
    struct pl_image *img = open_disk(path, "raw", false);
    uint8_t *bytes = malloc(pl_size(img) + 1);

    *len = pl_size(img);
    OK(pl_read(img, 0, bytes, *len, &e));
    OK(pl_close(img, &e));
    return bytes;
}

/* Entries of the test's folder, hidden ones too. */
static unsigned count_files(void)
{
    char *folder = test_tmp("");
    DIR *dir = opendir(folder);
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    free(folder);
    return count;
}

/* ---- sizes and inputs ---- */

/* One kind of target. */
struct kind {
    const char *name, *format, *options;
    bool compress, no_share;
    uint64_t sparse;
};

static const struct kind kinds[] = {
    { "raw", "raw", "", false, false, 4096 },
    { "raw, full", "raw", "", false, false, 0 },
    { "raw, sparse 512", "raw", "", false, true, 512 },
    { "qcow2", "qcow2", "", false, false, 4096 },
    { "qcow2, full", "qcow2", "", false, false, 0 },
    { "qcow2, 512", "qcow2", "cluster_size=512", false, false, 4096 },
    { "qcow2, 2M", "qcow2", "cluster_size=2M", false, false, 65536 },
    { "qcow2, extended", "qcow2", "extended_l2=on", false, true, 4096 },
    { "qcow2, metadata", "qcow2", "preallocation=metadata", false, false, 4096 },
    { "qcow2, odd sparse", "qcow2", "", false, false, 200704 },
    { "qcow2, sparse above a window", "qcow2", "", false, false, 4 << 20 },
    { "zlib", "qcow2", "", true, false, 4096 },
    { "zlib, full", "qcow2", "", true, false, 0 },
    { "zstd, 2M", "qcow2", "compression_type=zstd,cluster_size=2M", true, false, 4096 },
};

/* Converts `count` raw files with each of the numbers of workers: the same bytes each time. */
static void convert_as(const struct kind *kind, char *const *paths, size_t count,
                       const uint8_t *expected, size_t len)
{
    static const unsigned workers[] = { 1, 2, 5 };
    struct pl_image *sources[4];
    uint8_t *first = NULL;
    size_t first_len = 0;

    for (size_t i = 0; i < count; i++)
        sources[i] = open_disk(paths[i], "raw", false);
    for (size_t w = 0; w < PL_COUNT(workers); w++) {
        struct pl_options *list = options_of(kind->options);
        struct pl_convert_options request = request_for(kind->format);
        struct pl_convert_result result;
        char *to = test_tmp("to");
        uint8_t *bytes;
        size_t bytes_len;

        request.options = list;
        request.compress = kind->compress;
        request.no_share = kind->no_share;
        request.sparse = kind->sparse;
        request.workers = workers[w];
        OK(pl_convert(sources, count, to, &request, &result, &e));
        assert_true(result.size >= len && result.size < len + 512);
        shows(to, kind->format, expected, len);
        bytes = read_file(to, &bytes_len);
        if (first) {
            assert_int_equal(first_len, bytes_len);
            assert_memory_equal(first, bytes, bytes_len);
            free(bytes);
        } else {
            first = bytes;
            first_len = bytes_len;
        }
        free(to);
        pl_options_free(list);
    }
    free(first);
    for (size_t i = 0; i < count; i++)
        OK(pl_close(sources[i], &e));
}

static void every_kind_of_target_holds_disks_of_any_size(void **state)
{
    static const size_t sizes[] = { 0, 1, 511, 512, 65535, 65536, 65537, 1000000, (3 << 20) + 513 };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(sizes); i++) {
        uint8_t *bytes = mixed_content(sizes[i], (unsigned)i);
        char *from = test_tmp("from");

        write_file(from, bytes, sizes[i]);
        for (size_t k = 0; k < PL_COUNT(kinds); k++)
            convert_as(&kinds[k], &from, 1, bytes, sizes[i]);
        free(from);
        free(bytes);
    }
}

static void inputs_follow_each_other_wherever_their_ends_are(void **state)
{
    static const size_t sizes[] = { 1000003, 0, 70001, 2100000 };
    uint8_t *all = malloc(4 << 20);
    char *paths[PL_COUNT(sizes)];
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < PL_COUNT(sizes); i++) {
        uint8_t *bytes = mixed_content(sizes[i], (unsigned)i + 2);
        char name[16];

        snprintf(name, sizeof name, "input%zu", i);
        paths[i] = test_tmp(name);
        write_file(paths[i], bytes, sizes[i]);
        memcpy(all + len, bytes, sizes[i]);
        len += sizes[i];
        free(bytes);
    }
    for (size_t k = 0; k < PL_COUNT(kinds); k++)
        convert_as(&kinds[k], paths, PL_COUNT(paths), all, len);
    for (size_t i = 0; i < PL_COUNT(sizes); i++)
        free(paths[i]);
    free(all);
}

/* Compressed units that are taken over, with neighbours and ends that do not fit clusters. */
static void compressed_inputs_are_taken_over_or_packed_again(void **state)
{
    static const size_t sizes[] = { 10 * 65536, 10 * 65536 + 512, 3 * 65536 + 1024 };
    uint8_t *all = calloc(1, 4 << 20);
    struct pl_image *sources[PL_COUNT(sizes)];
    struct pl_convert_options request = request_for("qcow2");
    struct pl_convert_result result;
    char *to = test_tmp("to");
    size_t len = 0;

    (void)state;
    request.compress = true;
    for (size_t i = 0; i < PL_COUNT(sizes); i++) {
        char *raw = test_tmp("raw"), *packed = test_tmp(i ? i == 1 ? "p1" : "p2" : "p0");

        memset(all + len, 'x' + (int)i, sizes[i]);
        fill_pattern(all + len, 0, 65536, 3); /* one that cannot be packed */
        write_file(raw, all + len, sizes[i]);
        convert_file(raw, packed, &request);
        sources[i] = open_disk(packed, NULL, false);
        len += sizes[i];
        free(raw);
        free(packed);
    }
    OK(pl_convert(sources, PL_COUNT(sizes), to, &request, &result, &e));
    shows(to, "qcow2", all, len);
    assert_int_equal(result.passed, 9 * 65536 + 9 * 65536);
    for (size_t i = 0; i < PL_COUNT(sizes); i++)
        OK(pl_close(sources[i], &e));
    free(to);
    free(all);
}

/* Packed zeros, as a file written with -S 0 has them, become what is not there. */
static void compressed_zeros_are_not_taken_over(void **state)
{
    uint8_t *bytes = calloc(1, 1 << 20);
    char *raw = test_tmp("raw"), *packed = test_tmp("packed"), *to = test_tmp("to");
    struct pl_convert_options request = request_for("qcow2");
    struct pl_convert_result result;
    struct pl_image *img;
    struct pl_run run;

    (void)state;
    fill_pattern(bytes, 0, 1000, 3);
    write_file(raw, bytes, 1 << 20);
    request.compress = true;
    request.sparse = 0;
    convert_file(raw, packed, &request);
    img = open_disk(packed, NULL, false);
    OK(pl_map(img, 65536, 65536, &run, &e));
    assert_true(run.compressed);
    request.sparse = PL_SPARSE_DEFAULT;
    OK(pl_convert(&img, 1, to, &request, &result, &e));
    OK(pl_close(img, &e));
    shows(to, "qcow2", bytes, 1 << 20);
    assert_int_equal(result.passed, 65536);
    assert_int_equal(result.zero, (1 << 20) - 65536);
    free(raw);
    free(packed);
    free(to);
    free(bytes);
}

/* ---- existing targets ---- */

static void an_existing_larger_target_keeps_what_lies_behind(void **state)
{
    static const struct {
        const char *format;
        bool compress, empty;
    } rows[] = {
        { "raw", false, false },  { "qcow2", false, false }, { "qcow2", true, false },
        { "qcow2", false, true }, { "qcow2", true, true },
    };
    const size_t len = 300000, whole = 1 << 20;

    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        uint8_t *bytes = mixed_content(len, 3), *old = malloc(whole);
        struct pl_convert_options request = request_for(rows[i].format);
        char *from = test_tmp("from"), *to = test_tmp("to");
        struct pl_image *img;

        fill_pattern(old, 0, whole, rows[i].empty ? 0 : 9);
        memcpy(bytes, "start", 5);
        write_file(from, bytes, len);
        create_disk(to, rows[i].format, whole, "", NULL);
        img = open_disk(to, rows[i].format, true);
        OK(pl_write(img, 0, old, whole, &e));
        OK(pl_close(img, &e));
        memcpy(old, bytes, len);
        request.existing = true;
        request.compress = rows[i].compress;
        convert_file(from, to, &request);
        shows(to, rows[i].format, old, whole);
        free(from);
        free(to);
        free(old);
        free(bytes);
    }
}

static void an_existing_smaller_target_is_refused(void **state)
{
    struct pl_convert_options request = request_for("qcow2");
    char *from = test_tmp("from"), *to = test_tmp("to");
    struct pl_image *img;

    (void)state;
    write_file(from, "0123456789abcdef", 16);
    create_disk(to, "qcow2", 0, "", NULL);
    img = open_disk(from, "raw", false);
    request.existing = true;
    FAILS(PL_E_LIMIT, "smaller", pl_convert(&img, 1, to, &request, NULL, &e));
    OK(pl_close(img, &e));
    free(from);
    free(to);
}

/* ---- over a parent ---- */

/* The parent may be shorter or longer than the disk, and both may end inside a cluster. */
static void over_a_parent_only_differences_are_stored(void **state)
{
    static const size_t parents[] = { 512 * 300, 512 * 2000, 512 * 4000 };
    const size_t len = 512 * 2001 - 100;

    (void)state;
    for (size_t i = 0; i < PL_COUNT(parents); i++) {
        uint8_t *bytes = mixed_content(512 * 4000, 5);
        struct pl_convert_options request = request_for("qcow2");
        char *from = test_tmp("from"), *base = test_tmp("base"), *to = test_tmp("over");

        memset(bytes + len - 100, 7, 200);
        write_file(base, bytes, parents[i]);
        memset(bytes + 65536, 1, 100);     /* data over whatever there was */
        memset(bytes + 200000, 0, 150000); /* zeros */
        write_file(from, bytes, len);
        request.parent = "base";
        request.parent_format = "raw";
        convert_file(from, to, &request);
        shows(to, "qcow2", bytes, len);
        free(from);
        free(base);
        free(to);
        free(bytes);
    }
}

static void an_image_is_not_created_over_its_own_parent(void **state)
{
    char *base = test_tmp("base.qcow2"), *child = test_tmp("child.qcow2");
    struct pl_create_options create = { .format = "qcow2", .parent = "base.qcow2" };

    (void)state;
    create_disk(base, "qcow2", 1 << 20, "", NULL);
    create_disk(child, "qcow2", 1 << 20, "", "base.qcow2");
    FAILS(PL_E_INVALID, "backing file", pl_create(base, &create, &e));
    create.parent = "child.qcow2";
    FAILS(PL_E_INVALID, "backing file", pl_create(base, &create, &e));
    FAILS(PL_E_INVALID, "backing file", pl_create(child, &create, &e));
    create.unsafe_parent = create.size_given = true; /* nobody looks at the parent */
    FAILS(PL_E_INVALID, "its own backing file", pl_create(child, &create, &e));
    OK(pl_close(open_disk(child, NULL, false), &e));
    free(base);
    free(child);
}

/* ---- damage ---- */

/* A compressed unit that cannot be unpacked is taken over unseen, but verifying finds it; with
 * `salvage` it becomes zeros, and the rest is copied. */
static void damaged_units_are_noticed(void **state)
{
    const size_t len = 5 * 65536;
    uint8_t *bytes = malloc(len);
    struct pl_convert_options request = request_for("qcow2");
    char *from = test_tmp("from"), *packed = test_tmp("packed"), *to = test_tmp("to");
    struct pl_image *img;
    uint8_t *file;
    size_t file_len;
    uint64_t at;

    (void)state;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i / 65536 + (i * 2654435761u >> 28));
    write_file(from, bytes, len);
    request.compress = true;
    convert_file(from, packed, &request);
    file = read_file(packed, &file_len);
    at = load_be64(file + 40);                             /* the L1 table, */
    at = load_be64(file + at) & ~(UINT64_C(3) << 62);      /* the L2 table, */
    at = load_be64(file + at) & ((UINT64_C(1) << 54) - 1); /* the first cluster */
    assert_true(at > 0 && at + 64 < file_len);
    memset(file + at, 0xff, 64);
    write_file(packed, file, file_len);

    img = open_disk(packed, "qcow2", false);
    request.verify = true;
    FAILS(PL_E_CORRUPT, "compressed", pl_convert(&img, 1, to, &request, NULL, &e));
    request.verify = false;
    request.salvage = true;
    OK(pl_convert(&img, 1, to, &request, NULL, &e));
    memset(bytes, 0, 65536);
    shows(to, "qcow2", bytes, len);
    OK(pl_close(img, &e));
    free(file);
    free(from);
    free(packed);
    free(to);
    free(bytes);
}

/* ---- progress, cancelling, limits ---- */

struct seen {
    uint64_t done, total;
    unsigned calls;
    atomic_bool stop;
};

static void note_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct seen *seen = ctx;

    assert_true(done >= seen->done && done <= total);
    seen->done = done;
    seen->total = total;
    seen->calls++;
    if (seen->calls == 3)
        seen->stop = true;
}

static bool is_stopped(void *ctx)
{
    struct seen *seen = ctx;

    return seen->stop;
}

static void progress_grows_to_its_total(void **state)
{
    struct seen seen = { 0 };
    const struct pl_report report = { .ctx = &seen, .progress = note_progress };
    uint8_t *bytes = mixed_content(9 << 20, 1);
    struct pl_convert_options request = request_for("qcow2");
    char *from = test_tmp("from"), *to = test_tmp("to");

    (void)state;
    write_file(from, bytes, 9 << 20);
    request.report = &report;
    request.workers = 4;
    convert_file(from, to, &request);
    assert_int_equal(seen.done, 9 << 20);
    assert_int_equal(seen.total, 9 << 20);
    free(from);
    free(to);
    free(bytes);
}

static void cancelling_in_the_middle_leaves_nothing(void **state)
{
    static const char *const formats[] = { "raw", "qcow2" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(formats); i++) {
        struct seen seen = { 0 };
        const struct pl_report report = { .ctx = &seen,
                                          .progress = note_progress,
                                          .cancelled = is_stopped };
        uint8_t *bytes = mixed_content(9 << 20, 1);
        struct pl_convert_options request = request_for(formats[i]);
        char *from = test_tmp("from"), *to = test_tmp("cancelled");
        struct pl_image *img;
        unsigned before;

        write_file(from, bytes, 9 << 20);
        request.report = &report;
        img = open_disk(from, "raw", false);
        before = count_files();
        FAILS(PL_E_CANCELLED, "", pl_convert(&img, 1, to, &request, NULL, &e));
        assert_int_equal(count_files(), before);
        OK(pl_close(img, &e));
        free(from);
        free(to);
        free(bytes);
    }
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void the_rate_limit_counts_data_and_not_holes(void **state)
{
    uint8_t *bytes = mixed_content(3 << 20, 1);
    struct pl_convert_options request = request_for("raw");
    char *from = test_tmp("from"), *to = test_tmp("to");
    double began, took;

    (void)state;
    memset(bytes, 1, 3 << 20);
    write_file(from, bytes, 3 << 20);
    assert_int_equal(truncate(from, (off_t)1 << 40), 0);
    request.no_share = true;
    request.rate_limit = 6 << 20;
    began = seconds();
    convert_file(from, to, &request);
    took = seconds() - began;
    assert_true(took > 0.3 && took < 20);
    assert_int_equal(unlink(to), 0);
    free(from);
    free(to);
    free(bytes);
}

static void *stop_soon(void *arg)
{
    struct seen *seen = arg;

    usleep(300000);
    seen->stop = true;
    return NULL;
}

static void waiting_for_the_rate_limit_can_be_cancelled(void **state)
{
    struct seen seen = { 0 };
    const struct pl_report report = { .ctx = &seen, .cancelled = is_stopped };
    uint8_t *bytes = mixed_content(3 << 20, 1);
    struct pl_convert_options request = request_for("raw");
    char *from = test_tmp("from"), *to = test_tmp("cancelled");
    struct pl_image *img;
    pthread_t thread;
    double began;

    (void)state;
    write_file(from, bytes, 3 << 20);
    img = open_disk(from, "raw", false);
    request.report = &report;
    request.rate_limit = 1000;
    began = seconds();
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, &seen), 0);
    FAILS(PL_E_CANCELLED, "", pl_convert(&img, 1, to, &request, NULL, &e));
    assert_true(seconds() - began < 10);
    pthread_join(thread, NULL);
    OK(pl_close(img, &e));
    free(from);
    free(to);
    free(bytes);
}

/* ---- digests ---- */

static void the_digest_is_that_of_the_guests_bytes(void **state)
{
    const size_t len = (2 << 20) + 1536;
    uint8_t *bytes = mixed_content(len, 4), raw[EVP_MAX_MD_SIZE];
    struct pl_convert_options request = request_for("qcow2");
    struct pl_convert_result result;
    char *from = test_tmp("from"), *to = test_tmp("to"), text[2 * EVP_MAX_MD_SIZE + 1];
    char again[130];
    struct pl_image *img;
    unsigned raw_len;

    (void)state;
    assert_int_equal(EVP_Digest(bytes, len, raw, &raw_len, EVP_sha256(), NULL), 1);
    for (unsigned i = 0; i < raw_len; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", raw[i]);
    write_file(from, bytes, len);
    img = open_disk(from, "raw", false);
    request.checksum = "sha256";
    request.verify = true;
    OK(pl_convert(&img, 1, to, &request, &result, &e));
    assert_string_equal(result.checksum, text);
    OK(pl_checksum(img, "sha256", again, NULL, &e));
    assert_string_equal(again, text);
    FAILS(PL_E_INVALID, "crc", pl_checksum(img, "crc", again, NULL, &e));
    OK(pl_close(img, &e));
    free(from);
    free(to);
    free(bytes);
}

/* ---- refusals before any work ---- */

static void requests_that_cannot_work_are_refused_at_once(void **state)
{
    struct pl_convert_options request = request_for("qcow2");
    struct seen seen = { 0 };
    const struct pl_report report = { .ctx = &seen, .progress = note_progress };
    char *from = test_tmp("from"), *to = test_tmp("refused");
    struct pl_image *img;

    (void)state;
    write_file(from, "0123456789abcdef", 16);
    img = open_disk(from, "raw", false);
    request.report = &report;
    FAILS(PL_E_INVALID, "no input", pl_convert(&img, 0, to, &request, NULL, &e));
    FAILS(PL_E_INVALID, "one of the inputs", pl_convert(&img, 1, from, &request, NULL, &e));
    request.target_is_zero = true;
    FAILS(PL_E_INVALID, "-n", pl_convert(&img, 1, to, &request, NULL, &e));
    request.target_is_zero = false;
    request.checksum = "crc";
    FAILS(PL_E_INVALID, "crc", pl_convert(&img, 1, to, &request, NULL, &e));
    request.checksum = NULL;
    request.bitmaps = true;
    FAILS(PL_E_UNSUPPORTED, "bitmap", pl_convert(&img, 1, to, &request, NULL, &e));
    assert_int_equal(seen.calls, 0);
    assert_int_equal(access(to, F_OK), -1);
    OK(pl_close(img, &e));
    free(from);
    free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_target_holds_disks_of_any_size),
        cmocka_unit_test(inputs_follow_each_other_wherever_their_ends_are),
        cmocka_unit_test(compressed_inputs_are_taken_over_or_packed_again),
        cmocka_unit_test(compressed_zeros_are_not_taken_over),
        cmocka_unit_test(an_existing_larger_target_keeps_what_lies_behind),
        cmocka_unit_test(an_existing_smaller_target_is_refused),
        cmocka_unit_test(over_a_parent_only_differences_are_stored),
        cmocka_unit_test(an_image_is_not_created_over_its_own_parent),
        cmocka_unit_test(damaged_units_are_noticed),
        cmocka_unit_test(progress_grows_to_its_total),
        cmocka_unit_test(cancelling_in_the_middle_leaves_nothing),
        cmocka_unit_test(the_rate_limit_counts_data_and_not_holes),
        cmocka_unit_test(waiting_for_the_rate_limit_can_be_cancelled),
        cmocka_unit_test(the_digest_is_that_of_the_guests_bytes),
        cmocka_unit_test(requests_that_cannot_work_are_refused_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
