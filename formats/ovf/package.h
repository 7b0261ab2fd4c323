/* package.h - an open OVF or OVA: what its files share. */
#ifndef PL_FORMATS_OVF_PACKAGE_H
#define PL_FORMATS_OVF_PACKAGE_H

#include "core/package.h"
#include "formats/ovf/disks.h"
#include "formats/ovf/envelope.h"
#include "formats/ovf/members.h"

/* Constant after open. */
struct ovf_package {
    struct ovf_members members;
    struct ovf_envelope *envelope;
    struct ovf_disks disks;
    char *signer; /* whom the certificate names; null: there is none, or it cannot be read */
};

/* Slot verify of pl_package_driver. */
int ovf_verify(void *state, size_t disk, const struct pl_report *report, struct pl_err *e) PL_CHECK;
/* Slot facts. */
int ovf_facts(void *state, struct pl_fact *facts, struct pl_err *e) PL_CHECK;

/* The text of the file beside the descriptor with that ending, of at most `max` bytes, and its
 * length; the caller frees it.  1: there is none; 0; -1. */
int ovf_companion_text(const struct ovf_members *members, const char *ending, size_t max,
                       char **text, size_t *len, struct pl_err *e) PL_CHECK;

#endif
