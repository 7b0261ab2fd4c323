#include "core/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef pl_fail
#undef pl_fail_sys
#undef pl_within
#undef pl_hint

static void set_message(struct pl_err *e, enum pl_kind kind, int sys, const char *fmt, va_list ap)
{
    char msg[sizeof e->msg]; /* arguments may point into *e itself */

    vsnprintf(msg, sizeof msg, fmt, ap);
    e->kind = kind;
    e->sys = sys;
    e->hint[0] = '\0';
    memcpy(e->msg, msg, sizeof msg);
}

int pl_fail(struct pl_err *e, enum pl_kind kind, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return -1;
    va_start(ap, fmt);
    set_message(e, kind, 0, fmt, ap);
    va_end(ap);
    return -1;
}

static enum pl_kind kind_of_errno(int sys)
{
    switch (sys) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return PL_E_NO_SPACE;
    case ENOENT:
        return PL_E_NOT_FOUND;
    case EEXIST:
        return PL_E_EXISTS;
    case ENOMEM:
        return PL_E_NOMEM;
    default:
        return PL_E_SYS;
    }
}

int pl_fail_sys(struct pl_err *e, int sys, const char *fmt, ...)
{
    va_list ap;
    char text[128];
    size_t len;

    if (!e)
        return -1;
    va_start(ap, fmt);
    set_message(e, kind_of_errno(sys), sys, fmt, ap);
    va_end(ap);
    len = strlen(e->msg);
    /* the GNU strerror_r, which may return a static text instead of filling the buffer */
    snprintf(e->msg + len, sizeof e->msg - len, ": %s", strerror_r(sys, text, sizeof text));
    if (e->kind == PL_E_NO_SPACE)
        pl_hint(e, "free some space or raise the limit, then run it again");
    return -1;
}

/* Appends what fits; unlike with snprintf, compilers see that the cut is meant. */
static void append(char *buf, size_t size, const char *text)
{
    size_t used = strlen(buf);
    size_t len = strnlen(text, size - used - 1);

    memcpy(buf + used, text, len);
    buf[used + len] = '\0';
}

int pl_within(struct pl_err *e, const char *fmt, ...)
{
    char msg[sizeof e->msg];
    va_list ap;

    if (!e)
        return -1;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    append(msg, sizeof msg, ": ");
    if (strncmp(e->msg, msg, strlen(msg)) == 0) /* the storage below has named the file */
        return -1;
    append(msg, sizeof msg, e->msg);
    memcpy(e->msg, msg, sizeof msg);
    return -1;
}

int pl_hint(struct pl_err *e, const char *fmt, ...)
{
    char hint[sizeof e->hint];
    va_list ap;

    if (!e)
        return -1;
    va_start(ap, fmt);
    vsnprintf(hint, sizeof hint, fmt, ap);
    va_end(ap);
    memcpy(e->hint, hint, sizeof hint);
    return -1;
}

const char *pl_kind_name(enum pl_kind kind)
{
    static const char *const name[] = {
        [PL_OK] = "ok",
        [PL_E_SYS] = "sys",
        [PL_E_NOMEM] = "nomem",
        [PL_E_CORRUPT] = "corrupt",
        [PL_E_UNSUPPORTED] = "unsupported",
        [PL_E_LIMIT] = "limit",
        [PL_E_INVALID] = "invalid",
        [PL_E_POLICY] = "policy",
        [PL_E_LOCKED] = "locked",
        [PL_E_NOT_FOUND] = "not-found",
        [PL_E_EXISTS] = "exists",
        [PL_E_NO_SPACE] = "no-space",
        [PL_E_FORMAT] = "format",
        [PL_E_CANCELLED] = "cancelled",
        [PL_E_MISMATCH] = "mismatch",
    };

    return (size_t)kind < sizeof name / sizeof *name ? name[kind] : "unknown";
}
