/* cmd_snapshot.c - states of a disk: kept, listed, gone back to, deleted, compared, renamed.
 *
 * Two spellings: an action as the first operand; and qemu-img's options -l, -c, -a, -d, whose list
 * is qemu-img's, too. */
#include <stdio.h>
#include <string.h>

#include "cli/image_open.h"
#include "cli/message.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/snapshot_diff.h"
#include "cli/snapshot_table.h"
#include "cli/state_list.h"
#include "cli/suggest.h"
#include "core/base/scope.h"

struct snapshot_args {
    struct common_args common;
    struct open_args open;
    struct progress_args progress;
    bool list, files;
    const char *create, *apply, *delete;
};

static const struct pl_opt snapshot_opts[] = {
    OPT_FORMAT(struct snapshot_args, "the disk's format; without it, its content tells"),
    { "external", 0, OPT_FLAG, offsetof(struct snapshot_args, files),
      .help = "create: keep the state in a file beside a qcow2 disk, not inside it" },
    { "list", 'l', OPT_FLAG, offsetof(struct snapshot_args, list),
      .help = "qemu-img's spelling of 'list', with its table" },
    { "create", 'c', OPT_TEXT, offsetof(struct snapshot_args, create), .metavar = "NAME",
      .help = "qemu-img's spelling of 'create'" },
    { "apply", 'a', OPT_TEXT, offsetof(struct snapshot_args, apply), .metavar = "NAME",
      .help = "qemu-img's spelling of 'rollback'" },
    { "delete", 'd', OPT_TEXT, offsetof(struct snapshot_args, delete), .metavar = "NAME",
      .help = "qemu-img's spelling of 'delete'" },
    OPT_FORCE_SHARE(struct snapshot_args),
    OPT_PROGRESS(struct snapshot_args),
    OPT_ALLOW_DIR(struct snapshot_args),
    OPT_COMMON(struct snapshot_args),
    OPT_OBJECT,
    OPT_IMAGE_OPTS,
    { 0 },
};

/* What is asked for, in whichever spelling. */
struct request {
    struct cli *cli;
    const struct snapshot_args *args;
    const char *disk;
    const char *name, *second; /* null: not given */
    struct pl_state_options options;
};

/* An action: its operands behind DISK, and what does it. */
struct action {
    const char *name;
    unsigned least, most;
    const char *operands; /* as in the usage */
    int (*run)(struct request *r, struct pl_err *e);
};

/* ---- names that are not there ---- */

/* Offers the name that is nearest to the one that was not found. */
static int suggest(const struct request *r, const char *name, struct pl_err *e)
{
    struct suggestion nearest = suggestion_for(name, strlen(name));
    struct pl_states *states;

    if (e->kind != PL_E_NOT_FOUND || *e->hint ||
        pl_states_list(r->disk, &r->options, &states, NULL) < 0)
        return -1;
    for (size_t i = 0; i < states->count; i++)
        suggestion_offer(&nearest, states->state[i].name);
    if (nearest.best && strcmp(nearest.best, name) != 0)
        pl_hint(e, "did you mean '%s'?", nearest.best);
    pl_states_free(states);
    return -1;
}

/* ---- what is told of a change ---- */

static int tell(const struct request *r, const char *what, const char *name, struct pl_err *e)
{
    json_t *result;

    if (r->cli->json) {
        result = json_object();
        json_object_set_new(result, "filename", output_json_text(r->disk));
        json_object_set_new(result, "action", json_string(what));
        json_object_set_new(result, "name", output_json_text(name));
        return output_json(result, e);
    }
    return 0;
}

/* ---- the actions ---- */

static int run_list(struct request *r, struct pl_err *e)
{
    struct pl_states *states;
    int result = 0;

    if (pl_states_list(r->disk, &r->options, &states, e) < 0)
        return -1;
    if (r->cli->json)
        result = output_json(state_list_json(states), e);
    else
        state_list_print(states);
    pl_states_free(states);
    return result;
}

static int run_create(struct request *r, struct pl_err *e)
{
    PL_FREE char *made = NULL;

    if (pl_state_create(r->disk, r->name, &r->options, &made, e) < 0)
        return -1;
    if (!r->name && !r->cli->json && !r->cli->quiet) {
        message_text(stdout, made);
        putchar('\n');
    }
    return tell(r, "create", made, e);
}

static int run_rollback(struct request *r, struct pl_err *e)
{
    if (pl_state_rollback(r->disk, r->name, &r->options, e) < 0)
        return suggest(r, r->name, e);
    return tell(r, "rollback", r->name, e);
}

static int run_delete(struct request *r, struct pl_err *e)
{
    if (pl_state_delete(r->disk, r->name, &r->options, e) < 0)
        return suggest(r, r->name, e);
    return tell(r, "delete", r->name, e);
}

static int run_rename(struct request *r, struct pl_err *e)
{
    if (pl_state_rename(r->disk, r->name, r->second, &r->options, e) < 0)
        return suggest(r, r->name, e);
    return tell(r, "rename", r->second, e);
}

/* Without names from the state that the disk stands on to the disk as it is now. */
static int run_diff(struct request *r, struct pl_err *e)
{
    PL_FREE char *stands_on = NULL;
    struct pl_states *states;

    if (!r->name) {
        if (pl_states_list(r->disk, &r->options, &states, e) < 0)
            return -1;
        if (states->stands_on != PL_NO_STATE)
            stands_on = strdup(states->state[states->stands_on].name);
        pl_states_free(states);
        if (!stands_on)
            return pl_fail(e, PL_E_NOT_FOUND,
                           "%s: it is not known which snapshot the disk stands on: name one",
                           r->disk);
        r->name = stands_on;
    }
    if (snapshot_diff(r->cli, r->disk, r->name, r->second, &r->options, e) < 0)
        return suggest(r, r->second ? r->second : r->name, e);
    return 0;
}

static const struct action actions[] = {
    { "create", 0, 1, "[NAME]", run_create },
    { "list", 0, 0, "", run_list },
    { "rollback", 1, 1, "NAME", run_rollback },
    { "delete", 1, 1, "NAME", run_delete },
    { "diff", 0, 2, "[FROM [TO]]", run_diff },
    { "rename", 2, 2, "NAME NEW-NAME", run_rename },
    { 0 },
};

static const struct action *find_action(const char *name)
{
    for (const struct action *a = actions; a->name; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

/* ---- qemu-img's spelling ---- */

/* Snapshots inside an image come as qemu-img shows them; files, unknown to it, as a tree. */
static int run_table(struct request *r, struct pl_err *e)
{
    const struct pl_open_options options = { .no_parent = true };
    PL_FREE struct pl_snapshot *list = NULL;
    struct pl_states *states;
    SCOPED_IMAGE img = NULL;
    size_t count;

    if (r->cli->json)
        return run_list(r, e);
    if (image_open(r->cli, &r->args->open, r->disk, options, &img, e) < 0 ||
        pl_snapshots(img, &list, &count, e) < 0)
        return -1;
    if (count) {
        puts("Snapshot list:");
        snapshot_table_print(list, count);
        return 0;
    }
    if (pl_states_list(r->disk, &r->options, &states, e) < 0)
        return -1;
    if (states->count)
        state_list_print(states);
    pl_states_free(states);
    return 0;
}

static const struct action table = { "list", 0, 0, "", run_table };

/* The action that the options ask for; null: none of them is there. */
static const struct action *action_of_options(struct request *r)
{
    const struct snapshot_args *a = r->args;

    r->name = a->create ? a->create : a->apply ? a->apply : a->delete;
    return a->list     ? &table
           : a->create ? find_action("create")
           : a->apply  ? find_action("rollback")
           : a->delete ? find_action("delete")
                       : NULL;
}

static int check_options(const struct snapshot_args *a, size_t operands, struct pl_err *e)
{
    if (a->list + !!a->create + !!a->apply + !!a->delete > 1)
        return pl_fail(e, PL_E_INVALID, "snapshot: only one of -l, -c, -a and -d at a time");
    if (operands == 1)
        return 0;
    pl_fail(e, PL_E_INVALID, "snapshot: with -l, -c, -a or -d there is one operand, the disk");
    return pl_hint(e, "usage: platter snapshot -l | -c NAME | -a NAME | -d NAME DISK");
}

/* ---- the command ---- */

static int fail_unknown(const char *name, struct pl_err *e)
{
    struct suggestion nearest = suggestion_for(name, strlen(name));

    for (const struct action *a = actions; a->name; a++)
        suggestion_offer(&nearest, a->name);
    pl_fail(e, PL_E_INVALID,
            "snapshot: '%s' is none of create, list, rollback, delete, diff, rename", name);
    return nearest.best ? pl_hint(e, "did you mean '%s'?", nearest.best)
                        : pl_hint(e, "usage: platter snapshot ACTION DISK [NAME]");
}

/* ACTION DISK [NAME...]; like qemu-img a disk alone asks for its list. */
static const struct action *action_of_operands(struct request *r, struct pl_err *e)
{
    char *const *item = r->cli->operands.item;
    const size_t count = r->cli->operands.count;
    const struct action *action = find_action(item[0]);

    if (!action && count == 1) {
        r->disk = item[0];
        return &table;
    }
    if (!action) {
        fail_unknown(item[0], e);
        return NULL;
    }
    if (count < 2 + action->least || count > 2 + action->most) {
        pl_fail(e, PL_E_INVALID, "snapshot %s: expecting DISK%s%s", action->name,
                *action->operands ? " " : "", action->operands);
        pl_hint(e, "usage: platter snapshot %s [OPTION]... DISK%s%s", action->name,
                *action->operands ? " " : "", action->operands);
        return NULL;
    }
    r->disk = item[1];
    r->name = count > 2 ? item[2] : NULL;
    r->second = count > 3 ? item[3] : NULL;
    return action;
}

static const struct action *read_request(struct request *r, struct pl_err *e)
{
    const struct action *action = action_of_options(r);

    if (!action)
        return action_of_operands(r, e);
    if (check_options(r->args, r->cli->operands.count, e) < 0)
        return NULL;
    r->disk = r->cli->operands.item[0];
    return action;
}

/* A guess at the format is told once, however often the disk is opened. */
static void warn_of_guess(const struct request *r)
{
    struct open_args look = r->args->open;
    struct pl_image *img;
    struct pl_err ignored;

    look.force_share = true;
    if (!look.format &&
        image_open(r->cli, &look, r->disk,
                   (struct pl_open_options){ .no_parent = true, .check_only = true }, &img,
                   &ignored) == 0)
        pl_close(img, NULL);
}

static int run_snapshot(struct cli *cli, const void *args, struct pl_err *e)
{
    const struct snapshot_args *a = args;
    struct request r = { .cli = cli, .args = a };
    const struct action *action = read_request(&r, e);
    struct progress progress;
    int result;

    if (!action || image_check_format(a->open.format, e) < 0 ||
        progress_start(&progress, cli, &a->progress, action->run == run_diff, e) < 0)
        return -1;
    r.options = (struct pl_state_options){
        .format = a->open.format,
        .files = a->files,
        .force_share = a->open.force_share,
        .allowed_dirs = a->open.allow_dirs.item,
        .report = &progress.report,
    };
    if (action->run != run_table || cli->json) /* the table opens the disk in a way that tells it */
        warn_of_guess(&r);
    result = action->run(&r, e);
    progress_end(&progress, result == 0);
    return result;
}

const struct pl_command pl_cmd_snapshot = {
    .name = "snapshot",
    .operands = "ACTION DISK [NAME]...",
    .summary = "Keep states of a disk (create|list|rollback|delete|diff|rename)",
    .opts = snapshot_opts,
    .args_size = sizeof(struct snapshot_args),
    .min_operands = 1,
    .max_operands = 4,
    .operand_error = "expecting an action and a disk",
    .error_status = 1,
    .run = run_snapshot,
};
