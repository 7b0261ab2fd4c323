#include "cli/progress.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <unistd.h>

#include "cli/message.h"

/* Seconds. */
#define UNASKED_AFTER 2.0 /* work that takes longer shows progress on a terminal by itself */
#define LINE_EVERY 0.1
#define JSON_EVERY 0.2
#define RATE_AFTER 0.2 /* before, a rate is noise */

#define CLEAR_LINE "\r\033[K"

static double seconds_since(const struct timespec *then)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

static double percent_of(const struct progress *p)
{
    return p->total ? 100.0 * (double)p->done / (double)p->total : 0;
}

/* Bytes a second since the start; 0: not known yet. */
static double rate_of(const struct progress *p)
{
    double elapsed = seconds_since(&p->start);

    return elapsed < RATE_AFTER ? 0 : (double)p->done / elapsed;
}

static void print_rate(const struct progress *p)
{
    char text[32];
    double rate = rate_of(p);
    uint64_t left;

    if (rate < 1)
        return;
    left = (uint64_t)((double)(p->total - p->done) / rate);
    fprintf(p->to, "  %s/s", pl_format_size((uint64_t)rate, text));
    if (p->done == p->total)
        return;
    if (left >= 3600)
        fprintf(p->to, "  %" PRIu64 ":%02u:%02u left", left / 3600, (unsigned)(left / 60 % 60),
                (unsigned)(left % 60));
    else
        fprintf(p->to, "  %u:%02u left", (unsigned)(left / 60), (unsigned)(left % 60));
}

static void show_line(struct progress *p)
{
    p->percent = percent_of(p);
    clock_gettime(CLOCK_MONOTONIC, &p->shown_at);
    fprintf(p->to, "    (%.2f/100%%)", p->percent);
    if (p->terminal) {
        print_rate(p);
        fputs("\033[K", p->to);
    }
    fputc('\r', p->to);
    fflush(p->to);
    p->line_open = true;
}

static void show_json(struct progress *p)
{
    double rate = rate_of(p);

    clock_gettime(CLOCK_MONOTONIC, &p->json_at);
    dprintf(p->json_fd,
            "{\"done\": %" PRIu64 ", \"total\": %" PRIu64 ", \"rate\": %.0f, \"eta\": ", p->done,
            p->total, rate);
    if (rate < 1)
        dprintf(p->json_fd, "null}\n");
    else
        dprintf(p->json_fd, "%.1f}\n", (double)(p->total - p->done) / rate);
}

/* A terminal gets a new line often, since the rate changes too; a pipe one for each percent. */
static bool line_is_due(const struct progress *p)
{
    if (!p->to)
        return false;
    if (!p->asked && seconds_since(&p->start) < UNASKED_AFTER)
        return false;
    if (!p->terminal)
        return percent_of(p) >= p->percent + 1;
    return seconds_since(&p->shown_at) >= LINE_EVERY;
}

static void answer_signal(const struct progress *p)
{
    fprintf(stderr, "    (%.2f/100%%)\n", percent_of(p));
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *p = ctx;

    p->done = done < total ? done : total;
    p->total = total;
    if (line_is_due(p))
        show_line(p);
    if (p->json_fd >= 0 && seconds_since(&p->json_at) >= JSON_EVERY)
        show_json(p);
    if (interrupt_report_wanted(&p->cli->interrupt))
        answer_signal(p);
}

static void clear_line(struct progress *p)
{
    if (p->line_open && p->terminal)
        fputs(CLEAR_LINE, p->to);
    p->line_open = false;
}

static void on_warning(void *ctx, const char *message)
{
    struct progress *p = ctx;

    clear_line(p);
    message_warning(p->cli, message);
}

static bool on_cancelled(void *ctx)
{
    struct progress *p = ctx;

    return interrupt_pending(&p->cli->interrupt);
}

static int parse_fd(const char *text, int *fd, struct pl_err *e)
{
    uint64_t n;

    *fd = -1;
    if (!text)
        return 0;
    if (pl_parse_number(text, 0, INT_MAX, &n, e) < 0)
        return pl_within(e, "--progress-fd");
    if (fcntl((int)n, F_GETFD) < 0)
        return pl_fail(e, PL_E_INVALID, "--progress-fd: %s is not an open file descriptor", text);
    *fd = (int)n;
    return 0;
}

static void choose_line(struct progress *p, bool data_on_stdout)
{
    bool to_stdout = p->asked && !data_on_stdout && !p->cli->json;
    FILE *to = to_stdout ? stdout : stderr;

    p->terminal = isatty(fileno(to));
    if (!p->cli->quiet && (p->asked || (p->terminal && !p->cli->json)))
        p->to = to;
}

int progress_start(struct progress *p, struct cli *cli, const struct progress_args *args,
                   bool data_on_stdout, struct pl_err *e)
{
    *p = (struct progress){ .cli = cli, .asked = args->shown };
    if (parse_fd(args->fd, &p->json_fd, e) < 0)
        return -1;
    p->report = (struct pl_report){
        .ctx = p, .warn = on_warning, .progress = on_progress, .cancelled = on_cancelled
    };
    clock_gettime(CLOCK_MONOTONIC, &p->start);
    p->shown_at = p->json_at = p->start;
    choose_line(p, data_on_stdout);
    if (p->to && p->asked)
        show_line(p);
    return 0;
}

void progress_end(struct progress *p, bool finished)
{
    if (finished)
        p->done = p->total;
    if (p->json_fd >= 0)
        show_json(p);
    if (!p->to)
        return;
    if (!p->asked) {
        clear_line(p);
    } else {
        if (finished && !p->total)
            p->done = p->total = 1; /* nothing to do is done */
        if (finished && (p->terminal || p->percent < 100))
            show_line(p);
        fputc('\n', p->to);
    }
    fflush(p->to);
}
