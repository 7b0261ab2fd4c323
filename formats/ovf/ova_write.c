#include "formats/ovf/ova_write.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/checked.h"
#include "core/base/digest.h"
#include "core/base/scope.h"
#include "formats/ovf/envelope_write.h"
#include "formats/ovf/envelope.h"
#include "formats/ovf/sink.h"
#include "formats/ovf/tar_header.h"

/* 1980-01-01, where the result must not depend on the day: some tools find 1970 implausible. */
#define TIME_REPRODUCIBLE 315532800

/* What VMDK counts in. */
#define SECTOR 512u

struct writer {
    struct pl_storage *file; /* the caller's */
    struct ovf_machine machine;
    uint64_t mtime;
    size_t disk_count;
    struct ovf_new_disk *disks; /* the size is known when a disk is written */
    struct ovf_sunk *sunk;
    uint64_t *starts;      /* of each disk's header; one more: where the archive ends */
    size_t next;           /* the disk whose turn it is */
    size_t descriptor_len; /* what is kept for it, whole blocks */
    size_t manifest_len;
};

static uint64_t whole_blocks(uint64_t len)
{
    return pl_round_up(len, OVF_TAR_BLOCK);
}

static void release(struct writer *writer)
{
    if (!writer)
        return;
    free(writer->disks);
    free(writer->sunk);
    free(writer->starts);
    free(writer);
}

/* ---- the manifest ---- */

static size_t hex_len_of(const char *digest)
{
    return strcmp(digest, "sha512") == 0 ? 128 : strcmp(digest, "sha1") == 0 ? 40 : 64;
}

/* "SHA256(name)= hex": without a blank before the bracket, which old importers do not take. */
static void manifest_line(FILE *to, const char *digest, const char *name, const char *hex)
{
    for (const char *at = digest; *at; at++)
        fputc(toupper((unsigned char)*at), to);
    fprintf(to, "(%s)= %s\n", name, hex);
}

static char *manifest_text(const struct writer *writer, const char *descriptor_hex, size_t *len)
{
    const char *digest = writer->machine.digest;
    char name[OVF_TAR_NAME_MAX + 1], *text = NULL;
    FILE *to = open_memstream(&text, len);

    if (!to)
        return NULL;
    snprintf(name, sizeof name, "%s.ovf", writer->machine.file);
    manifest_line(to, digest, name, descriptor_hex);
    for (size_t i = 0; i < writer->disk_count; i++)
        manifest_line(to, digest, writer->disks[i].file, writer->sunk[i].hex);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

/* ---- begin ---- */

static int no_memory(const struct pl_storage *file, struct pl_err *e)
{
    return pl_fail(e, PL_E_NOMEM, "%s: no memory to write it", file->name);
}

/* `text` tells the identifiers of one package apart. */
static void identify(const struct pl_package_create_args *args, const char *text,
                     char uuid[static PL_UUID_TEXT])
{
    struct pl_uuid id;

    if (args->reproducible)
        pl_uuid_from_name(&id, text, strlen(text));
    else
        pl_uuid_random(&id);
    pl_uuid_format(&id, uuid);
}

static int name_disks(struct writer *writer, const struct pl_package_create_args *args,
                      struct pl_err *e)
{
    for (size_t i = 0; i < writer->disk_count; i++) {
        if (args->capacities[i] > PL_OFFSET_MAX)
            return pl_fail(e, PL_E_LIMIT, "%s: disk %zu is too big", writer->file->name, i);
        writer->disks[i].capacity = pl_round_up(args->capacities[i], SECTOR); /* as VMDK does */
        snprintf(writer->disks[i].file, sizeof writer->disks[i].file, "%s-disk%zu.vmdk",
                 writer->machine.file, i + 1);
        identify(args, writer->disks[i].file, writer->disks[i].uuid);
    }
    identify(args, writer->machine.name, writer->machine.uuid);
    return 0;
}

/* How long the two members in front become: with the longest sizes, and digests of any value. */
static int reserve(struct writer *writer, struct pl_err *e)
{
    char hex[PL_DIGEST_TEXT] = "";
    PL_FREE char *manifest = NULL;
    PL_FREE char *descriptor = NULL;
    size_t descriptor_len = 0;

    memset(hex, '0', hex_len_of(writer->machine.digest));
    for (size_t i = 0; i < writer->disk_count; i++) {
        writer->disks[i].size = PL_OFFSET_MAX;
        memcpy(writer->sunk[i].hex, hex, sizeof hex);
    }
    descriptor =
        ovf_envelope_text(&writer->machine, writer->disks, writer->disk_count, &descriptor_len);
    manifest = manifest_text(writer, hex, &writer->manifest_len);
    if (!descriptor || !manifest)
        return no_memory(writer->file, e);
    writer->descriptor_len = (size_t)whole_blocks(descriptor_len);
    writer->starts[0] =
        OVF_TAR_BLOCK + writer->descriptor_len + OVF_TAR_BLOCK + whole_blocks(writer->manifest_len);
    return 0;
}

static int check_output(const struct pl_package_create_args *args,
                        const struct ovf_machine *machine, struct pl_err *e)
{
    const size_t disks_max = ovf_machine_disks_max(machine);

    if (args->file->sequential) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "%s: an OVA cannot be written to a pipe: its first member is known last",
                args->file->name);
        return pl_hint(e, "write it to a file");
    }
    if (args->disk_count == 0 || args->disk_count > disks_max)
        return pl_fail(e, PL_E_LIMIT, "%s: %zu disks are not possible with controller=%s: 1 to %zu",
                       args->file->name, args->disk_count, machine->controller->name, disks_max);
    return 0;
}

static int prepare(struct writer *writer, const struct pl_package_create_args *args,
                   struct pl_err *e)
{
    writer->file = args->file;
    writer->mtime = args->reproducible ? TIME_REPRODUCIBLE : (uint64_t)time(NULL);
    writer->disk_count = args->disk_count;
    writer->disks = calloc(args->disk_count, sizeof *writer->disks);
    writer->sunk = calloc(args->disk_count, sizeof *writer->sunk);
    writer->starts = calloc(args->disk_count + 1, sizeof *writer->starts);
    if (!writer->disks || !writer->sunk || !writer->starts)
        return no_memory(args->file, e);
    return name_disks(writer, args, e) < 0 ? -1 : reserve(writer, e);
}

int ova_begin(const struct pl_package_create_args *args, void **out, struct pl_err *e)
{
    struct writer *writer = calloc(1, sizeof *writer);

    if (!writer)
        return no_memory(args->file, e);
    if (ovf_machine_read(args->options, args->name, &writer->machine, e) < 0 ||
        check_output(args, &writer->machine, e) < 0 || prepare(writer, args, e) < 0) {
        release(writer);
        return -1;
    }
    *out = writer;
    return 0;
}

/* ---- disks ---- */

/* VMDK knows no adapters but IDE and parallel SCSI; VMware's tools call all others LSI Logic. */
const char *ova_disk_options(void *state)
{
    const struct writer *writer = state;

    return writer->machine.controller->type == OVF_IDE
               ? "subformat=streamOptimized,adapter_type=ide"
               : "subformat=streamOptimized,adapter_type=lsilogic";
}

/* The last disk that was begun, if any, must be closed and complete; then it is known where the
 * next header goes. */
static int settle_last(struct writer *writer, struct pl_err *e)
{
    const size_t last = writer->next - 1;

    if (writer->next == 0)
        return 0;
    if (!writer->sunk[last].complete)
        return pl_fail(e, PL_E_INVALID, "%s: %s was not written whole", writer->file->name,
                       writer->disks[last].file);
    writer->disks[last].size = writer->sunk[last].size;
    writer->starts[writer->next] =
        writer->starts[last] + OVF_TAR_BLOCK + whole_blocks(writer->sunk[last].size);
    return 0;
}

int ova_disk_storage(void *state, size_t disk, struct pl_storage **out, struct pl_err *e)
{
    struct writer *writer = state;
    PL_FREE char *name = NULL;
    struct ovf_sink_args args;

    if (disk != writer->next || disk >= writer->disk_count)
        return pl_fail(e, PL_E_INVALID, "%s: disk %zu is not the one whose turn it is",
                       writer->file->name, disk);
    if (settle_last(writer, e) < 0)
        return -1;
    if (asprintf(&name, "%s/%s", writer->file->name, writer->disks[disk].file) < 0) {
        name = NULL;
        return no_memory(writer->file, e);
    }
    args = (struct ovf_sink_args){ .archive = writer->file,
                                   .result = &writer->sunk[disk],
                                   .start = writer->starts[disk] + OVF_TAR_BLOCK,
                                   .name = name,
                                   .algorithm = writer->machine.digest };
    if (ovf_sink(&args, out, e) < 0)
        return -1;
    writer->next++;
    return 0;
}

/* ---- finish ---- */

static int put_header(const struct writer *writer, uint64_t off, const char *name, uint64_t size,
                      struct pl_err *e)
{
    uint8_t header[OVF_TAR_BLOCK];

    if (ovf_tar_header(name, size, writer->mtime, header, e) < 0)
        return -1;
    return pl_storage_write(writer->file, off, header, sizeof header, e);
}

/* A member whose bytes are here, padded to whole blocks. */
static int put_member(const struct writer *writer, uint64_t off, const char *ending,
                      const char *text, size_t len, struct pl_err *e)
{
    static const uint8_t zeros[OVF_TAR_BLOCK];
    char name[OVF_TAR_NAME_MAX + 1];

    snprintf(name, sizeof name, "%s%s", writer->machine.file, ending);
    if (put_header(writer, off, name, len, e) < 0 ||
        pl_storage_write(writer->file, off + OVF_TAR_BLOCK, text, len, e) < 0)
        return -1;
    return pl_storage_write(writer->file, off + OVF_TAR_BLOCK + len, zeros,
                            (size_t)(whole_blocks(len) - len), e);
}

/* The header of each disk, and the zeros between its end and the next header. */
static int put_disks(const struct writer *writer, struct pl_err *e)
{
    static const uint8_t zeros[OVF_TAR_BLOCK];

    for (size_t i = 0; i < writer->disk_count; i++) {
        const struct ovf_new_disk *disk = &writer->disks[i];
        const uint64_t end = writer->starts[i] + OVF_TAR_BLOCK + disk->size;

        if (put_header(writer, writer->starts[i], disk->file, disk->size, e) < 0 ||
            pl_storage_write(writer->file, end, zeros, (size_t)(writer->starts[i + 1] - end), e) <
                0)
            return -1;
    }
    return 0;
}

/* Two blocks of zeros end an archive. */
static int put_end(const struct writer *writer, struct pl_err *e)
{
    static const uint8_t zeros[2 * OVF_TAR_BLOCK];

    return pl_storage_write(writer->file, writer->starts[writer->disk_count], zeros, sizeof zeros,
                            e);
}

static int digest_of(const char *algorithm, const char *text, size_t len,
                     char hex[static PL_DIGEST_TEXT], struct pl_err *e)
{
    struct pl_digest *digest;
    int result;

    if (pl_digest_new(algorithm, &digest, e) < 0)
        return -1;
    result = pl_digest_update(digest, text, len, e);
    if (result == 0)
        result = pl_digest_finish(digest, hex, e);
    pl_digest_free(digest);
    return result;
}

/* The descriptor as long as the room that is kept for it; null: no memory. */
static char *padded_descriptor(const struct writer *writer)
{
    size_t len = 0;
    PL_FREE char *text =
        ovf_envelope_text(&writer->machine, writer->disks, writer->disk_count, &len);
    char *padded = malloc(writer->descriptor_len);

    if (!text || !padded || len > writer->descriptor_len) {
        free(padded);
        return NULL;
    }
    memset(padded, '\n', writer->descriptor_len);
    return memcpy(padded, text, len);
}

static int put_front(const struct writer *writer, struct pl_err *e)
{
    char hex[PL_DIGEST_TEXT];
    PL_FREE char *descriptor = padded_descriptor(writer);
    PL_FREE char *manifest = NULL;
    size_t manifest_len = 0;

    if (!descriptor)
        return no_memory(writer->file, e);
    if (digest_of(writer->machine.digest, descriptor, writer->descriptor_len, hex, e) < 0)
        return -1;
    manifest = manifest_text(writer, hex, &manifest_len);
    if (!manifest || manifest_len != writer->manifest_len)
        return no_memory(writer->file, e);
    if (put_member(writer, OVF_TAR_BLOCK + writer->descriptor_len, ".mf", manifest, manifest_len,
                   e) < 0)
        return -1;
    return put_member(writer, 0, ".ovf", descriptor, writer->descriptor_len, e);
}

int ova_finish(void *state, struct pl_err *e)
{
    struct writer *writer = state;
    int result;

    if (writer->next != writer->disk_count)
        result = pl_fail(e, PL_E_INVALID, "%s: only %zu of %zu disks were written",
                         writer->file->name, writer->next, writer->disk_count);
    else
        result = settle_last(writer, e);
    if (result == 0 &&
        (put_disks(writer, e) < 0 || put_end(writer, e) < 0 || put_front(writer, e) < 0))
        result = -1;
    release(writer);
    return result;
}

void ova_abandon(void *state)
{
    release(state);
}
