#include "cli/message.h"

#include <jansson.h>
#include <string.h>

#include "cli/output.h"
#include "cli/utf8.h"

void message_text(FILE *to, const char *text)
{
    while (*text) {
        size_t len = utf8_length(text);

        if (len && !utf8_is_control(text, len)) {
            fwrite(text, 1, len, to);
        } else {
            len = 1;
            fprintf(to, "\\x%02x", (unsigned char)*text);
        }
        text += len;
    }
}

static void print_line(const char *before, const char *text)
{
    fputs(before, stderr);
    message_text(stderr, text);
    fputc('\n', stderr);
}

/* One line, so that a program can read messages as they come. */
static void print_json(const char *type, json_t *body)
{
    json_t *line = json_object();

    json_object_set_new(line, type, body);
    if (json_dumpf(line, stderr, JSON_COMPACT) == 0)
        fputc('\n', stderr);
    json_decref(line);
}

void message_error(const struct cli *cli, const struct pl_err *e)
{
    json_t *body;

    fflush(stdout);
    if (!cli->json) {
        print_line("platter: ", e->msg);
        if (*e->hint)
            print_line("hint: ", e->hint);
        return;
    }
    body = json_object();
    json_object_set_new(body, "kind", json_string(pl_kind_name(e->kind)));
    json_object_set_new(body, "message", output_json_text(e->msg));
    if (*e->hint)
        json_object_set_new(body, "hint", output_json_text(e->hint));
    print_json("error", body);
}

void message_warning(const struct cli *cli, const char *message)
{
    json_t *body;

    if (cli->quiet)
        return;
    fflush(stdout);
    if (!cli->json) {
        print_line("platter: warning: ", message);
        return;
    }
    body = json_object();
    json_object_set_new(body, "message", output_json_text(message));
    print_json("warning", body);
}

void message_warn_callback(void *ctx, const char *message)
{
    message_warning(ctx, message);
}
