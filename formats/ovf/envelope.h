/* envelope.h - what an OVF descriptor says: files, disks, networks and virtual machines.
 *
 * DMTF DSP0243 versions 1.0, 1.1 and 2.x, and VMware's 0.9 before it.  Only what concerns disks and
 * what `info` shows is read; unknown sections are stepped over.  Of several deployment
 * configurations the default one counts. */
#ifndef PL_FORMATS_OVF_ENVELOPE_H
#define PL_FORMATS_OVF_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* Bounds on what is kept: far above real appliances, low enough for comparing all with all. */
#define OVF_FILES_MAX 4096
#define OVF_DISKS_MAX 1024
#define OVF_ITEMS_MAX 8192
#define OVF_NETWORKS_MAX 1024
#define OVF_SYSTEMS_MAX 256

struct _xmlDict;

/* Texts live as long as the envelope; null: not said. */

struct ovf_file {
    const char *id, *href;
    const char *compression; /* "gzip", "identity" ... */
    uint64_t size;           /* bytes as stored; 0: not said */
    uint64_t chunk_size;     /* bytes; 0: not cut */
};

struct ovf_disk {
    const char *id, *file_id, *format, *parent_id;
    uint64_t capacity; /* bytes; 0: not said, or left to the one who installs it */
};

/* CIM resource types of an item. */
enum ovf_resource {
    OVF_CPU = 3,
    OVF_MEMORY = 4,
    OVF_IDE = 5,
    OVF_SCSI = 6,
    OVF_NETWORK_CARD = 10,
    OVF_CD = 15,
    OVF_DVD = 16,
    OVF_HARD_DISK = 17,
    OVF_STORAGE = 20, /* SATA and NVMe */
};

struct ovf_item {
    const char *id, *subtype, *name, *parent, *address, *host, *connection;
    uint64_t type;     /* enum ovf_resource or another */
    uint64_t quantity; /* memory: bytes */
};

/* One virtual machine. */
struct ovf_system {
    const char *id, *name, *os, *os_id, *hardware, *firmware;
    const char *product, *vendor, *version;
    size_t first_item, item_count; /* its items in the envelope */
};

struct ovf_envelope {
    const char *version; /* "0.9", "1" or "2" */
    struct ovf_file *files;
    struct ovf_disk *disks;
    struct ovf_item *items;
    const char **networks;
    struct ovf_system *systems;
    size_t file_count, disk_count, item_count, network_count, system_count;
    struct _xmlDict *texts;
};

/* Reads a descriptor of `len` bytes with a zero behind them.  PL_E_FORMAT: the root is no Envelope
 * of a known namespace; PL_E_CORRUPT, PL_E_LIMIT, PL_E_NOMEM. */
int ovf_envelope_parse(const char *text, size_t len, struct ovf_envelope **out, struct pl_err *e)
    PL_CHECK;

/* Null is fine. */
void ovf_envelope_free(struct ovf_envelope *envelope);

/* The first of the machine's items; null: it has none. */
const struct ovf_item *ovf_system_items(const struct ovf_envelope *envelope,
                                        const struct ovf_system *system);

/* The file of that id; null: none. */
const struct ovf_file *ovf_envelope_file(const struct ovf_envelope *envelope, const char *id);

#endif
