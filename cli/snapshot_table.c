#include "cli/snapshot_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/message.h"
#include "cli/output.h"

#define NSEC UINT64_C(1000000000)

/* Prints text and fills up to `width` columns; a character counts as one. */
static void print_padded(const char *text, int width)
{
    int used = 0;

    for (const char *p = text; *p; p++)
        used += ((unsigned char)*p & 0xc0) != 0x80;
    message_text(stdout, text);
    printf("%*s ", used < width ? width - used : 0, "");
}

static void print_row(const struct pl_snapshot *s)
{
    uint64_t clock_seconds = s->vm_clock_nsec / NSEC;
    time_t date = (time_t)s->date_sec;
    char size[32], when[32] = "", clock[48], icount[24] = "";
    struct tm local;

    if (localtime_r(&date, &local))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
    snprintf(clock, sizeof clock, "%02" PRIu64 ":%02u:%02u.%03u", clock_seconds / 3600,
             (unsigned)(clock_seconds / 60 % 60), (unsigned)(clock_seconds % 60),
             (unsigned)(s->vm_clock_nsec % NSEC / 1000000));
    if (s->icount != UINT64_MAX)
        snprintf(icount, sizeof icount, "%" PRIu64, s->icount);
    print_padded(s->id, 9);
    print_padded(s->name, 16);
    printf("%8s%20s%13s%11s\n", pl_format_size(s->vm_state_size, size), when, clock, icount);
}

void snapshot_table_print(const struct pl_snapshot *list, size_t count)
{
    printf("%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (size_t i = 0; i < count; i++)
        print_row(&list[i]);
}

static json_t *snapshot_json(const struct pl_snapshot *s)
{
    json_t *row = json_object();

    if (s->icount != UINT64_MAX)
        json_object_set_new(row, "icount", output_json_number(s->icount));
    json_object_set_new(row, "vm-clock-nsec", output_json_number(s->vm_clock_nsec % NSEC));
    json_object_set_new(row, "name", output_json_text(s->name));
    json_object_set_new(row, "date-sec", output_json_number(s->date_sec));
    json_object_set_new(row, "date-nsec", output_json_number(s->date_nsec));
    json_object_set_new(row, "vm-clock-sec", output_json_number(s->vm_clock_nsec / NSEC));
    json_object_set_new(row, "id", output_json_text(s->id));
    json_object_set_new(row, "vm-state-size", output_json_number(s->vm_state_size));
    return row;
}

json_t *snapshot_table_json(const struct pl_snapshot *list, size_t count)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, snapshot_json(&list[i]));
    return rows;
}
