#include "core/base/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/base/text.h"

struct option {
    struct option *next;
    char *key;
    char *value;
    bool known; /* a getter asked for it */
};

struct pl_options {
    struct option *first; /* in the order in which the keys first appeared */
};

struct pl_options *pl_options_new(void)
{
    return calloc(1, sizeof(struct pl_options));
}

void pl_options_free(struct pl_options *options)
{
    struct option *o, *next;

    for (o = options ? options->first : NULL; o; o = next) {
        next = o->next;
        free(o->key);
        free(o->value);
        free(o);
    }
    free(options);
}

/* Where the option of that key is linked, or where a new one goes. */
static struct option **locate(struct pl_options *options, const char *key)
{
    struct option **link = &options->first;

    while (*link && strcmp((*link)->key, key) != 0)
        link = &(*link)->next;
    return link;
}

int pl_options_set(struct pl_options *options, const char *key, const char *value, struct pl_err *e)
{
    struct option **link = locate(options, key);
    PL_FREE char *own_value = strdup(value);
    PL_FREE char *own_key = NULL;
    struct option *o = *link;

    if (own_value && !o) {
        own_key = strdup(key);
        o = own_key ? calloc(1, sizeof *o) : NULL;
    }
    if (!own_value || !o)
        return pl_fail(e, PL_E_NOMEM, "option '%s': out of memory", key);
    if (own_key)
        o->key = pl_take(own_key);
    free(o->value);
    o->value = pl_take(own_value);
    *link = o;
    return 0;
}

/* Copies a value up to a lone comma, ",," becoming ",", and returns where it ended. */
static const char *copy_value(const char *p, char *value)
{
    for (; *p && (*p != ',' || p[1] == ','); p++) {
        p += *p == ',';
        *value++ = *p;
    }
    *value = '\0';
    return p;
}

/* Reads one "key=value" or "key" into buf, which has room for all of the text, and moves *text to
 * the comma or the end behind it.  The returned value lies behind the key in buf; null: no key. */
static char *next_pair(const char **text, char *buf)
{
    size_t len = strcspn(*text, "=,");
    char *value = buf + len + 1;

    memcpy(buf, *text, len);
    buf[len] = '\0';
    *text += len;
    if (**text == '=')
        *text = copy_value(*text + 1, value);
    else
        memcpy(value, "on", sizeof "on");
    return len ? value : NULL;
}

int pl_options_add(struct pl_options *options, const char *text, struct pl_err *e)
{
    PL_FREE char *buf = malloc(strlen(text) + sizeof "on" + 1);
    const char *p = text;
    char *value;

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "options: out of memory");
    while (*p) {
        value = next_pair(&p, buf);
        if (!value) {
            pl_fail(e, PL_E_INVALID, "options '%s': a name is missing", text);
            return pl_hint(e, "write name=value,name=value; a comma within a value is ',,'");
        }
        if (pl_options_set(options, buf, value, e))
            return -1;
        p += *p == ',';
    }
    return 0;
}

const char *pl_options_text(const struct pl_options *options, const char *key)
{
    struct option *o = options ? options->first : NULL;

    while (o && strcmp(o->key, key) != 0)
        o = o->next;
    if (!o)
        return NULL;
    o->known = true;
    return o->value;
}

int pl_options_size(const struct pl_options *options, const char *key, uint64_t *value,
                    struct pl_err *e)
{
    const char *text = pl_options_text(options, key);

    if (text && pl_parse_size(text, 1, value, e))
        return pl_within(e, "option '%s'", key);
    return 0;
}

int pl_options_number(const struct pl_options *options, const char *key, uint64_t min, uint64_t max,
                      uint64_t *value, struct pl_err *e)
{
    const char *text = pl_options_text(options, key);

    if (!text || !pl_parse_number(text, min, max, value, e))
        return 0;
    return pl_fail(e, PL_E_INVALID, "option '%s': '%s' is not a number from %llu to %llu", key,
                   text, (unsigned long long)min, (unsigned long long)max);
}

int pl_options_bool(const struct pl_options *options, const char *key, bool *value,
                    struct pl_err *e)
{
    static const char *const spelling[][2] = { { "off", "on" },
                                               { "no", "yes" },
                                               { "false", "true" } };
    const char *text = pl_options_text(options, key);

    if (!text)
        return 0;
    for (unsigned i = 0; i < 2 * (sizeof spelling / sizeof *spelling); i++)
        if (!strcmp(text, spelling[i / 2][i % 2])) {
            *value = i % 2;
            return 0;
        }
    return pl_fail(e, PL_E_INVALID, "option '%s': '%s' is neither on nor off", key, text);
}

/* Joins the names with ", ", as far as they fit. */
static void join(const char *const *names, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned i = 0; names[i] && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", names[i]);
}

int pl_options_choice(const struct pl_options *options, const char *key, const char *const *names,
                      unsigned *value, struct pl_err *e)
{
    const char *text = pl_options_text(options, key);
    char all[160];

    if (!text)
        return 0;
    for (unsigned i = 0; names[i]; i++)
        if (!strcmp(text, names[i])) {
            *value = i;
            return 0;
        }
    join(names, all, sizeof all);
    return pl_fail(e, PL_E_INVALID, "option '%s': '%s' is not one of %s", key, text, all);
}

int pl_options_check_all_known(const struct pl_options *options, const char *format,
                               struct pl_err *e)
{
    const struct option *o = options ? options->first : NULL;

    while (o && o->known)
        o = o->next;
    if (!o)
        return 0;
    pl_fail(e, PL_E_INVALID, "format %s has no option '%s'", format, o->key);
    return pl_hint(e, "'-o help' lists the options of the format");
}
