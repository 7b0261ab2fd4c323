/* options.h - "-o key=value,key=value" lists, read by typed getters; what nobody read is an error.
 */
#ifndef PL_CORE_BASE_OPTIONS_H
#define PL_CORE_BASE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct pl_options;

/* One row of a format's table of create options: what `-o help` prints. */
struct pl_option_help {
    const char *name;
    const char *type; /* "size", "bool (on/off)", "str", "num" */
    const char *help;
};

/* An empty list; null when out of memory. */
PL_API struct pl_options *pl_options_new(void);

/* Null is fine. */
PL_API void pl_options_free(struct pl_options *options);

/* Adds "key=value,..." (",," stands for a comma in a value; a key alone means key=on; a later key
 * replaces an earlier one).  PL_E_INVALID, PL_E_NOMEM. */
PL_API int pl_options_add(struct pl_options *options, const char *text, struct pl_err *e) PL_CHECK;

/* Sets one key.  PL_E_NOMEM. */
PL_API int pl_options_set(struct pl_options *options, const char *key, const char *value,
                          struct pl_err *e) PL_CHECK;

/* The getters mark the key as known.  `options` may be null: all keys are absent.  An absent key
 * leaves *value alone.  PL_E_INVALID names the key and what is allowed. */

/* The value as it was written, good until the key is set again; null when absent. */
const char *pl_options_text(const struct pl_options *options, const char *key);

/* A size as pl_parse_size reads it, in bytes; above PL_OFFSET_MAX: PL_E_LIMIT. */
int pl_options_size(const struct pl_options *options, const char *key, uint64_t *value,
                    struct pl_err *e) PL_CHECK;

/* A plain number within [min, max]. */
int pl_options_number(const struct pl_options *options, const char *key, uint64_t min, uint64_t max,
                      uint64_t *value, struct pl_err *e) PL_CHECK;

/* on/off, yes/no, true/false */
int pl_options_bool(const struct pl_options *options, const char *key, bool *value,
                    struct pl_err *e) PL_CHECK;

/* One of null-terminated `names`; *value is its index. */
int pl_options_choice(const struct pl_options *options, const char *key, const char *const *names,
                      unsigned *value, struct pl_err *e) PL_CHECK;

/* PL_E_INVALID, naming the first key that no getter asked for and the format. */
int pl_options_check_all_known(const struct pl_options *options, const char *format,
                               struct pl_err *e) PL_CHECK;

#endif
