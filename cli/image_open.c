#include "cli/image_open.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/scope.h"

const char *const cache_choices[] = { "writeback",  "none",         "off", "unsafe",
                                      "directsync", "writethrough", NULL };

void image_scope_close(struct pl_image *const *img)
{
    pl_close(*img, NULL);
}

int image_check_format(const char *name, struct pl_err *e)
{
    struct pl_format_info info;

    return name ? pl_format_find(name, &info, e) : 0;
}

/* Whether people keep raw disks in what is called like that. */
static bool looks_raw(const char *path)
{
    static const char *const endings[] = { ".raw", ".img", ".dd", ".bin", ".iso" };
    const char *dot = strrchr(path, '.');
    struct stat st;

    for (unsigned i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i]))
            return true;
    return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

/* The guest of a raw disk can write a header of another format into its first sectors, and have the
 * next reader open files of the host as that image's parents. */
static void warn_of_planted_header(const struct pl_report *report, const struct pl_image *img)
{
    if (pl_format_guessed(img) && strcmp(pl_format(img), "raw") != 0 && looks_raw(pl_path(img)))
        pl_warn(report,
                "%s: taken for %s by its content, though it is named like a raw disk; "
                "say -f %s if it is, or -f raw if its guest may have written that header",
                pl_path(img), pl_format(img), pl_format(img));
}

/* Where content alone does not tell, a disk is raw: its guest could have written that. */
static void warn_of_other_format(const struct pl_report *report, const struct pl_image *img)
{
    if (pl_format_perhaps(img))
        pl_warn(report, "%s: taken for raw, but it could be %s; say -f %s if it is, or -f raw",
                pl_path(img), pl_format_perhaps(img), pl_format_perhaps(img));
}

int image_open(struct cli *cli, const struct open_args *args, const char *path,
               struct pl_open_options options, struct pl_image **out, struct pl_err *e)
{
    if (!options.format)
        options.format = args->format;
    if (image_check_format(options.format, e) < 0)
        return -1;
    options.disk = args->disk;
    options.authorities = args->authorities;
    options.force_share = args->force_share;
    options.allowed_dirs = args->allow_dirs.item;
    if (!options.report)
        options.report = &cli->report;
    if (pl_open(path, &options, out, e) < 0)
        return -1;
    warn_of_planted_header(options.report, *out);
    warn_of_other_format(options.report, *out);
    return 0;
}

int image_look(struct cli *cli, const struct open_args *args, const char *path, struct pl_err *e)
{
    const struct pl_open_options alone = { .no_parent = true, .check_only = true };
    struct open_args unlocked = *args;
    SCOPED_IMAGE img = NULL;

    unlocked.force_share = true;
    return image_open(cli, &unlocked, path, alone, &img, e);
}

static bool snapshot_matches(const struct pl_snapshot *s, const char *id, const char *name)
{
    return (!id || !strcmp(s->id, id)) && (!name || !strcmp(s->name, name));
}

static int look_up(struct pl_image *img, const char *id, const char *name, char **found,
                   struct pl_err *e)
{
    PL_FREE struct pl_snapshot *list = NULL;
    size_t count;

    if (pl_snapshots(img, &list, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (snapshot_matches(&list[i], id, name)) {
            *found = strdup(list[i].id);
            return *found ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for a snapshot's name");
        }
    return pl_fail(e, PL_E_NOT_FOUND, "%s: there is no snapshot with id '%s' and name '%s'",
                   pl_path(img), id ? id : "(any)", name ? name : "(any)");
}

int image_find_snapshot(struct cli *cli, const struct open_args *args, const char *path,
                        const char *param, char **name, struct pl_err *e)
{
    const struct pl_open_options top_only = { .no_parent = true };
    struct pl_options *keys = NULL;
    SCOPED_IMAGE img = NULL;
    int result;

    if (strncmp(param, "snapshot.", 9) != 0) {
        *name = strdup(param);
        return *name ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for a snapshot's name");
    }
    if (image_open(cli, args, path, top_only, &img, e) < 0)
        return -1;
    keys = pl_options_new();
    result = pl_options_add(keys, param, e);
    if (result == 0)
        result = look_up(img, pl_options_text(keys, "snapshot.id"),
                         pl_options_text(keys, "snapshot.name"), name, e);
    if (result == 0)
        result = pl_options_check_all_known(keys, "of --snapshot", e);
    pl_options_free(keys);
    return result;
}
