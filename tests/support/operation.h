/* operation.h - operations on whole disks, as a user starts them, and what must be seen of the
 * disks when one is interrupted.
 *
 * operations.c has the table.  A trial is one row with one format: a folder is set up, the program
 * does the operation, and the disks as they were before and after are kept, to compare with. */
#ifndef TESTS_SUPPORT_OPERATION_H
#define TESTS_SUPPORT_OPERATION_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/support/folder.h"

#define VIEW_COUNT 6

/* What an interrupted operation may show of a disk. */
enum view_rule {
    VIEW_WHOLE,   /* the old state or the new one, where one of the two may be "not there" */
    VIEW_SAME,    /* the old state, which is the new one, too */
    VIEW_SECTORS, /* of each sector the old state or the new one */
    VIEW_GOING,   /* anything until it is gone */
};

struct view {
    const char *path;     /* null: no further view */
    const char *snapshot; /* an internal one; null: the disk */
    enum view_rule rule;
    bool aside; /* the operation does not open it, so it may be in use meanwhile */
};

struct operation {
    const char *name;
    const char *formats; /* separated by blanks: FORMAT or FORMAT:OPTIONS, one trial each */
    /* Shell commands that make the start; with the variables and functions of trial.c. */
    const char *setup;
    /* What is tried: the arguments of the program, or after "guest " those of the program guest. */
    const char *command;
    /* Shell commands: what a hint tells the user to do before it is done again; null: nothing. */
    const char *clear_up;
    struct view views[VIEW_COUNT]; /* the first is the disk that the operation is about */
    bool damaged;          /* check finds faults of the start; they are gone in the end ... */
    bool ends_damaged;     /* ... unless this says that they are not */
    bool next_write_mends; /* done again, it need not open what it had finished with already */
    bool opens_again;      /* interrupted, it need not open until the operation was done again */
    bool new_disk; /* the first view's file is not there before, or is replaced whatever it is */
};

extern const struct operation operations[];
extern const size_t operation_count;

/* A disk as it was seen. */
struct look {
    bool there[VIEW_COUNT];
    struct pages disk[VIEW_COUNT];
};

/* What is wrong; empty: nothing is. */
struct problem {
    char text[1200];
};

struct trial {
    const struct operation *op;
    size_t number, count; /* of all trials */
    char *name, *format, *options;
    char *fast;   /* a folder in memory where there is one, for what needs not survive */
    char *home;   /* a folder on a real file system, with what follows in it */
    char *folder; /* ... where the operation was done */
    char *log;    /* ... what it did, see record.h */
    struct folder start, end;
    struct look old, new;
};

/* How a run of the operation is disturbed; all zero: not at all. */
struct disturbance {
    const char *log;   /* record to this file */
    const char *fault; /* RECORD_FAULT */
    bool reads;        /* RECORD_READS */
    unsigned kill_us;  /* kill -9 after so many microseconds */
};

/* Runs `test`, whose state is a struct trial, as a cmocka test for each trial whose name contains
 * what OPERATIONS in the environment says, if it says something.  The number of failures. */
int trials_run(const char *name, void (*test)(void **state));

/* Sets up, records the operation, looks at the disks before and after; trial_end removes all. */
void trial_begin(struct trial *trial);
void trial_end(struct trial *trial);

/* Puts the start back into trial->folder, and the new numbers of its files into trial->start. */
void trial_restart(struct trial *trial);

/* Does the operation again in `folder`.  The exit status, 128 + the signal that ended it; what it
 * said on standard error is in *said, the caller's to free. */
int trial_run(const struct trial *trial, const char *folder, const struct disturbance *how,
              char **said);

/* Runs a shell command with the variables of a trial. */
int trial_shell(const struct trial *trial, const char *folder, const char *command);

/* Looks at every disk of the operation.  False: one that is there cannot be read. */
bool look_at(const struct trial *trial, const char *folder, struct look *look,
             struct problem *problem);
void look_free(struct look *look);

/* Whether that may be seen between two states. */
bool look_allowed(const struct trial *trial, const struct look *seen, const struct look *old,
                  const struct look *new, struct problem *problem);

/* Whether check finds nothing but leaks in any image of the operation, and, but for the first
 * `mended` views, what the format cannot avoid when it is interrupted. */
bool look_sound(const struct trial *trial, const char *folder, size_t mended,
                struct problem *problem);

/* Whether the first disk can be opened for writing, and takes and keeps a write, beside which
 * nothing changes. */
bool look_writable(const struct trial *trial, const char *folder, const struct look *seen,
                   struct problem *problem);

/* All that must hold of a folder after the operation was interrupted there: allowed, and sound. */
bool trial_holds(const struct trial *trial, const char *folder, struct problem *problem);

/* The operation done again ends in the new state. */
bool trial_finishes(const struct trial *trial, const char *folder, struct problem *problem);

/* Puts the text before a problem.  Returns false. */
bool problem_in(struct problem *problem, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
