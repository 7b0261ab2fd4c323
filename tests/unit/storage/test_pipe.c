#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "tests/unit/storage/storages.h"

/* The other end of a pipe. */
struct other {
    int fd;
    uint8_t got[300000];
    size_t len;
};

static void *read_all(void *arg)
{
    struct other *o = arg;
    ssize_t n;

    while ((n = read(o->fd, o->got + o->len, sizeof o->got - o->len)) > 0)
        o->len += (size_t)n;
    close(o->fd);
    return NULL;
}

static void *write_in_drops(void *arg)
{
    struct other *o = arg;

    for (size_t done = 0; done < o->len; done += 1000) {
        if (write(o->fd, o->got + done, 1000) != 1000)
            abort();
        if (done % 50000 == 0)
            usleep(1000);
    }
    close(o->fd);
    return NULL;
}

static struct other *new_other(struct pl_storage **st, bool written)
{
    struct other *o = calloc(1, sizeof *o);
    int fd[2];

    assert_int_equal(pipe(fd), 0);
    o->fd = fd[written ? 0 : 1];
    OK(pl_file_storage(fd[written ? 1 : 0], NULL, written, st, &e));
    assert_true((*st)->sequential);
    return o;
}

static void gaps_are_filled_and_the_promised_size_is_kept(void **state)
{
    struct pl_storage *st;
    struct other *o = new_other(&st, true);
    uint8_t *wanted = calloc(1, 250000);
    pthread_t thread;

    (void)state;
    pthread_create(&thread, NULL, read_all, o);
    OK(pl_storage_resize(st, 250000, &e));
    assert_int_equal(pl_storage_size(st), 250000);
    write_pattern(st, 0, 1000, 1);
    write_pattern(st, 100000, 80000, 1);
    OK(pl_storage_zero(st, 180000, 20000, &e));
    OK(pl_storage_flush(st, &e));
    OK(pl_storage_close(st, &e));
    pthread_join(thread, NULL);
    pattern(wanted, 0, 1000, 1);
    pattern(wanted + 100000, 100000, 80000, 1);
    assert_int_equal(o->len, 250000);
    assert_memory_equal(o->got, wanted, 250000);
    free(wanted);
    free(o);
}

static void a_pipe_does_not_go_back(void **state)
{
    struct pl_storage *st;
    struct other *o = new_other(&st, true);

    (void)state;
    write_pattern(st, 0, 1000, 1);
    FAILS(PL_E_UNSUPPORTED, "written up to 0x3e8", pl_storage_write(st, 999, "x", 1, &e));
    FAILS(PL_E_UNSUPPORTED, "cannot end", pl_storage_resize(st, 999, &e));
    pl_storage_close(st, NULL);
    close(o->fd);
    free(o);
}

static void an_abandoned_pipe_is_not_padded(void **state)
{
    struct pl_storage *st;
    struct other *o = new_other(&st, true);

    (void)state;
    OK(pl_storage_resize(st, 100000, &e));
    write_pattern(st, 0, 10, 1);
    pl_storage_close(st, NULL);
    read_all(o);
    assert_int_equal(o->len, 10);
    free(o);
}

static void short_reads_make_a_whole_one(void **state)
{
    struct pl_storage *st;
    struct other *o = new_other(&st, false);
    uint8_t *found = malloc(200000), extra;
    pthread_t thread;

    (void)state;
    o->len = 200000;
    pattern(o->got, 0, o->len, 2);
    assert_true(pl_storage_size(st) == UINT64_MAX);
    pthread_create(&thread, NULL, write_in_drops, o);
    OK(pl_storage_read(st, 0, found, 1500, &e));
    FAILS(PL_E_UNSUPPORTED, "read up to 0x5dc", pl_storage_read(st, 0, found, 10, &e));
    OK(pl_storage_read(st, 1500, found + 1500, 198500, &e));
    pthread_join(thread, NULL);
    assert_memory_equal(found, o->got, 200000);
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(st, 200000, &extra, 1, &e));
    pl_storage_close(st, NULL);
    free(found);
    free(o);
}

static void a_descriptor_that_does_not_block_is_waited_for(void **state)
{
    struct pl_storage *st;
    struct other *o = new_other(&st, true);
    pthread_t thread;
    const int fd = pl_file_descriptor(st);

    (void)state;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    pthread_create(&thread, NULL, read_all, o);
    write_pattern(st, 0, 290000, 3);
    pl_storage_close(st, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(o->len, 290000);
    free(o);
}

static void a_reader_that_left_is_an_error(void **state)
{
    struct pl_storage *st;
    struct other *o = new_other(&st, true);
    void (*handler)(int) = signal(SIGPIPE, SIG_IGN);

    (void)state;
    close(o->fd);
    FAILS(PL_E_SYS, "Broken pipe", pl_storage_write(st, 0, "x", 1, &e));
    pl_storage_close(st, NULL);
    signal(SIGPIPE, handler);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_filled_and_the_promised_size_is_kept),
        cmocka_unit_test(a_pipe_does_not_go_back),
        cmocka_unit_test(an_abandoned_pipe_is_not_padded),
        cmocka_unit_test(short_reads_make_a_whole_one),
        cmocka_unit_test(a_descriptor_that_does_not_block_is_waited_for),
        cmocka_unit_test(a_reader_that_left_is_an_error),
    };

    return cmocka_run_group_tests_name("pipes", tests, NULL, NULL);
}
