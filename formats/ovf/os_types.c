/* os_types.c - see os_types.h.
 *
 * VMware's ids are "NAME" + digits of a version + "_64" or "64" + "Guest".  The values are those of
 * the property OSType in the DMTF's class CIM_OperatingSystem; importers of VMware look at the id,
 * VirtualBox at the value. */
#include "formats/ovf/os_types.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/checked.h"

enum { CIM_OTHER = 1, CIM_LINUX = 36, CIM_LINUX_64 = 101, CIM_OTHER_64 = 102 };

/* The first row whose start fits counts. */
static const struct {
    const char *start;
    unsigned short cim, cim_64;
} known[] = {
    { "ubuntu", 93, 94 },
    { "debian", 95, 96 },
    { "rhel", 79, 80 },
    { "centos", 106, 107 },
    { "oracleLinux", 108, 109 },
    { "sles", 84, 85 },
    { "suse", 82, 83 },
    { "other26xLinux", 99, 100 },
    { "other24xLinux", 97, 98 },
    { "freebsd", 42, 78 },
    { "windows7Server", 103, 103 },
    { "windows8Server", 112, 112 },
    { "windows9Server", 116, 116 },
    { "windows2019srv", 116, 116 },
    { "windows2022srv", 116, 116 },
    { "windows7", 105, 105 },
    { "windows8", 113, 114 },
    { "windows9", 119, 120 },
    { "windows11", 120, 120 },
};

unsigned ovf_os_type(const char *guest_id)
{
    const bool is_64 = strstr(guest_id, "64") != NULL;

    for (unsigned i = 0; i < PL_COUNT(known); i++)
        if (strncmp(guest_id, known[i].start, strlen(known[i].start)) == 0)
            return is_64 ? known[i].cim_64 : known[i].cim;
    if (strstr(guest_id, "inux") || strncmp(guest_id, "fedora", 6) == 0)
        return is_64 ? CIM_LINUX_64 : CIM_LINUX;
    return is_64 ? CIM_OTHER_64 : CIM_OTHER;
}
