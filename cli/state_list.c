#include "cli/state_list.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/message.h"
#include "cli/output.h"

#define NAME_COLUMNS 34

/* Text has as many columns as it has characters. */
static int columns_of(const char *text)
{
    int columns = 0;

    for (; *text; text++)
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    return columns;
}

static void print_name(const char *before, const char *name, unsigned depth)
{
    const int used = (int)(2 * depth) + columns_of(before) + columns_of(name);

    printf("%*s%s", (int)(2 * depth), "", before);
    message_text(stdout, name);
    printf("%*s", used < NAME_COLUMNS ? NAME_COLUMNS - used : 1, "");
}

static void print_state(const struct pl_disk_state *s, unsigned depth)
{
    const time_t date = (time_t)s->date_sec;
    char when[32] = "-", size[32], usage[32] = "-";
    struct tm local;

    if (localtime_r(&date, &local))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
    if (s->path)
        pl_format_size(s->usage, usage);
    print_name("", s->name, depth);
    printf("%-19s  %9s  %9s%s%s\n", when, s->size ? pl_format_size(s->size, size) : "-", usage,
           s->deleting ? "  (being deleted)" : "", s->unreadable ? "  (unreadable)" : "");
}

static void print_disk(const struct pl_states *states, unsigned depth)
{
    const char *slash = strrchr(states->path, '/');
    char size[32], usage[32];

    print_name("* ", slash ? slash + 1 : states->path, depth);
    printf("%-19s  %9s  %9s\n", "now", pl_format_size(states->size, size),
           pl_format_size(states->usage, usage));
}

/* What was made from state `parent`, and what was made from that: without recursion, for a chain
 * may be as long as there are files.  The next one after `at` is its first child, else its next
 * sibling, else that of its parent ... */
static size_t next_child(const struct pl_states *states, size_t parent, size_t after)
{
    for (size_t i = after; i < states->count; i++)
        if (states->state[i].parent == parent)
            return i;
    return PL_NO_STATE;
}

static void print_tree(const struct pl_states *states)
{
    size_t at = next_child(states, PL_NO_STATE, 0);
    unsigned depth = 0;

    while (at != PL_NO_STATE) {
        size_t next;

        print_state(&states->state[at], depth);
        if (states->stands_on == at)
            print_disk(states, depth + 1);
        next = next_child(states, at, 0);
        depth += next != PL_NO_STATE;
        while (next == PL_NO_STATE && at != PL_NO_STATE) {
            const size_t parent = states->state[at].parent;

            next = next_child(states, parent, at + 1);
            at = parent;
            depth -= next == PL_NO_STATE && depth > 0;
        }
        at = next;
    }
}

void state_list_print(const struct pl_states *states)
{
    printf("%-*s%-19s  %9s  %9s\n", NAME_COLUMNS, "NAME", "DATE", "SIZE", "USED");
    print_tree(states);
    if (states->stands_on == PL_NO_STATE)
        print_disk(states, 0);
}

static json_t *name_or_null(const struct pl_states *states, size_t index)
{
    return index == PL_NO_STATE ? json_null() : output_json_text(states->state[index].name);
}

static json_t *state_json(const struct pl_states *states, size_t index)
{
    const struct pl_disk_state *s = &states->state[index];
    json_t *row = json_object();

    json_object_set_new(row, "name", output_json_text(s->name));
    json_object_set_new(row, "parent", name_or_null(states, s->parent));
    json_object_set_new(row, "current", json_boolean(states->stands_on == index));
    json_object_set_new(row, "date-sec", output_json_number(s->date_sec));
    json_object_set_new(row, "date-nsec", output_json_number(s->date_nsec));
    json_object_set_new(row, "virtual-size", output_json_number(s->size));
    json_object_set_new(row, "kind", json_string(s->path ? "file" : "internal"));
    if (s->path) {
        json_object_set_new(row, "filename", output_json_text(s->path));
        json_object_set_new(row, "actual-size", output_json_number(s->usage));
    } else {
        json_object_set_new(row, "id", output_json_text(s->id));
        json_object_set_new(row, "vm-state-size", output_json_number(s->vm_state_size));
    }
    json_object_set_new(row, "deleting", json_boolean(s->deleting));
    json_object_set_new(row, "unreadable", json_boolean(s->unreadable));
    return row;
}

json_t *state_list_json(const struct pl_states *states)
{
    json_t *disk = json_object(), *rows = json_array();

    for (size_t i = 0; i < states->count; i++)
        json_array_append_new(rows, state_json(states, i));
    json_object_set_new(disk, "filename", output_json_text(states->path));
    json_object_set_new(disk, "format", json_string(states->format));
    json_object_set_new(disk, "virtual-size", output_json_number(states->size));
    json_object_set_new(disk, "actual-size", output_json_number(states->usage));
    json_object_set_new(disk, "stands-on", name_or_null(states, states->stands_on));
    json_object_set_new(disk, "snapshots", rows);
    return disk;
}
