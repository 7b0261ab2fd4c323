/* calls.h - calls that must succeed, or fail in one way.  cmocka.h comes first. */
#ifndef TESTS_SUPPORT_CALLS_H
#define TESTS_SUPPORT_CALLS_H

#include <string.h>

#include "core/base/err.h"

/* The call succeeds; its error is `e`. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        struct pl_err e = { 0 };                                                                   \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, e.msg);                                                      \
    } while (0)

/* The call fails with that kind and a message that contains `text`. */
#define FAILS(wanted, text, call)                                                                  \
    do {                                                                                           \
        struct pl_err e = { 0 };                                                                   \
        if ((call) != -1 || e.kind != (wanted) || !strstr(e.msg, text))                            \
            fail_msg("%s: kind %s, \"%s\"", #call, pl_kind_name(e.kind), e.msg);                   \
    } while (0)

#endif
