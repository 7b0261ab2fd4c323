/* trial.c - see operation.h: the folders of a trial, and runs of the program in them.
 *
 * Shell text has $F, the format, $WITH, its options, and these functions: `p`, the program;
 * `guest`, the program of tests/programs; `new FILE SIZE [ARGUMENTS]`, an empty disk of the
 * format; `poke FILE OFFSET BYTES`, which overwrites. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/operation.h"

#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/programs.h"

#define LIMIT_SECONDS 60

static const char prelude[] =
    "set -e\n"
    "p() { \"$PLATTER\" \"$@\"; }\n"
    "guest() { \"$GUEST\" \"$@\"; }\n"
    "new() { made=$1 bytes=$2; shift 2; p create -q -f $F $WITH \"$@\" $made $bytes; }\n"
    "poke() { printf \"$3\" | dd of=$1 bs=1 seek=$(($2)) conv=notrunc status=none; }\n";

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
    va_list ap;
    char *made;

    va_start(ap, fmt);
    if (vasprintf(&made, fmt, ap) < 0)
        abort();
    va_end(ap);
    return made;
}

/* ---- which trials ---- */

static void add_trial(struct trial **trials, size_t *count, const struct operation *op,
                      const char *format)
{
    const char *wanted = getenv("OPERATIONS");
    const size_t len = strcspn(format, ":");
    struct trial new = { .op = op, .name = text("%s: %s", op->name, format) };

    if (wanted && !strstr(new.name, wanted)) {
        free(new.name);
        return;
    }
    new.format = strndup(format, len);
    new.options = strdup(format[len] ? format + len + 1 : "");
    *trials = realloc(*trials, (*count + 1) * sizeof **trials);
    if (!*trials)
        abort();
    (*trials)[(*count)++] = new;
}

static struct trial *trials_new(size_t *count)
{
    struct trial *trials = NULL;

    *count = 0;
    for (size_t i = 0; i < operation_count; i++) {
        PL_FREE char *formats = strdup(operations[i].formats);
        char *rest = NULL;

        for (char *f = strtok_r(formats, " ", &rest); f; f = strtok_r(NULL, " ", &rest))
            add_trial(&trials, count, &operations[i], f);
    }
    return trials;
}

static void trials_free(struct trial *trials, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(trials[i].name);
        free(trials[i].format);
        free(trials[i].options);
    }
    free(trials);
}

static char *fast_folder(void)
{
    char made[] = "/dev/shm/platter-test.XXXXXX";

    return mkdtemp(made) ? strdup(made) : test_tmp("fast");
}

int trials_run(const char *name, void (*test)(void **state))
{
    size_t count;
    struct trial *trials = trials_new(&count);
    PL_FREE struct CMUnitTest *tests = calloc(count + 1, sizeof *tests);
    PL_FREE char *fast = fast_folder();
    int failed;

    if (!tests)
        abort();
    for (size_t i = 0; i < count; i++) {
        trials[i].number = i, trials[i].count = count;
        trials[i].fast = fast;
        tests[i] = (struct CMUnitTest){ .name = trials[i].name,
                                        .test_func = test,
                                        .initial_state = &trials[i] };
    }
    failed = _cmocka_run_group_tests(name, tests, count, NULL, NULL);
    run_quietly("rm -rf '%s'", fast);
    trials_free(trials, count);
    return failed;
}

/* ---- running ---- */

/* The build folder of the plain program, with the programs of the tests. */
static char *built(const char *name)
{
    const char *o = getenv("O");

    PL_FREE char *inside = text("%s/%s", o ? o : "build", name);

    return inside[0] == '/' ? pl_take(inside) : test_source(inside);
}

static void set(const char *name, char *value)
{
    if (setenv(name, value, 1) < 0)
        abort();
    free(value);
}

/* In the child, before the shell takes over. */
static void prepare_child(const struct trial *trial, const char *folder,
                          const struct disturbance *how)
{
    set("PLATTER", getenv("PLATTER") ? text("%s", getenv("PLATTER")) : built("platter"));
    set("GUEST", built("tests/programs/guest"));
    set("TOOLS", test_source("tests/support"));
    set("F", text("%s", trial->format));
    set("WITH", text("%s%s", trial->options[0] ? "-o " : "", trial->options));
    if (how->log)
        set("RECORD_LOG", text("%s", how->log));
    if (how->fault)
        set("RECORD_FAULT", text("%s", how->fault));
    if (how->reads)
        set("RECORD_READS", text("1"));
    if (how->log || how->fault) {
        set("RECORD_FOLDER", realpath(folder, NULL));
        set("LD_PRELOAD", built("tests/programs/record.so"));
    }
    if (chdir(folder) < 0)
        _exit(126);
    alarm(LIMIT_SECONDS);
}

static int status_of(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            abort();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs shell text; what it says goes to the file `said`. */
static int run(const struct trial *trial, const char *folder, const char *command,
               const struct disturbance *how, const char *said)
{
    const pid_t pid = fork();

    if (pid < 0)
        abort();
    if (pid == 0) {
        const int out = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        const int in = open("/dev/null", O_RDWR);

        dup2(in, 0), dup2(in, 1), dup2(out, 2);
        close(in), close(out);
        prepare_child(trial, folder, how);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (how->kill_us) {
        usleep(how->kill_us);
        kill(pid, SIGKILL);
    }
    return status_of(pid);
}

/* What a file says, in one line. */
static char *content_of(const char *path)
{
    FILE *f = fopen(path, "r");
    char *bytes = calloc(1, 4096);

    if (f && bytes && fread(bytes, 1, 4095, f) == 0)
        bytes[0] = '\0';
    if (f)
        fclose(f);
    for (char *lf = bytes; lf && (lf = strchr(lf, '\n'));)
        *lf = '|';
    return bytes;
}

int trial_run(const struct trial *trial, const char *folder, const struct disturbance *how,
              char **said)
{
    static const char guest[] = "guest ";
    const bool is_guest = strncmp(trial->op->command, guest, strlen(guest)) == 0;
    PL_FREE char *file = text("%s/said", trial->home);
    PL_FREE char *command = text("exec \"$%s\" %s", is_guest ? "GUEST" : "PLATTER",
                                 trial->op->command + (is_guest ? strlen(guest) : 0));
    const int status = run(trial, folder, command, how, file);

    if (said)
        *said = content_of(file);
    return status;
}

int trial_shell(const struct trial *trial, const char *folder, const char *command)
{
    const struct disturbance none = { 0 };
    PL_FREE char *whole = text("%s%s", prelude, command);
    PL_FREE char *file = text("%s/said", trial->home);

    return run(trial, folder, whole, &none, file);
}

/* ---- a trial ---- */

static void look_or_fail(const struct trial *trial, struct look *look)
{
    struct problem problem = { "" };

    if (!look_at(trial, trial->folder, look, &problem))
        fail_msg("%s: undisturbed: %s", trial->name, problem.text);
}

/* Makes the start, where that is quick, and puts it where the operation will be done. */
static void set_up(struct trial *trial)
{
    int status;

    folder_store(&trial->start, trial->fast);
    status = trial_shell(trial, trial->fast, trial->op->setup);
    if (status != 0) {
        PL_FREE char *file = text("%s/said", trial->home);

        fail_msg("%s: setting up ends with status %d: %s", trial->name, status, content_of(file));
    }
    folder_load(&trial->start, trial->fast);
    trial_restart(trial);
}

void trial_restart(struct trial *trial)
{
    folder_store(&trial->start, trial->folder);
    folder_free(&trial->start);
    folder_load(&trial->start, trial->folder);
}

void trial_begin(struct trial *trial)
{
    struct disturbance recorded = { 0 };
    PL_FREE char *said = NULL;
    int status;

    trial->home = test_tmp("trial");
    trial->folder = text("%s/disks", trial->home);
    trial->log = text("%s/log", trial->home);
    recorded.log = trial->log;
    run_quietly("rm -rf '%s' && mkdir -p '%s'", trial->home, trial->folder);
    set_up(trial);
    look_or_fail(trial, &trial->old);
    status = trial_run(trial, trial->folder, &recorded, &said);
    if (status != 0)
        fail_msg("%s: undisturbed, it ends with status %d: %s", trial->name, status, said);
    folder_load(&trial->end, trial->folder);
    if (folder_hash(&trial->start) == folder_hash(&trial->end))
        fail_msg("%s: undisturbed, it changes nothing", trial->name);
    look_or_fail(trial, &trial->new);
}

void trial_end(struct trial *trial)
{
    folder_free(&trial->start);
    folder_free(&trial->end);
    look_free(&trial->old);
    look_free(&trial->new);
    run_quietly("rm -rf '%s'", trial->home);
    free(trial->home);
    free(trial->folder);
    free(trial->log);
}

bool trial_holds(const struct trial *trial, const char *folder, struct problem *problem)
{
    struct look seen;
    bool holds;

    if (trial->op->opens_again)
        return true;
    holds = look_at(trial, folder, &seen, problem) &&
            look_allowed(trial, &seen, &trial->old, &trial->new, problem) &&
            (trial->op->damaged || look_sound(trial, folder, 0, problem));

    look_free(&seen);
    return holds;
}

/* Done again, and once more after what the hint says where there is one. */
static int run_again(const struct trial *trial, const char *folder, char **said)
{
    const struct disturbance none = { 0 };
    const int status = trial_run(trial, folder, &none, said);

    if (status != 1 || !trial->op->clear_up || !strstr(*said, "hint: "))
        return status;
    free(*said);
    trial_shell(trial, folder, trial->op->clear_up);
    return trial_run(trial, folder, &none, said);
}

bool trial_finishes(const struct trial *trial, const char *folder, struct problem *problem)
{
    PL_FREE char *said = NULL;
    const int status = run_again(trial, folder, &said);
    const size_t mended = trial->op->next_write_mends ? 0 : VIEW_COUNT;
    struct look seen;
    bool holds = look_at(trial, folder, &seen, problem) &&
                 look_allowed(trial, &seen, &trial->new, &trial->new, problem) &&
                 (trial->op->ends_damaged || look_sound(trial, folder, mended, problem));

    look_free(&seen);
    if (holds && status > 1)
        holds = problem_in(problem, "status %d", status);
    return holds || problem_in(problem, "done again (status %d, %.200s)", status, said);
}
