/* verify.c - a package against its manifest, and the manifest against its signature. */
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/ovf/cert.h"
#include "formats/ovf/chunks.h"
#include "formats/ovf/manifest.h"
#include "formats/ovf/package.h"

struct job {
    const struct ovf_package *package;
    struct ovf_manifest manifest;
    const struct ovf_file *only; /* one disk's file; null: all */
    bool all;
    bool trusted; /* the manifest is signed, so what it does not list is not signed */
    struct ovf_progress progress;
};

/* The manifest may name files as the descriptor does or without their escapes. */
static bool wanted(const struct job *job, const char *name)
{
    return job->all || strcmp(name, ovf_members_descriptor(&job->package->members)) == 0 ||
           (job->only && ovf_chunks_has(job->only, name));
}

/* A storage of the file; the descriptor of an OVF is open already, perhaps from a stream. */
static int open_listed(const struct job *job, const char *name, struct pl_storage **st, bool *own,
                       struct pl_err *e)
{
    const struct ovf_members *members = &job->package->members;

    *own = members->archive || strcmp(name, ovf_members_descriptor(members)) != 0;
    *st = members->args.file;
    if (!*own || ovf_members_open(members, name, st, e) == 0)
        return 0;
    return pl_within(e, "the manifest lists %.200s", name);
}

static int check_listed(struct job *job, const struct ovf_digest *digest, struct pl_err *e)
{
    struct pl_storage *st;
    int result;
    bool own;

    if (open_listed(job, digest->name, &st, &own, e) < 0)
        return -1;
    job->progress.total += pl_storage_size(st);
    result = ovf_digest_check(digest, st, &job->progress, e);
    if (own)
        pl_storage_close(st, NULL);
    return result;
}

static int unlisted(const struct job *job, const char *name, struct pl_err *e)
{
    if (job->trusted)
        return pl_fail(e, PL_E_MISMATCH, "%.200s: the signed manifest has no digest of it", name);
    pl_warn(job->progress.report, "%.200s: the manifest has no digest of it", name);
    return 0;
}

static bool lists_file(const struct ovf_manifest *manifest, const struct ovf_file *file)
{
    for (size_t i = 0; i < manifest->count; i++)
        if (ovf_chunks_has(file, manifest->list[i].name))
            return true;
    return false;
}

static int check_all_listed(const struct job *job, struct pl_err *e)
{
    const struct ovf_envelope *envelope = job->package->envelope;
    const char *descriptor = ovf_members_descriptor(&job->package->members);

    if (!ovf_manifest_has(&job->manifest, descriptor) && unlisted(job, descriptor, e) < 0)
        return -1;
    for (size_t i = 0; i < envelope->file_count; i++) {
        const struct ovf_file *file = &envelope->files[i];

        if ((job->all || job->only == file) && !lists_file(&job->manifest, file) &&
            unlisted(job, file->href, e) < 0)
            return -1;
    }
    return 0;
}

static int check_files(struct job *job, struct pl_err *e)
{
    if (check_all_listed(job, e) < 0)
        return -1;
    for (size_t i = 0; i < job->manifest.count; i++)
        if (wanted(job, job->manifest.list[i].name) &&
            check_listed(job, &job->manifest.list[i], e) < 0)
            return -1;
    return 0;
}

static int check_signed_by(const struct ovf_cert *cert, const char *manifest, size_t manifest_len,
                           struct pl_storage *authorities, struct pl_err *e)
{
    PL_FREE char *known = NULL;
    size_t len;

    if (ovf_read_text(authorities, OVF_CERT_BYTES_MAX, &known, &len, e) < 0)
        return -1;
    return ovf_cert_verify(cert, manifest, manifest_len, known, len, e);
}

/* Only with authorities: a signature by nobody we know says nothing. */
static int check_signature(struct job *job, const char *manifest, size_t manifest_len,
                           struct pl_err *e)
{
    struct pl_storage *authorities = job->package->members.args.authorities;
    PL_FREE char *text = NULL;
    struct ovf_cert *cert;
    size_t len;
    int result;

    if (!authorities)
        return 0;
    result =
        ovf_companion_text(&job->package->members, ".cert", OVF_CERT_BYTES_MAX, &text, &len, e);
    if (result > 0)
        return pl_fail(e, PL_E_NOT_FOUND, "the package is not signed: it has no .cert");
    if (result < 0 || ovf_cert_parse(text, len, &cert, e) < 0)
        return -1;
    result = check_signed_by(cert, manifest, manifest_len, authorities, e);
    ovf_cert_free(cert);
    job->trusted = result == 0;
    return result;
}

static int verify(struct job *job, struct pl_err *e)
{
    const struct ovf_members *members = &job->package->members;
    PL_FREE char *text = NULL;
    size_t len;
    int result = ovf_companion_text(members, ".mf", OVF_MANIFEST_BYTES_MAX, &text, &len, e);

    if (result > 0 && members->args.authorities)
        return pl_fail(e, PL_E_NOT_FOUND, "the package is not signed: it has no manifest (.mf)");
    if (result != 0)
        return result;
    if (check_signature(job, text, len, e) < 0)
        return -1;
    result = ovf_manifest_parse(text, len, &job->manifest, e);
    if (result == 0)
        result = check_files(job, e);
    ovf_manifest_free(&job->manifest);
    return result;
}

int ovf_verify(void *state, size_t disk, const struct pl_report *report, struct pl_err *e)
{
    const struct ovf_package *package = state;
    struct job job = { .package = package,
                       .all = disk == PL_PACKAGE_ALL,
                       .progress = { .report = report } };
    int result;

    if (!job.all && disk >= package->disks.count)
        return pl_fail(e, PL_E_INVALID, "there is no disk %zu, the package has %zu", disk,
                       package->disks.count);
    if (!job.all)
        job.only = package->disks.files[disk];
    result = verify(&job, e);
    return result < 0 ? pl_within(e, "%s", package->members.args.file->name) : result;
}
