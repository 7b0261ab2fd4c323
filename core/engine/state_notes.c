/* state_notes.c - which state a state was made from, where no file says it: copies of raw disks and
 * snapshots inside an image do not know where they come from.
 *
 * The notes are extended attributes, so they go where the file goes and are gone where another file
 * takes its place; a file system that keeps none leaves the parents unknown.  They only inform:
 * nothing that is done to a disk depends on them, so they need no sync.
 *
 *   key         on                    text
 *   stands-on   the disk              mark of the state that it was made from
 *   parent      a copy                the same
 *   parent.ID   the disk              date of the snapshot with that number, mark of its parent
 *
 * A file's mark is its state's name; a snapshot's is its number and its date, since qemu-img gives
 * the number of one that was deleted to a new one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/engine/state_name.h"
#include "core/engine/states.h"
#include "core/storage/names.h"

#define NOTE_MAX 320

#define STANDS_ON "stands-on"
#define PARENT "parent"

static void date_of(const struct pl_disk_state *state, char text[static NOTE_MAX])
{
    snprintf(text, NOTE_MAX, "%" PRIu64 ".%09u", state->date_sec, state->date_nsec);
}

static void mark_of(const struct pl_disk_state *state, char mark[static NOTE_MAX])
{
    if (state->path)
        snprintf(mark, NOTE_MAX, "%s", state->name);
    else
        snprintf(mark, NOTE_MAX, "%s@%" PRIu64 ".%09u", state->id, state->date_sec,
                 state->date_nsec);
}

static size_t find_mark(const struct pl_states *states, const char *wanted)
{
    char mark[NOTE_MAX];

    for (size_t i = 0; i < states->count; i++) {
        mark_of(&states->state[i], mark);
        if (strcmp(mark, wanted) == 0)
            return i;
    }
    return PL_NO_STATE;
}

/* Under which key on the disk the parent of a snapshot is noted. */
static void key_of(const struct pl_disk_state *state, char key[static NOTE_MAX])
{
    snprintf(key, NOTE_MAX, PARENT ".%s", state->id);
}

static size_t read_parent_inside(const struct pl_states *states, const struct pl_disk_state *state)
{
    char key[NOTE_MAX], note[NOTE_MAX], date[NOTE_MAX];
    const char *blank;

    key_of(state, key);
    date_of(state, date);
    if (!pl_name_note(states->path, key, note, sizeof note) || !(blank = strchr(note, ' ')) ||
        strncmp(note, date, (size_t)(blank - note)) != 0)
        return PL_NO_STATE;
    return find_mark(states, blank + 1);
}

static size_t read_parent(const struct pl_states *states, const struct pl_disk_state *state)
{
    char note[NOTE_MAX];

    if (!state->path)
        return read_parent_inside(states, state);
    return pl_name_note(state->path, PARENT, note, sizeof note) ? find_mark(states, note)
                                                                : PL_NO_STATE;
}

/* Notes that somebody else wrote may make a circle, which no tree has. */
static void break_circles(struct pl_states *states)
{
    for (size_t i = 0; i < states->count; i++) {
        size_t at = states->state[i].parent;

        for (size_t steps = 0; at != PL_NO_STATE && steps < states->count; steps++)
            at = states->state[at].parent;
        if (at != PL_NO_STATE)
            states->state[i].parent = PL_NO_STATE;
    }
}

void pl_notes_read(struct pl_states *states)
{
    char note[NOTE_MAX];

    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].parent == PL_NO_STATE)
            states->state[i].parent = read_parent(states, &states->state[i]);
    if (states->stands_on == PL_NO_STATE &&
        pl_name_note(states->path, STANDS_ON, note, sizeof note))
        states->stands_on = find_mark(states, note);
    break_circles(states);
}

void pl_notes_stand_on(const struct pl_states *states, size_t index)
{
    char mark[NOTE_MAX];

    if (index != PL_NO_STATE)
        mark_of(&states->state[index], mark);
    pl_name_set_note(states->path, STANDS_ON, index == PL_NO_STATE ? NULL : mark);
}

/* Notes that `state`'s parent is the one with that mark; null: it has none. */
static void note_parent(const struct pl_states *states, const struct pl_disk_state *state,
                        const char *mark)
{
    char key[NOTE_MAX], note[2 * NOTE_MAX], date[NOTE_MAX];

    if (state->path) {
        pl_name_set_note(state->path, PARENT, mark);
        return;
    }
    key_of(state, key);
    date_of(state, date);
    snprintf(note, sizeof note, "%s %s", date, mark ? mark : "");
    pl_name_set_note(states->path, key, mark ? note : NULL);
}

/* The state `made`, which is new in `now`, was made from the one that the disk stood on before. */
static void note_made(const struct pl_states *now, size_t made, const struct pl_states *before)
{
    char mark[NOTE_MAX];

    if (before->stands_on != PL_NO_STATE)
        mark_of(&before->state[before->stands_on], mark);
    note_parent(now, &now->state[made], before->stands_on != PL_NO_STATE ? mark : NULL);
    pl_notes_stand_on(now, made);
}

void pl_notes_new_state(struct pl_held_disk *disk, const char *name)
{
    struct pl_states *before = pl_take(disk->states);
    struct pl_image *img;
    size_t made;

    if (pl_held_open(disk, false, false, &img, NULL) == 0) {
        if (pl_states_gather(disk, img, NULL) == 0 &&
            pl_states_find(disk->states, name, &made, NULL) == 0)
            note_made(disk->states, made, before);
        pl_close(img, NULL);
    }
    pl_states_free(before);
}

void pl_notes_drop(const struct pl_states *states, size_t index)
{
    const size_t parent = states->state[index].parent;
    char mark[NOTE_MAX];

    if (parent != PL_NO_STATE)
        mark_of(&states->state[parent], mark);
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].parent == index)
            note_parent(states, &states->state[i], parent != PL_NO_STATE ? mark : NULL);
    if (states->stands_on == index)
        pl_notes_stand_on(states, parent);
    if (!states->state[index].path)
        note_parent(states, &states->state[index], NULL);
}

void pl_notes_rename(const struct pl_states *states, size_t index, const char *new_name)
{
    for (size_t i = 0; i < states->count; i++)
        if (states->state[i].parent == index)
            note_parent(states, &states->state[i], new_name);
    if (states->stands_on == index)
        pl_name_set_note(states->path, STANDS_ON, new_name);
}
