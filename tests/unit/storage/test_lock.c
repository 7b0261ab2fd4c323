#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/storage/opener.h"
#include "tests/unit/storage/storages.h"

static const struct pl_opener opener, force_share = { .force_share = true };

static struct pl_storage *open_as(const char *path, enum pl_access access)
{
    struct pl_storage *st = NULL;

    OK(pl_open_path(&opener, path, access, &st, &e));
    return st;
}

static char *new_image(void)
{
    struct pl_storage *st = new_file("disk.raw");
    char *path = strdup(st->path);

    OK(pl_storage_resize(st, 1 << 20, &e));
    pl_storage_close(st, NULL);
    return path;
}

static void readers_share_and_writers_do_not(void **state)
{
    char *path = new_image();
    struct pl_storage *first = open_as(path, PL_READ), *second = open_as(path, PL_READ), *st;

    (void)state;
    FAILS(PL_E_LOCKED, "in use by this process",
          pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    pl_storage_close(first, NULL);
    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    pl_storage_close(second, NULL);
    first = open_as(path, PL_READ_WRITE);
    FAILS(PL_E_LOCKED, "disk.raw: in use", pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    FAILS(PL_E_LOCKED, "disk.raw: in use", pl_open_path(&opener, path, PL_READ, &st, &e));
    pl_storage_close(first, NULL);
    pl_storage_close(open_as(path, PL_READ), NULL);
    free(path);
}

static void an_open_that_failed_leaves_no_lock(void **state)
{
    char *path = new_image();
    struct pl_storage *reader = open_as(path, PL_READ), *st;

    (void)state;
    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    pl_storage_close(open_as(path, PL_READ), NULL);
    pl_storage_close(reader, NULL);
    pl_storage_close(open_as(path, PL_READ_WRITE), NULL);
    free(path);
}

static void force_share_neither_takes_nor_respects_locks(void **state)
{
    char *path = new_image();
    struct pl_storage *writer = open_as(path, PL_READ_WRITE), *spy;

    (void)state;
    OK(pl_open_path(&force_share, path, PL_READ, &spy, &e));
    pl_storage_close(writer, NULL);
    pl_storage_close(open_as(path, PL_READ_WRITE), NULL);
    pl_storage_close(spy, NULL);
    free(path);
}

static void a_lock_is_lowered_and_raised(void **state)
{
    char *path = new_image();
    struct pl_storage *st = open_as(path, PL_READ_WRITE), *reader, *other;

    (void)state;
    OK(pl_storage_relock(st, PL_READ, &e));
    reader = open_as(path, PL_READ);
    FAILS(PL_E_LOCKED, "in use", pl_storage_relock(st, PL_READ_WRITE, &e));
    other = open_as(path, PL_READ); /* the failed attempt left nothing that stops readers */
    pl_storage_close(other, NULL);
    FAILS(PL_E_INVALID, "reading only", pl_storage_relock(reader, PL_READ_WRITE, &e));
    pl_storage_close(reader, NULL);
    OK(pl_storage_relock(st, PL_READ_WRITE, &e));
    FAILS(PL_E_LOCKED, "in use", pl_open_path(&opener, path, PL_READ, &other, &e));
    pl_storage_close(st, NULL);
    free(path);
}

/* ---- against QEMU's tools ---- */

static bool have(const char *program)
{
    char command[100];

    snprintf(command, sizeof command, "command -v %s >/dev/null", program);
    return system(command) == 0;
}

/* An image in a format: where it is raw, QEMU's own readers do not mind writers. */
static char *new_qcow2(void)
{
    char *path = test_tmp("disk.qcow2"), command[4096];

    snprintf(command, sizeof command, "qemu-img create -q -f qcow2 '%s' 1M", path);
    assert_int_equal(system(command), 0);
    return path;
}

/* A qemu-io that has the image open, writable or not, until `*input` is closed. */
static pid_t start_qemu_io(const char *path, bool writable, FILE **input)
{
    int to[2], from[2];
    pid_t pid;
    char byte;

    assert_true(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
    pid = fork();
    if (pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        execlp("qemu-io", "qemu-io", "-f", "qcow2", writable ? path : "-r", writable ? NULL : path,
               (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    *input = fdopen(to[1], "w");
    /* once it answers, the image is open */
    fputs("length\n", *input);
    fflush(*input);
    assert_int_equal(read(from[0], &byte, 1), 1);
    close(from[0]);
    return pid;
}

static void stop(pid_t pid, FILE *input)
{
    kill(pid, SIGKILL);
    fclose(input);
    waitpid(pid, NULL, 0);
}

static void an_image_that_qemu_writes_is_refused_and_the_process_named(void **state)
{
    char *path, wanted[64];
    struct pl_storage *st;
    FILE *input;
    pid_t pid;

    (void)state;
    if (!have("qemu-io"))
        TEST_SKIP("qemu-io is not installed");
    path = new_qcow2();
    pid = start_qemu_io(path, true, &input);
    snprintf(wanted, sizeof wanted, "in use by process %d (qemu-io)", (int)pid);
    FAILS(PL_E_LOCKED, wanted, pl_open_path(&opener, path, PL_READ, &st, &e));
    FAILS(PL_E_LOCKED, wanted, pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    OK(pl_open_path(&force_share, path, PL_READ, &st, &e));
    pl_storage_close(st, NULL);
    stop(pid, input);
    pl_storage_close(open_as(path, PL_READ_WRITE), NULL);
    free(path);
}

static void an_image_that_qemu_reads_can_be_read(void **state)
{
    char *path;
    struct pl_storage *st;
    FILE *input;
    pid_t pid;

    (void)state;
    if (!have("qemu-io"))
        TEST_SKIP("qemu-io is not installed");
    path = new_qcow2();
    pid = start_qemu_io(path, false, &input);
    pl_storage_close(open_as(path, PL_READ), NULL);
    FAILS(PL_E_LOCKED, "(qemu-io)", pl_open_path(&opener, path, PL_READ_WRITE, &st, &e));
    stop(pid, input);
    free(path);
}

/* Whether `qemu-img COMMAND path` is stopped by a lock. */
static bool qemu_img_is_locked_out(const char *command, const char *path)
{
    char line[4096], output[4096];
    size_t len;
    FILE *pipe;

    snprintf(line, sizeof line, "qemu-img %s '%s' 2>&1", command, path);
    pipe = popen(line, "r");
    assert_non_null(pipe);
    len = fread(output, 1, sizeof output - 1, pipe);
    output[len] = '\0';
    return pclose(pipe) != 0 && strstr(output, "Failed to get") && strstr(output, "lock");
}

static void qemu_respects_our_locks(void **state)
{
    char *path;
    struct pl_storage *st;

    (void)state;
    if (!have("qemu-img"))
        TEST_SKIP("qemu-img is not installed");
    path = new_qcow2();
    st = open_as(path, PL_READ_WRITE);
    assert_true(qemu_img_is_locked_out("info", path));
    assert_true(qemu_img_is_locked_out("snapshot -c x", path));
    OK(pl_storage_relock(st, PL_READ, &e));
    assert_false(qemu_img_is_locked_out("info", path));
    assert_true(qemu_img_is_locked_out("snapshot -c x", path));
    pl_storage_close(st, NULL);
    assert_false(qemu_img_is_locked_out("info", path));
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_share_and_writers_do_not),
        cmocka_unit_test(an_open_that_failed_leaves_no_lock),
        cmocka_unit_test(force_share_neither_takes_nor_respects_locks),
        cmocka_unit_test(a_lock_is_lowered_and_raised),
        cmocka_unit_test(an_image_that_qemu_writes_is_refused_and_the_process_named),
        cmocka_unit_test(an_image_that_qemu_reads_can_be_read),
        cmocka_unit_test(qemu_respects_our_locks),
    };

    return cmocka_run_group_tests_name("locks", tests, NULL, NULL);
}
