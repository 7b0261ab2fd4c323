/* package.c - the drivers of OVF packages: a descriptor beside its files, and the same in a tar
 * archive (OVA). */
#include "formats/ovf/package.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/ovf/cert.h"
#include "formats/ovf/machine.h"
#include "formats/ovf/ova_write.h"
#include "formats/ovf/tar_index.h"
#include "formats/ovf/xml.h"

int ovf_companion_text(const struct ovf_members *members, const char *ending, size_t max,
                       char **text, size_t *len, struct pl_err *e)
{
    struct pl_err why = { 0 };
    struct pl_storage *st;
    int result;

    if (ovf_members_open_companion(members, ending, &st, &why) < 0) {
        if (why.kind == PL_E_NOT_FOUND)
            return 1;
        if (e)
            *e = why;
        return -1;
    }
    result = ovf_read_text(st, max, text, len, e);
    pl_storage_close(st, NULL);
    return result;
}

/* The descriptor's storage; *own: it is to be closed. */
static int open_descriptor(struct ovf_package *package, struct pl_storage **st, bool *own,
                           struct pl_err *e)
{
    *own = package->members.archive;
    *st = package->members.args.file;
    return *own ? ovf_members_open(&package->members, ovf_members_descriptor(&package->members), st,
                                   e)
                : 0;
}

static int read_envelope(struct ovf_package *package, struct pl_err *e)
{
    PL_FREE char *text = NULL;
    struct pl_storage *st;
    size_t len = 0;
    int result;
    bool own;

    if (open_descriptor(package, &st, &own, e) < 0)
        return -1;
    result = ovf_read_text(st, OVF_XML_BYTES_MAX, &text, &len, e);
    if (own)
        pl_storage_close(st, NULL);
    if (result < 0)
        return -1;
    if (ovf_envelope_parse(text, len, &package->envelope, e) < 0)
        return pl_within(e, "%s", ovf_members_descriptor(&package->members));
    return 0;
}

/* For information only: what is wrong with the certificate is said by verify. */
static void read_signer(struct ovf_package *package)
{
    PL_FREE char *text = NULL;
    struct ovf_cert *cert;
    size_t len;

    if (ovf_companion_text(&package->members, ".cert", OVF_CERT_BYTES_MAX, &text, &len, NULL) !=
            0 ||
        ovf_cert_parse(text, len, &cert, NULL) < 0)
        return;
    package->signer = strdup(ovf_cert_subject(cert));
    ovf_cert_free(cert);
}

static void package_close(void *state)
{
    struct ovf_package *package = state;

    ovf_disks_free(&package->disks);
    ovf_envelope_free(package->envelope);
    ovf_members_free(&package->members);
    free(package->signer);
    free(package);
}

typedef int find_members(const struct pl_package_open_args *args, struct ovf_members *members,
                         struct pl_err *e);

static int open_package(const struct pl_package_open_args *args, find_members *find, void **state,
                        struct pl_err *e)
{
    struct ovf_package *package = calloc(1, sizeof *package);

    if (!package)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open it", args->file->name);
    if (find(args, &package->members, e) < 0 || read_envelope(package, e) < 0 ||
        ovf_disks_find(package->envelope, &package->disks, e) < 0) {
        package_close(package);
        return pl_within(e, "%s", args->file->name);
    }
    read_signer(package);
    *state = package;
    return 0;
}

static int ova_open(const struct pl_package_open_args *args, void **state, struct pl_err *e)
{
    return open_package(args, ovf_members_of_archive, state, e);
}

static int ovf_open(const struct pl_package_open_args *args, void **state, struct pl_err *e)
{
    return open_package(args, ovf_members_beside, state, e);
}

static size_t package_disks(void *state, const struct pl_package_disk **list)
{
    struct ovf_package *package = state;

    *list = package->disks.list;
    return package->disks.count;
}

static int package_storage(void *state, size_t disk, struct pl_storage **out, struct pl_err *e)
{
    struct ovf_package *package = state;

    if (ovf_disks_open(&package->disks, disk, &package->members, out, e) < 0)
        return pl_within(e, "%s", package->members.args.file->name);
    return 0;
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

/* Behind `close`, which ends what `at` begins; null: it does not end here. */
static const char *behind(const char *at, const char *end, const char *close)
{
    const char *found = memmem(at, (size_t)(end - at), close, strlen(close));

    return found ? found + strlen(close) : NULL;
}

/* XML text in an encoding that has ASCII in it, whose root is an Envelope of any prefix. */
static bool ovf_probe(const uint8_t *head, size_t len)
{
    const char *at = (const char *)head, *end = at + len, *name;

    if (len >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    at = skip_blanks(at, end);
    while (at && end - at > 4 && at[0] == '<' && (at[1] == '?' || at[1] == '!')) {
        at = behind(at, end, strncmp(at, "<!--", 4) == 0 ? "-->" : ">");
        at = at ? skip_blanks(at, end) : NULL;
    }
    if (!at || at == end || *at++ != '<')
        return false;
    for (name = at; at < end && !strchr(" \t\r\n/>", *at); at++)
        if (*at == ':')
            name = at + 1;
    return at < end && at - name == 8 && memcmp(name, "Envelope", 8) == 0;
}

const struct pl_package_driver pl_ova = {
    .name = "ova",
    .spec = "DMTF DSP0243 (OVF 1.1)",
    .probe = ovf_tar_probe,
    .open = ova_open,
    .disks = package_disks,
    .storage = package_storage,
    .verify = ovf_verify,
    .facts = ovf_facts,
    .close = package_close,
    .create_options = ovf_machine_options,
    .disk_format = "vmdk",
    .begin = ova_begin,
    .disk_options = ova_disk_options,
    .disk_storage = ova_disk_storage,
    .finish = ova_finish,
    .abandon = ova_abandon,
};

const struct pl_package_driver pl_ovf = {
    .name = "ovf",
    .spec = "DMTF DSP0243 (OVF 0.9 to 2.1)",
    .probe = ovf_probe,
    .open = ovf_open,
    .disks = package_disks,
    .storage = package_storage,
    .verify = ovf_verify,
    .facts = ovf_facts,
    .close = package_close,
};
