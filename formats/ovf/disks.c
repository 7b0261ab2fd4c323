#include "formats/ovf/disks.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/checked.h"
#include "core/storage/gunzip.h"
#include "formats/ovf/chunks.h"

/* What an image may need besides its disk's capacity: tables, in the worst case 1/64 of it with the
 * smallest clusters and grains in use, and headers. */
#define TABLES_SHARE 64
#define HEADERS_MAX (64 * PL_MIB)

/* The driver that a format's URI stands for: the specification's address, as tools write it. */
static const char *format_of(const char *uri)
{
    static const char *const known[][2] = {
        { "vmdk", "vmdk" },    { "vhdx", "vhdx" },  { "vhd", "vhd" },
        { "bb676673", "vhd" }, /* Microsoft's page on VHD, which VirtualBox names */
        { "vdi", "vdi" },      { "qcow", "qcow2" }, { "wiki/byte", "raw" },
    };

    for (unsigned i = 0; uri && i < PL_COUNT(known); i++)
        if (strcasestr(uri, known[i][0]))
            return known[i][1];
    return NULL;
}

const char *ovf_controller_kind(const struct ovf_item *item)
{
    switch (item->type) {
    case OVF_IDE:
        return "ide";
    case OVF_SCSI:
        return "scsi";
    case OVF_STORAGE:
        return item->subtype && strcasestr(item->subtype, "nvme") ? "nvme" : "sata";
    default:
        return NULL;
    }
}

/* The id behind "ovf:/disk/" or "ovf:/file/" (`what`), with the spellings of older versions: no
 * scheme, one slash more or none; null: it is something else. */
static const char *host_id(const char *host, const char *what)
{
    const size_t len = strlen(what);

    if (!host)
        return NULL;
    if (strncmp(host, "ovf:", 4) == 0)
        host += 4;
    host += strspn(host, "/");
    return strncmp(host, what, len) == 0 && host[len] == '/' ? host + len + 1 : NULL;
}

static struct pl_package_disk *find(const struct ovf_disks *disks, const char *id)
{
    for (size_t i = 0; id && i < disks->count; i++) {
        assert(disks->list[i].id); /* the envelope has no disk without one */
        if (strcmp(disks->list[i].id, id) == 0)
            return &disks->list[i];
    }
    return NULL;
}

static void add_disk(struct ovf_disks *disks, const struct ovf_file *file,
                     struct pl_package_disk disk)
{
    if (file) {
        disk.name = file->href;
        disk.file_size = file->size;
        disk.chunk_size = file->chunk_size;
        if (file->compression && strcasecmp(file->compression, "identity") != 0)
            disk.compression = file->compression;
    }
    disks->files[disks->count] = file;
    disks->list[disks->count++] = disk;
}

/* The controller that the item hangs on, and which of its kind in the machine that is. */
static void place_on_controller(const struct ovf_item *items, size_t count,
                                const struct ovf_item *item, struct pl_package_disk *disk)
{
    const struct ovf_item *controller = NULL;

    for (size_t i = 0; item->parent && !controller && i < count; i++)
        if (items[i].id && strcmp(items[i].id, item->parent) == 0)
            controller = &items[i];
    disk->address = item->address;
    disk->controller = controller ? ovf_controller_kind(controller) : NULL;
    if (!disk->controller)
        return;
    disk->controller_model = controller->subtype;
    for (const struct ovf_item *before = items; before < controller; before++) {
        const char *kind = ovf_controller_kind(before);

        disk->controller_number += kind && strcmp(kind, disk->controller) == 0;
    }
}

/* A hard disk of a machine: one of the Disks, or a file by itself. */
static int place_disk(const struct ovf_envelope *envelope, const struct ovf_system *system,
                      const struct ovf_item *item, struct ovf_disks *disks, struct pl_err *e)
{
    const char *file_id = host_id(item->host, "file");
    const struct ovf_file *file = file_id ? ovf_envelope_file(envelope, file_id) : NULL;
    struct pl_package_disk *disk = find(disks, file_id ? file_id : host_id(item->host, "disk"));

    if (file && disk && disk->name != file->href)
        return pl_fail(e, PL_E_CORRUPT, "a disk and a file used as a disk are both called %.100s",
                       file_id);
    if (file && !disk) {
        if (disks->count >= OVF_DISKS_MAX)
            return pl_fail(e, PL_E_LIMIT, "more than %d disks", OVF_DISKS_MAX);
        add_disk(disks, file, (struct pl_package_disk){ .id = file_id });
        disk = &disks->list[disks->count - 1];
    }
    if (disk && !disk->system) {
        disk->system = system->name ? system->name : system->id ? system->id : "";
        place_on_controller(ovf_system_items(envelope, system), system->item_count, item, disk);
    }
    return 0;
}

static int place_disks(const struct ovf_envelope *envelope, struct ovf_disks *disks,
                       struct pl_err *e)
{
    for (size_t i = 0; i < envelope->system_count; i++) {
        const struct ovf_system *system = &envelope->systems[i];
        const struct ovf_item *item = ovf_system_items(envelope, system);

        for (size_t left = system->item_count; left > 0; left--, item++)
            if (item->type == OVF_HARD_DISK && place_disk(envelope, system, item, disks, e) < 0)
                return -1;
    }
    return 0;
}

int ovf_disks_find(const struct ovf_envelope *envelope, struct ovf_disks *disks, struct pl_err *e)
{
    *disks = (struct ovf_disks){ 0 };
    disks->list = calloc(OVF_DISKS_MAX, sizeof *disks->list);
    disks->files = calloc(OVF_DISKS_MAX, sizeof(struct ovf_file *));
    if (!disks->list || !disks->files)
        return pl_fail(e, PL_E_NOMEM, "no memory for the list of disks");
    for (size_t i = 0; i < envelope->disk_count; i++) {
        const struct ovf_disk *disk = &envelope->disks[i];

        add_disk(disks, disk->file_id ? ovf_envelope_file(envelope, disk->file_id) : NULL,
                 (struct pl_package_disk){ .id = disk->id,
                                           .capacity = disk->capacity,
                                           .format = format_of(disk->format),
                                           .parent_id = disk->parent_id });
    }
    return place_disks(envelope, disks, e);
}

void ovf_disks_free(struct ovf_disks *disks)
{
    free(disks->list);
    free(disks->files);
}

static int check_content(const struct pl_package_disk *disk, struct pl_err *e)
{
    if (!disk->name)
        return pl_fail(e, PL_E_UNSUPPORTED, "disk %.100s is empty: the package has no file for it",
                       disk->id);
    if (disk->parent_id)
        return pl_fail(
            e, PL_E_UNSUPPORTED,
            "disk %.100s holds only the differences to disk %.100s: that is not supported",
            disk->id, disk->parent_id);
    if (disk->compression && strcasecmp(disk->compression, "gzip") != 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "%.200s: its compression \"%.40s\" is not supported",
                       disk->name, disk->compression);
    return 0;
}

static int unpack(const struct pl_package_disk *disk, const struct pl_report *report,
                  struct pl_storage **st, struct pl_err *e)
{
    const uint64_t limit = disk->capacity + disk->capacity / TABLES_SHARE + HEADERS_MAX;
    struct pl_storage *packed = *st;
    int result;

    /* The capacity is below 2^63, so the sum is below 2^64. */
    result = pl_gunzip(packed, PL_MIN(limit, PL_OFFSET_MAX), report, st, e);
    pl_storage_close(packed, NULL);
    return result;
}

int ovf_disks_open(const struct ovf_disks *disks, size_t index, const struct ovf_members *members,
                   struct pl_storage **out, struct pl_err *e)
{
    const struct pl_package_disk *disk;

    if (index >= disks->count)
        return pl_fail(e, PL_E_INVALID, "there is no disk %zu, the package has %zu", index,
                       disks->count);
    disk = &disks->list[index];
    if (check_content(disk, e) < 0 || ovf_chunks_open(members, disks->files[index], out, e) < 0)
        return -1;
    return disk->compression ? unpack(disk, members->args.report, out, e) : 0;
}
