#include "cli/interrupt.h"

#include <time.h>
#include <unistd.h>

/* A read that waits for a pipe, or a command without a point to stop at, is given this long. */
#define GRACE_SECONDS 2

/* Ends the process as the signal would have done. */
static void die_of(int number)
{
    sigset_t one;

    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    kill(getpid(), number);
    _exit(1);
}

static void first_signal(struct interrupt *in, int number)
{
    const struct timespec grace = { .tv_sec = GRACE_SECONDS };
    int again;

    atomic_store(&in->number, number);
    do {
        again = sigtimedwait(&in->signals, NULL, &grace);
        if (again > 0 && again != SIGUSR1)
            die_of(again);
    } while (again > 0);
    if (!atomic_load(&in->asked))
        die_of(number);
}

static void *watch(void *ctx)
{
    struct interrupt *in = ctx;

    for (;;) {
        int number = sigwaitinfo(&in->signals, NULL);

        if (number == SIGUSR1)
            atomic_store(&in->report, true);
        else if (number > 0 && atomic_load(&in->number))
            die_of(number);
        else if (number > 0)
            first_signal(in, number);
    }
    return NULL;
}

static void collect_signals(sigset_t *signals)
{
    static const int wanted[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1 };
    struct sigaction action;

    sigemptyset(signals);
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (sigaction(wanted[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(signals, wanted[i]);
}

void interrupt_start(struct interrupt *in)
{
    atomic_init(&in->number, 0);
    atomic_init(&in->asked, false);
    atomic_init(&in->report, false);
    collect_signals(&in->signals);
    pthread_sigmask(SIG_BLOCK, &in->signals, NULL);
    in->started = pthread_create(&in->thread, NULL, watch, in) == 0;
    if (!in->started)
        pthread_sigmask(SIG_UNBLOCK, &in->signals, NULL);
}

void interrupt_stop(struct interrupt *in)
{
    if (!in->started)
        return;
    pthread_cancel(in->thread); /* it waits for signals: a point at which it can be cancelled */
    pthread_join(in->thread, NULL);
    in->started = false;
}

bool interrupt_pending(struct interrupt *in)
{
    if (!atomic_load(&in->number))
        return false;
    atomic_store(&in->asked, true);
    return true;
}

int interrupt_signal(struct interrupt *in)
{
    return atomic_load(&in->number);
}

bool interrupt_report_wanted(struct interrupt *in)
{
    return atomic_load(&in->report) && atomic_exchange(&in->report, false);
}
