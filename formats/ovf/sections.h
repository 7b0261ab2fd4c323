/* sections.h - what the parts of the descriptor's parser share. */
#ifndef PL_FORMATS_OVF_SECTIONS_H
#define PL_FORMATS_OVF_SECTIONS_H

#include "formats/ovf/envelope.h"
#include "formats/ovf/xml.h"

struct ovf_parse {
    struct ovf_envelope *envelope;
    const char *configuration; /* the id of the default deployment configuration; null: none */
};

/* Whether the element is the section (or content) of that name: by its own name, or by its xsi:type
 * as OVF 0.9 writes it. */
bool ovf_is_section(const xmlNode *node, const char *name);

/* Reads a VirtualHardwareSection into the last system: its type, items and firmware. */
int ovf_parse_hardware(struct ovf_parse *parse, const xmlNode *section, struct pl_err *e) PL_CHECK;

/* PL_E_LIMIT: more than `max` of `what`; PL_E_NOMEM below it.  Returns -1. */
int ovf_no_room(size_t count, size_t max, const char *what, struct pl_err *e);

#endif
