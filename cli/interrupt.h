/* interrupt.h - SIGINT, SIGTERM and SIGHUP ask the work to stop; a signal is noticed, never
 * handled in a handler.
 *
 * The signals are blocked in every thread and one thread waits for them.  The first one is
 * remembered; work that asks (interrupt_pending) stops and removes what it made.  The process dies
 * of the signal after all when a second one comes, or when nobody asks within a short time: such
 * work has nothing to remove.  A signal that was ignored when the program started stays ignored
 * (nohup).  SIGUSR1 asks for a line of progress. */
#ifndef PL_CLI_INTERRUPT_H
#define PL_CLI_INTERRUPT_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

struct interrupt {
    sigset_t signals;   /* set at start, then constant */
    pthread_t thread;   /* the same */
    bool started;       /* the same: there is a thread */
    atomic_int number;  /* the first signal that came, 0: none */
    atomic_bool asked;  /* the work has seen it */
    atomic_bool report; /* SIGUSR1 came and was not answered yet */
};

/* Blocks the signals and starts the thread.  Call it before any other thread exists.  Where a
 * thread cannot be had the signals keep their usual effect.  *in must not move afterwards. */
void interrupt_start(struct interrupt *in);

/* Ends the thread; the signals stay blocked.  Call it before *in goes away. */
void interrupt_stop(struct interrupt *in);

/* Whether a signal asked to stop.  Any thread. */
bool interrupt_pending(struct interrupt *in);

/* The signal that came, 0: none. */
int interrupt_signal(struct interrupt *in);

/* Whether SIGUSR1 came since the last call. */
bool interrupt_report_wanted(struct interrupt *in);

#endif
