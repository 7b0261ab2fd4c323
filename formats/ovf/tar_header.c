#include "formats/ovf/tar_header.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"

enum {
    NAME = 0,
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    MTIME = 136,
    CHECKSUM = 148,
    TYPE = 156,
    MAGIC = 257,
    VERSION = 263,
    USER = 265,
    GROUP = 297,
};

#define OCTAL_SIZE_MAX (UINT64_C(8) * PL_GIB - 1)

/* `digits` octal digits and a zero byte. */
static void octal(uint8_t *at, int digits, uint64_t number)
{
    char text[24];

    snprintf(text, sizeof text, "%0*" PRIo64, digits, number);
    memcpy(at, text, (size_t)digits + 1);
}

static void put_size(uint8_t *header, uint64_t size)
{
    if (size <= OCTAL_SIZE_MAX) {
        octal(header + SIZE, 11, size);
        return;
    }
    header[SIZE] = 0x80; /* says that the other eleven bytes are a big-endian number */
    store_be64(header + SIZE + 4, size);
}

/* Counts its own field as blanks. */
static void put_checksum(uint8_t *header)
{
    unsigned sum = 0;

    memset(header + CHECKSUM, ' ', 8);
    for (unsigned i = 0; i < OVF_TAR_BLOCK; i++)
        sum += header[i];
    octal(header + CHECKSUM, 6, sum); /* and a blank, which is there already */
}

int ovf_tar_header(const char *name, uint64_t size, uint64_t mtime,
                   uint8_t header[static OVF_TAR_BLOCK], struct pl_err *e)
{
    const size_t len = strlen(name);

    if (len > OVF_TAR_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "%.120s: its name has %zu bytes, more than a tar archive's %d", name, len,
                       OVF_TAR_NAME_MAX);
    memset(header, 0, OVF_TAR_BLOCK);
    memcpy(header + NAME, name, len);
    octal(header + MODE, 7, 0644);
    octal(header + UID, 7, 0);
    octal(header + GID, 7, 0);
    put_size(header, size);
    octal(header + MTIME, 11, PL_MIN(mtime, OCTAL_SIZE_MAX));
    header[TYPE] = '0';
    memcpy(header + MAGIC, "ustar", 6);
    memcpy(header + VERSION, "00", 2);
    memcpy(header + USER, "root", 4);
    memcpy(header + GROUP, "root", 4);
    put_checksum(header);
    return 0;
}
