/* os_types.h - guest systems: VMware's names and the numbers that CIM has for them. */
#ifndef PL_FORMATS_OVF_OS_TYPES_H
#define PL_FORMATS_OVF_OS_TYPES_H

/* The value of CIM_OperatingSystem.OSType that comes nearest to VMware's guest id. */
unsigned ovf_os_type(const char *guest_id);

#endif
