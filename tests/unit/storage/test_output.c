#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/opener.h"
#include "core/storage/output.h"
#include "tests/unit/storage/storages.h"

/* Each test has a folder of its own. */
static int setup(void **state)
{
    char *path = test_tmp("out");

    *state = path;
    return mkdir(path, 0755);
}

static int teardown(void **state)
{
    char command[4096];

    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    free(*state);
    return system(command);
}

/* Entries of the test's folder, hidden ones too. */
static unsigned entries(const char *folder)
{
    DIR *dir = opendir(folder);
    unsigned count = 0;

    assert_non_null(dir);
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir))
        count += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static char *in(const char *folder, const char *name)
{
    char *path;

    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_content(const char *path, const char *text)
{
    char found[100] = "";
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    assert_true(fread(found, 1, sizeof found - 1, f) > 0);
    fclose(f);
    assert_string_equal(found, text);
}

static struct pl_output *begin(const char *path, const char *text)
{
    struct pl_output *output = NULL;

    OK(pl_output_begin(path, &output, &e));
    OK(pl_storage_write(pl_output_storage(output), 0, text, strlen(text), &e));
    return output;
}

static void a_new_file_appears_when_it_is_finished(void **state)
{
    char *path = in(*state, "new");
    struct pl_output *output;
    const mode_t mask = umask(027);
    struct stat status;

    output = begin(path, "new");
    assert_int_equal(access(path, F_OK), -1);
    assert_string_equal(pl_output_storage(output)->name, path);
    OK(pl_output_finish(output, &e));
    umask(mask);
    assert_content(path, "new");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(entries(*state), 1);
    free(path);
}

static void an_older_file_is_untouched_until_then(void **state)
{
    char *path = in(*state, "old");
    struct pl_output *output;
    struct stat status;

    put(path, "old");
    assert_int_equal(chmod(path, 0604), 0);
    output = begin(path, "new");
    assert_content(path, "old");
    OK(pl_output_finish(output, &e));
    assert_content(path, "new");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0604);
    assert_int_equal(entries(*state), 1);
    free(path);
}

static void root_keeps_the_owner(void **state)
{
    char *path = in(*state, "old");
    struct stat status;

    put(path, "old");
    if (geteuid() != 0 || chown(path, 12345, 23456) < 0)
        TEST_SKIP("only root can give files away");
    OK(pl_output_finish(begin(path, "new"), &e));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_uid, 12345);
    assert_int_equal(status.st_gid, 23456);
    free(path);
}

static void what_is_abandoned_leaves_nothing(void **state)
{
    char *path = in(*state, "old"), *other = in(*state, "new");

    put(path, "old");
    pl_output_abandon(begin(path, "new"));
    pl_output_abandon(begin(other, "new"));
    pl_output_abandon(NULL);
    assert_content(path, "old");
    assert_int_equal(entries(*state), 1);
    free(path);
    free(other);
}

static void a_killed_process_leaves_nothing(void **state)
{
    char *path = in(*state, "old");
    int status;
    pid_t pid;

    put(path, "old");
    pid = fork();
    if (pid == 0) {
        begin(path, "new");
        raise(SIGKILL);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_content(path, "old");
    assert_int_equal(entries(*state), 1);
    free(path);
}

static void a_full_disk_leaves_the_older_file(void **state)
{
    char *path = in(*state, "old");
    struct pl_output *output;
    struct rlimit limit, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    uint8_t buf[8192] = { 1 };

    put(path, "old");
    getrlimit(RLIMIT_FSIZE, &limit);
    small = (struct rlimit){ 4096, limit.rlim_max };
    output = begin(path, "new");
    setrlimit(RLIMIT_FSIZE, &small);
    FAILS(PL_E_NO_SPACE, path, pl_storage_write(pl_output_storage(output), 0, buf, sizeof buf, &e));
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, handler);
    pl_output_abandon(output);
    assert_content(path, "old");
    assert_int_equal(entries(*state), 1);
    free(path);
}

static void a_file_in_use_is_not_replaced(void **state)
{
    static const struct pl_opener opener;
    char *path = in(*state, "disk");
    struct pl_storage *reader;
    struct pl_output *output;

    put(path, "old");
    OK(pl_open_path(&opener, path, PL_READ, &reader, &e));
    FAILS(PL_E_LOCKED, "in use", pl_output_begin(path, &output, &e));
    pl_storage_close(reader, NULL);
    output = begin(path, "new");
    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, path, PL_READ, &reader, &e));
    OK(pl_output_finish(output, &e));
    OK(pl_open_path(&opener, path, PL_READ, &reader, &e));
    pl_storage_close(reader, NULL);
    free(path);
}

static void a_file_that_may_not_be_written_is_not_replaced(void **state)
{
    char *back = getcwd(NULL, 0);
    const bool root = geteuid() == 0;
    struct pl_output *output;

    assert_int_equal(chdir(*state), 0);
    put("old", "old");
    assert_int_equal(chmod("old", 0444), 0);
    assert_true(!root || seteuid(65534) == 0);
    FAILS(PL_E_SYS, "old: replacing it: Permission denied", pl_output_begin("old", &output, &e));
    assert_true(!root || seteuid(0) == 0);
    assert_int_equal(chdir(back), 0);
    free(back);
}

static void a_link_keeps_pointing_to_what_it_names(void **state)
{
    char *path = in(*state, "link"), *target = in(*state, "target");
    struct stat status;

    assert_int_equal(symlink("target", path), 0);
    for (int i = 0; i < 2; i++) { /* first the target is not there, then it is replaced */
        OK(pl_output_finish(begin(path, i ? "new" : "first"), &e));
        assert_content(target, i ? "new" : "first");
        assert_int_equal(lstat(path, &status), 0);
        assert_true(S_ISLNK(status.st_mode));
        assert_int_equal(entries(*state), 2);
    }
    free(path);
    free(target);
}

/* Through a link, which stays one. */
static void an_open_file_is_replaced_with_its_lock(void **state)
{
    static const struct pl_opener opener;
    char *path = in(*state, "link"), *target = in(*state, "target");
    struct pl_storage *st, *other;
    struct stat status;
    char found[4] = "";
    bool done;

    put(target, "old text");
    assert_int_equal(chmod(target, 0604), 0);
    assert_int_equal(symlink("target", path), 0);
    OK(pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    OK(pl_storage_replace(st, "new", 3, &done, &e));
    assert_true(done);
    assert_content(target, "new");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0604);
    assert_int_equal(entries(*state), 2);
    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, path, PL_READ, &other, &e));
    OK(pl_storage_write(st, 0, "N", 1, &e)); /* it is the new file's storage */
    assert_content(target, "New");
    OK(pl_storage_read(st, 0, found, 3, &e));
    assert_string_equal(found, "New");
    OK(pl_storage_close(st, &e));
    OK(pl_open_path(&opener, path, PL_READ, &other, &e));
    pl_storage_close(other, NULL);
    free(path);
    free(target);
}

static void an_open_file_that_cannot_be_replaced_is_kept(void **state)
{
    static const struct pl_opener opener;
    char *path = in(*state, "disk"), *moved = in(*state, "moved");
    struct pl_storage *st;
    bool done = true;

    put(path, "old");
    OK(pl_open_path(&opener, path, PL_READ, &st, &e));
    FAILS(PL_E_INVALID, "reading only", pl_storage_replace(st, "new", 3, &done, &e));
    assert_false(done);
    pl_storage_close(st, NULL);
    OK(pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    assert_int_equal(rename(path, moved), 0);
    FAILS(PL_E_NOT_FOUND, "disk", pl_storage_replace(st, "new", 3, &done, &e));
    put(path, "another");
    FAILS(PL_E_INVALID, "another file now", pl_storage_replace(st, "new", 3, &done, &e));
    assert_false(done);
    assert_content(path, "another");
    assert_content(moved, "old");
    assert_int_equal(entries(*state), 2);
    pl_storage_close(st, NULL);
    free(path);
    free(moved);
}

static void a_name_taken_meanwhile_is_replaced(void **state)
{
    char *path = in(*state, "new");
    struct pl_output *output = begin(path, "new");

    put(path, "meanwhile");
    OK(pl_output_finish(output, &e));
    assert_content(path, "new");
    assert_int_equal(entries(*state), 1);
    free(path);
}

static void paths_that_cannot_be_are_told(void **state)
{
    char *missing = in(*state, "no/new"), *slash = in(*state, "new/"), *loop = in(*state, "loop");
    struct pl_output *output;

    FAILS(PL_E_NOT_FOUND, "its folder", pl_output_begin(missing, &output, &e));
    FAILS(PL_E_INVALID, "no file name", pl_output_begin(slash, &output, &e));
    FAILS(PL_E_INVALID, "no file name", pl_output_begin("", &output, &e));
    FAILS(PL_E_INVALID, "a folder", pl_output_begin(*state, &output, &e));
    assert_int_equal(symlink("loop", loop), 0);
    FAILS(PL_E_SYS, "symbolic links", pl_output_begin(loop, &output, &e));
    free(missing);
    free(slash);
    free(loop);
}

static void a_device_is_written_in_place(void **state)
{
    struct pl_output *output;
    struct stat status;

    (void)state;
    output = begin("/dev/null", "lost");
    assert_true(pl_output_storage(output)->sequential);
    OK(pl_output_finish(output, &e));
    assert_int_equal(stat("/dev/null", &status), 0);
    assert_true(S_ISCHR(status.st_mode));
}

static void a_dash_is_standard_output(void **state)
{
    const int kept = dup(1);
    struct pl_output *output;
    char got[20] = "";
    int fd[2];

    (void)state;
    assert_int_equal(pipe(fd), 0);
    dup2(fd[1], 1);
    output = begin("-", "through");
    OK(pl_output_finish(output, &e));
    assert_int_equal(write(1, "!", 1), 1); /* standard output itself is still open */
    dup2(kept, 1);
    close(kept);
    close(fd[1]);
    assert_int_equal(read(fd[0], got, sizeof got - 1), 8);
    assert_string_equal(got, "through!");
    close(fd[0]);
}

/* ---- file systems without O_TMPFILE: a filter makes it fail ---- */

static bool forbid_nameless_files(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = { PL_COUNT(code), code };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* The last test, for the filter stays. */
static void without_nameless_files_a_hidden_name_is_used(void **state)
{
    char *path = in(*state, "old"), *other = in(*state, "new");
    struct pl_output *output;
    struct stat status;

    if (!forbid_nameless_files())
        TEST_SKIP("filters for system calls are not to be had");
    put(path, "old");
    assert_int_equal(chmod(path, 0640), 0);
    output = begin(path, "new");
    assert_int_equal(entries(*state), 2);
    assert_content(path, "old");
    pl_output_abandon(output);
    assert_int_equal(entries(*state), 1);
    OK(pl_output_finish(begin(path, "new"), &e));
    OK(pl_output_finish(begin(other, "other"), &e));
    assert_content(path, "new");
    assert_content(other, "other");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(entries(*state), 2);
    free(path);
    free(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_file_appears_when_it_is_finished),
        TEST(an_older_file_is_untouched_until_then),
        TEST(root_keeps_the_owner),
        TEST(what_is_abandoned_leaves_nothing),
        TEST(a_killed_process_leaves_nothing),
        TEST(a_full_disk_leaves_the_older_file),
        TEST(a_file_in_use_is_not_replaced),
        TEST(a_file_that_may_not_be_written_is_not_replaced),
        TEST(a_link_keeps_pointing_to_what_it_names),
        TEST(an_open_file_is_replaced_with_its_lock),
        TEST(an_open_file_that_cannot_be_replaced_is_kept),
        TEST(a_name_taken_meanwhile_is_replaced),
        TEST(paths_that_cannot_be_are_told),
        TEST(a_device_is_written_in_place),
        TEST(a_dash_is_standard_output),
        /* last: its filter stays */
        TEST(without_nameless_files_a_hidden_name_is_used),
    };

    return cmocka_run_group_tests_name("new files", tests, NULL, NULL);
}
