#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/opener.h"
#include "tests/unit/storage/storages.h"

/* The test's folder holds
 *
 * image/disk           the image that names files image/base           a file beside it
 * image/sub/base     and one below image/link-in        -> base                image/link-out
 * -> ../other/base image/link-absolute  -> .../image/base      image/link-passwd  -> /etc/passwd
 * image/loop           -> loop                image/link-sub     -> ../other image/fifo,
 * image/socket, image/null (a device, when we may make one) other/base           a file
 * elsewhere       imagery/base       whose folder's name begins alike */
static struct pl_storage *disk;

static void make_file(const char *name)
{
    char *path = test_tmp(name);
    const int fd = open(path, O_WRONLY | O_CREAT, 0644);

    assert_true(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    free(path);
}

static void make_link(const char *name, const char *target)
{
    char *path = test_tmp(name);

    assert_int_equal(symlink(target, path), 0);
    free(path);
}

static void make_folder(const char *name)
{
    char *path = test_tmp(name);

    assert_int_equal(mkdir(path, 0755), 0);
    free(path);
}

static void make_node(const char *name, mode_t mode, dev_t device)
{
    char *path = test_tmp(name);

    (void)!mknod(path, mode, device);
    free(path);
}

static void make_links(void)
{
    char *base = test_tmp("image/base");

    make_link("image/link-in", "base");
    make_link("image/link-out", "../other/base");
    make_link("image/link-absolute", base);
    make_link("image/link-passwd", "/etc/passwd");
    make_link("image/loop", "loop");
    make_link("image/link-sub", "../other");
    make_link("image/dangling", "nothing");
    free(base);
}

static int make_tree(void **state)
{
    static const struct pl_opener opener;
    char *path = test_tmp("image/disk");

    (void)state;
    make_folder("image");
    make_folder("image/sub");
    make_folder("other");
    make_folder("imagery");
    make_file("image/disk");
    make_file("image/base");
    make_file("image/disk:1");
    make_file("image/sub/base");
    make_file("other/base");
    make_file("imagery/base");
    make_links();
    make_node("image/fifo", S_IFIFO | 0644, 0);
    make_node("image/socket", S_IFSOCK | 0644, 0);
    make_node("image/null", S_IFCHR | 0666, makedev(1, 3));
    OK(pl_open_path(&opener, path, PL_READ, &disk, &e));
    free(path);
    return 0;
}

static int close_tree(void **state)
{
    (void)state;
    return pl_storage_close(disk, NULL);
}

/* "@" in names and folders stands for the test's folder. */
static char *expand(const char *text)
{
    return text[0] == '@' ? test_tmp(text + 2) : strdup(text);
}

static const struct row {
    const char *what;
    const char *name;
    const char *allowed; /* a folder; null: none */
    enum pl_kind kind;   /* PL_OK: it is opened, and ends in `text`; else the message has it */
    const char *text;
} rows[] = {
    { "a file beside the image", "base", NULL, PL_OK, "image/base" },
    { "a dot in front", "./base", NULL, PL_OK, "image/./base" },
    { "a file in a folder below", "sub/base", NULL, PL_OK, "image/sub/base" },
    { "down and up again", "sub/../base", NULL, PL_OK, "image/sub/../base" },
    { "out and in again", "../image/base", NULL, PL_OK, "image/../image/base" },
    { "an absolute path inside the folder", "@/image/base", NULL, PL_OK, "image/base" },
    { "a link that stays inside", "link-in", NULL, PL_OK, "image/link-in" },
    { "an absolute link that stays inside", "link-absolute", NULL, PL_OK, "link-absolute" },
    { "a file that is not there", "nothing", NULL, PL_E_NOT_FOUND, "opening \"nothing\"" },
    { "the empty name", "", NULL, PL_E_POLICY, "without a name" },
    { "a file outside", "../other/base", NULL, PL_E_POLICY, "outside its folder" },
    { "a folder whose name begins alike", "../imagery/base", NULL, PL_E_POLICY, "outside" },
    { "far outside", "../../../../../../etc/passwd", NULL, PL_E_POLICY, "outside" },
    { "an absolute path outside", "/etc/passwd", NULL, PL_E_POLICY, "\"/etc/passwd\"" },
    { "an absolute path that is not there", "/nothing/there", NULL, PL_E_POLICY, "outside" },
    { "a link that leads out", "link-out", NULL, PL_E_POLICY, "outside" },
    { "an absolute link that leads out", "link-passwd", NULL, PL_E_POLICY, "outside" },
    { "a folder that leads out", "link-sub/base", NULL, PL_E_POLICY, "outside" },
    { "a link in a circle", "loop", NULL, PL_E_POLICY, "outside" },
    { "a link into the void", "dangling", NULL, PL_E_NOT_FOUND, "dangling" },
    { "a link of the kernel's", "/proc/self/exe", "/proc", PL_E_POLICY, "outside" },
    { "the folder itself", ".", NULL, PL_E_POLICY, "outside" },
    { "a folder below", "sub", NULL, PL_E_POLICY, "a folder" },
    { "a pipe", "fifo", NULL, PL_E_POLICY, "a pipe" },
    { "a socket", "socket", NULL, PL_E_POLICY, "not a file" },
    { "a device", "/dev/zero", NULL, PL_E_POLICY, "outside" },
    { "a character device that is allowed", "/dev/zero", "/dev", PL_E_POLICY, "a device" },
    { "a protocol", "nbd:localhost:10809", NULL, PL_E_POLICY, "\"nbd:\"" },
    { "options as a name", "json:{\"driver\":\"file\"}", NULL, PL_E_POLICY, "\"json:\"" },
    { "the protocol of files", "file:base", NULL, PL_E_POLICY, "\"file:\"" },
    { "an address", "https://example.com/x", NULL, PL_E_POLICY, "\"https:\"" },
    { "a prefix with signs", "fat+x.y-z:rw:/tmp", NULL, PL_E_POLICY, "\"fat+x.y-z:\"" },
    { "a colon that is a prefix's end", "disk:1", NULL, PL_E_POLICY, "\"disk:\"" },
    { "a colon behind a slash", "./disk:1", NULL, PL_OK, "image/./disk:1" },
    { "a protocol, whatever is allowed", "nbd:x", "/", PL_E_POLICY, "nbd:" },
    { "a file in an allowed folder", "../other/base", "@/other", PL_OK, "../other/base" },
    { "an absolute path there", "@/other/base", "@/other", PL_OK, "other/base" },
    { "a link into an allowed folder", "link-out", "@/other", PL_OK, "image/link-out" },
    { "through a link into one", "link-sub/base", "@/other", PL_OK, "link-sub/base" },
    { "an allowed folder that is a link", "../other/base", "@/image/link-sub", PL_OK, "base" },
    { "a file outside of both", "../imagery/base", "@/other", PL_E_POLICY, "outside" },
    { "the root allowed", "/etc/passwd", "/", PL_OK, "/etc/passwd" },
    { "a link out with the root allowed", "link-passwd", "/", PL_OK, "link-passwd" },
    { "an allowed folder that is not there", "link-out", "@/no", PL_E_POLICY, "outside" },
};

static void check_name(void **state)
{
    const struct row *r = *state;
    char *name = expand(r->name), *allowed = r->allowed ? expand(r->allowed) : NULL;
    const char *const folders[] = { allowed, NULL };
    const struct pl_opener opener = { .allowed = folders };
    struct pl_storage *st;
    size_t len;

    alarm(20); /* a fifo or a device must not hang */
    if (r->kind != PL_OK) {
        FAILS(r->kind, r->text, pl_open_named(&opener, disk, name, PL_READ, &st, &e));
    } else {
        OK(pl_open_named(&opener, disk, name, PL_READ, &st, &e));
        len = strlen(st->path);
        assert_true(len >= strlen(r->text));
        assert_string_equal(st->path + len - strlen(r->text), r->text);
        assert_true(pl_storage_size(st) > 0);
        assert_int_equal(fcntl(pl_file_descriptor(st), F_GETFL) & O_NONBLOCK, 0);
        pl_storage_close(st, NULL);
    }
    alarm(0);
    free(name);
    free(allowed);
}

static void the_hint_names_the_folder_to_allow(void **state)
{
    static const struct pl_opener opener;
    struct pl_storage *st;
    struct pl_err err;
    char *folder = test_tmp("other");

    (void)state;
    assert_int_equal(pl_open_named(&opener, disk, "../other/base", PL_READ, &st, &err), -1);
    assert_non_null(strstr(err.hint, "--allow-dir "));
    assert_non_null(strstr(err.hint, folder));
    assert_int_equal(pl_open_named(&opener, disk, "link-out", PL_READ, &st, &err), -1);
    assert_non_null(strstr(err.hint, folder));
    free(folder);
}

static void a_device_below_the_image_is_refused(void **state)
{
    static const struct pl_opener opener;
    char *path = test_tmp("image/null");
    struct stat stat_null;
    struct pl_storage *st;
    const int made = stat(path, &stat_null);

    (void)state;
    free(path);
    if (made != 0)
        TEST_SKIP("only root can make a device");
    FAILS(PL_E_POLICY, "a device", pl_open_named(&opener, disk, "null", PL_READ, &st, &e));
}

static void a_storage_without_a_path_has_no_folder(void **state)
{
    static const struct pl_opener opener;
    struct pl_storage by = *disk, *st;

    (void)state;
    by.path = NULL;
    FAILS(PL_E_POLICY, "no folder", pl_open_named(&opener, &by, "base", PL_READ, &st, &e));
    FAILS(PL_E_POLICY, "outside", pl_open_named(&opener, &by, "/etc/passwd", PL_READ, &st, &e));
}

static void names_are_seen_from_a_relative_image_too(void **state)
{
    static const struct pl_opener opener;
    struct pl_storage *by, *st;
    char *folder = test_tmp("image"), *back = getcwd(NULL, 0);

    (void)state;
    assert_int_equal(chdir(folder), 0);
    OK(pl_open_path(&opener, "disk", PL_READ, &by, &e));
    OK(pl_open_named(&opener, by, "base", PL_READ, &st, &e));
    assert_string_equal(st->path, "base");
    pl_storage_close(st, NULL);
    FAILS(PL_E_POLICY, "outside", pl_open_named(&opener, by, "../other/base", PL_READ, &st, &e));
    pl_storage_close(by, NULL);
    assert_int_equal(chdir(back), 0);
    free(folder);
    free(back);
}

static void a_new_file_is_made_beside_the_image(void **state)
{
    static const struct pl_opener opener;
    struct pl_storage *by, *st, *other;
    char *path = test_tmp("image/disk"), *made = test_tmp("image/new");
    struct stat status;

    (void)state;
    assert_int_equal(chmod(path, 0640), 0);
    OK(pl_open_path(&opener, path, PL_READ, &by, &e));
    OK(pl_create_named(by, "new", &st, &e));
    OK(pl_storage_write(st, 0, "x", 1, &e));
    assert_int_equal(stat(made, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, made, PL_READ, &other, &e));
    FAILS(PL_E_EXISTS, "new", pl_create_named(by, "new", &other, &e));
    FAILS(PL_E_EXISTS, "link-out", pl_create_named(by, "link-out", &other, &e));
    FAILS(PL_E_POLICY, "no name", pl_create_named(by, "../new", &other, &e));
    FAILS(PL_E_POLICY, "no name", pl_create_named(by, "sub/new", &other, &e));
    FAILS(PL_E_POLICY, "no name", pl_create_named(by, "", &other, &e));
    pl_remove_named(by, "base", st); /* another file */
    OK(pl_open_named(&opener, by, "base", PL_READ, &other, &e));
    pl_storage_close(other, NULL);
    pl_remove_named(by, "new", st);
    assert_int_equal(access(made, F_OK), -1);
    pl_storage_close(st, NULL);
    pl_storage_close(by, NULL);
    free(path);
    free(made);
}

static const struct user_row {
    const char *what, *path;
    enum pl_access access;
    enum pl_kind kind;
    const char *text;
} user_rows[] = {
    { "what the user names may be anywhere", "/etc/passwd", PL_READ, PL_OK, NULL },
    { "what the user names may be a link out", "@/image/link-out", PL_READ_WRITE, PL_OK, NULL },
    { "a file that is not there is told", "@/nothing", PL_READ, PL_E_NOT_FOUND, "/nothing: No su" },
    { "a folder is told", "@/image", PL_READ, PL_E_INVALID, "is a folder" },
    { "a folder is told before it is written", "@/image", PL_READ_WRITE, PL_E_INVALID, "a folder" },
    { "a character device is refused", "/dev/zero", PL_READ, PL_E_INVALID, "neither a file" },
    { "a pipe cannot be changed", "@/image/fifo", PL_READ_WRITE, PL_E_INVALID, "is a pipe" },
    { "the empty path is not found", "", PL_READ, PL_E_NOT_FOUND, "No such file" },
};

static void check_user_path(void **state)
{
    static const struct pl_opener opener;
    const struct user_row *r = *state;
    char *path = expand(r->path);
    struct pl_storage *st;

    alarm(20);
    if (r->kind == PL_OK) {
        OK(pl_open_path(&opener, path, r->access, &st, &e));
        assert_int_equal(st->writable, r->access == PL_READ_WRITE);
        pl_storage_close(st, NULL);
    } else {
        FAILS(r->kind, r->text, pl_open_path(&opener, path, r->access, &st, &e));
    }
    alarm(0);
    free(path);
}

static void writing_without_a_lock_is_refused(void **state)
{
    static const struct pl_opener opener = { .force_share = true };
    struct pl_storage *st;

    (void)state;
    FAILS(PL_E_INVALID, "lock", pl_open_path(&opener, disk->path, PL_READ_WRITE, &st, &e));
    FAILS(PL_E_INVALID, "lock", pl_open_named(&opener, disk, "base", PL_READ_WRITE, &st, &e));
}

/* The host refuses that for a program that runs. */
static void a_failure_tells_that_it_was_to_be_written(void **state)
{
    const struct pl_opener opener = { 0 };
    struct pl_storage *st;

    (void)state;
    FAILS(PL_E_SYS, "/proc/self/exe: opening it for writing: ",
          pl_open_path(&opener, "/proc/self/exe", PL_READ_WRITE, &st, &e));
}

static void a_pipe_that_the_user_names_is_read(void **state)
{
    static const struct pl_opener opener;
    char *path = test_tmp("image/fifo");
    const int writer = open(path, O_RDWR);
    struct pl_storage *st;
    uint8_t byte;

    (void)state;
    assert_true(writer >= 0 && write(writer, "x", 1) == 1);
    OK(pl_open_path(&opener, path, PL_READ, &st, &e));
    assert_true(st->sequential);
    OK(pl_storage_read(st, 0, &byte, 1, &e));
    assert_int_equal(byte, 'x');
    pl_storage_close(st, NULL);
    close(writer);
    free(path);
}

int main(void)
{
    struct CMUnitTest names[PL_COUNT(rows)], paths[PL_COUNT(user_rows)];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hint_names_the_folder_to_allow),
        cmocka_unit_test(a_device_below_the_image_is_refused),
        cmocka_unit_test(a_storage_without_a_path_has_no_folder),
        cmocka_unit_test(names_are_seen_from_a_relative_image_too),
        cmocka_unit_test(a_new_file_is_made_beside_the_image),
        cmocka_unit_test(writing_without_a_lock_is_refused),
        cmocka_unit_test(a_failure_tells_that_it_was_to_be_written),
        cmocka_unit_test(a_pipe_that_the_user_names_is_read),
    };
    int failed;

    for (size_t i = 0; i < PL_COUNT(rows); i++)
        names[i] = (struct CMUnitTest){ .name = rows[i].what,
                                        .test_func = check_name,
                                        .initial_state = (void *)&rows[i] };
    for (size_t i = 0; i < PL_COUNT(user_rows); i++)
        paths[i] = (struct CMUnitTest){ .name = user_rows[i].what,
                                        .test_func = check_user_path,
                                        .initial_state = (void *)&user_rows[i] };
    make_tree(NULL);
    failed = cmocka_run_group_tests_name("files that an image names", names, NULL, NULL);
    failed += cmocka_run_group_tests_name("paths that the user names", paths, NULL, NULL);
    failed += cmocka_run_group_tests_name("opening", tests, NULL, NULL);
    close_tree(NULL);
    return failed;
}
