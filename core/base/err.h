/* err.h - error objects: what was attempted, where, why, and what to do about it.
 *
 * The caller owns the object and clears nothing: a function that fails fills it, one that succeeds
 * leaves it alone.  Reporting uses no heap, so it cannot fail itself.  The bottom layer gives the
 * values, each layer above adds what only it knows (pl_within), the top names the file.  Only the
 * program prints. */
#ifndef PL_CORE_BASE_ERR_H
#define PL_CORE_BASE_ERR_H

/* Marks what libplatter.so exports. */
#define PL_API __attribute__((visibility("default")))
/* Marks a result that must be looked at. */
#define PL_CHECK __attribute__((warn_unused_result))

/* What a program may branch on.  Stable: values are only ever added at the end. */
enum pl_kind {
    PL_OK = 0,
    PL_E_SYS,         /* a system call failed: see .sys */
    PL_E_NOMEM,       /* out of memory */
    PL_E_CORRUPT,     /* the image contradicts itself or its format */
    PL_E_UNSUPPORTED, /* the format or this driver cannot do that */
    PL_E_LIMIT,       /* outside a limit: of the format, of the disk, of this program */
    PL_E_INVALID,     /* the caller's argument is wrong */
    PL_E_POLICY,      /* refused by the rules for files that an image names */
    PL_E_LOCKED,      /* somebody else has the image open */
    PL_E_NOT_FOUND,   /* no such file, snapshot, bitmap ... */
    PL_E_EXISTS,      /* it is there already */
    PL_E_NO_SPACE,    /* the host file system is full, or a file size limit was hit */
    PL_E_FORMAT,      /* the file is not of the format asked for */
    PL_E_CANCELLED,   /* the caller's progress callback asked to stop */
    PL_E_MISMATCH,    /* contents differ where they must be equal */
};

struct pl_err {
    enum pl_kind kind;
    int sys;        /* errno of the failed call, 0 if none */
    char msg[480];  /* where: what, why (grows outward, one prefix a layer) */
    char hint[200]; /* what the user can do about it; may be empty */
};

#define PL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Fills *e and returns -1, always: `return pl_fail(e, ...);`.  e may be null.  Clears the hint. */
PL_API int pl_fail(struct pl_err *e, enum pl_kind kind, const char *fmt, ...) PL_PRINTF(3, 4);

/* Like pl_fail for a failed system call: appends ": " and the text of `sys`, and picks the kind
 * from it (ENOSPC, EDQUOT, EFBIG: PL_E_NO_SPACE; ENOENT: PL_E_NOT_FOUND; EEXIST: PL_E_EXISTS;
 * ENOMEM: PL_E_NOMEM; else PL_E_SYS). */
PL_API int pl_fail_sys(struct pl_err *e, int sys, const char *fmt, ...) PL_PRINTF(3, 4);

/* Puts "fmt: " before the message of *e, unless it begins with that already.  Returns -1.  Text
 * that no longer fits is cut at the end. */
PL_API int pl_within(struct pl_err *e, const char *fmt, ...) PL_PRINTF(2, 3);

/* Sets the hint of *e.  Returns -1. */
PL_API int pl_hint(struct pl_err *e, const char *fmt, ...) PL_PRINTF(2, 3);

/* The stable name of a kind, as in JSON: "sys", "nomem", "corrupt", "unsupported" ... */
PL_API const char *pl_kind_name(enum pl_kind kind);

/* The analyzer, which looks at one file at a time, is told what they return.  err.c, which defines
 * them, undoes it. */
#ifdef __clang_analyzer__
#define pl_fail(...) (pl_fail(__VA_ARGS__), -1)
#define pl_fail_sys(...) (pl_fail_sys(__VA_ARGS__), -1)
#define pl_within(...) (pl_within(__VA_ARGS__), -1)
#define pl_hint(...) (pl_hint(__VA_ARGS__), -1)
#endif

#endif
