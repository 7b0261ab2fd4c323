#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/message.h"
#include "cli/utf8.h"
#include "core/base/scope.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

json_t *output_json_text(const char *text)
{
    PL_FREE char *clean = malloc(3 * strlen(text) + 1);
    char *to = clean;

    if (!clean)
        return NULL;
    while (*text) {
        size_t len = utf8_length(text);

        to = mempcpy(to, len ? text : REPLACEMENT, len ? len : 3);
        text += len ? len : 1;
    }
    *to = '\0';
    return json_string(clean);
}

json_t *output_json_number(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

/* The depth of the recursion is that of the code which built the tree, never that of an image. */
json_t *output_json_facts(const struct pl_fact *fact)
{
    json_t *value;

    switch (fact->type) {
    case PL_FACT_NUMBER:
        return output_json_number(fact->number);
    case PL_FACT_BOOL:
        return json_boolean(fact->number);
    case PL_FACT_TEXT:
        return output_json_text(fact->text);
    case PL_FACT_OBJECT:
    case PL_FACT_LIST:
        break;
    }
    value = fact->type == PL_FACT_LIST ? json_array() : json_object();
    for (const struct pl_fact *member = fact->child; member; member = member->next) {
        json_t *json = output_json_facts(member);

        if (fact->type == PL_FACT_LIST)
            json_array_append_new(value, json);
        else
            json_object_set_new(value, member->name, json);
    }
    return value;
}

int output_json(json_t *value, struct pl_err *e)
{
    if (!value)
        return pl_fail(e, PL_E_NOMEM, "no memory for the result");
    json_dumpf(value, stdout, JSON_INDENT(4));
    putchar('\n');
    json_decref(value);
    return 0;
}

static void print_name(const struct pl_fact *fact, unsigned index, int indent)
{
    printf("%*s", indent, "");
    if (!fact->name)
        printf("[%u]:", index);
    for (const char *p = fact->name; p && *p; p++)
        putchar(*p == '-' ? ' ' : *p);
    if (fact->name)
        putchar(':');
}

static void print_value(const struct pl_fact *fact, int indent)
{
    switch (fact->type) {
    case PL_FACT_NUMBER:
        printf(" %" PRIu64 "\n", fact->number);
        return;
    case PL_FACT_BOOL:
        printf(" %s\n", fact->number ? "true" : "false");
        return;
    case PL_FACT_TEXT:
        putchar(' ');
        message_text(stdout, fact->text);
        putchar('\n');
        return;
    case PL_FACT_OBJECT:
    case PL_FACT_LIST:
        break;
    }
    putchar('\n');
    output_facts(fact, indent + 4);
}

void output_facts(const struct pl_fact *object, int indent)
{
    unsigned index = 0;

    for (const struct pl_fact *member = object->child; member; member = member->next) {
        print_name(member, index++, indent);
        print_value(member, indent);
    }
}

int output_finish(struct pl_err *e)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return pl_fail_sys(e, errno ? errno : EIO, "standard output");
}
