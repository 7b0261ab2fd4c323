/* xml.h - XML from a stranger: parsed by libxml2 without entities, network and document types, and
 * looked at by namespace and local name, whatever the prefixes are. */
#ifndef PL_FORMATS_OVF_XML_H
#define PL_FORMATS_OVF_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <libxml/tree.h>

#include "core/base/err.h"

/* Descriptors of real appliances are below 1 MiB; VMware's own limit is not published. */
#define OVF_XML_BYTES_MAX (4u << 20)
/* Bound the tree in memory, some 200 bytes for an element or attribute, and the time that it takes;
 * the largest appliances have some ten thousand of each.  libxml2 bounds the depth (256). */
#define OVF_XML_TAGS_MAX 131072
#define OVF_XML_ATTRIBUTES_MAX 65536

/* Namespaces by what they are for, all versions of each. */
enum ovf_space {
    OVF_ENVELOPE, /* of OVF itself: 0.9, 1.0 and 1.1, 2.x; also what has no namespace */
    OVF_CIM,      /* setting data classes of CIM: rasd, vssd, sasd, epasd */
    OVF_VMWARE,
};

/* Parses `len` bytes with a zero behind them.  PL_E_LIMIT beyond the bounds above; PL_E_CORRUPT:
 * not well-formed, in UTF-16, or with a document type declaration.  *out is freed by xmlFreeDoc. */
int ovf_xml_parse(const char *text, size_t len, xmlDoc **out, struct pl_err *e) PL_CHECK;

/* Whether the node is an element of that space and local name (null: any name). */
bool ovf_xml_is(const xmlNode *node, enum ovf_space space, const char *name);

/* The envelope version that the element's namespace stands for: "0.9", "1", "2"; null: none. */
const char *ovf_xml_version(const xmlNode *node);

/* The first, and the next, sibling that is such an element; null: none. */
const xmlNode *ovf_xml_find(const xmlNode *first, enum ovf_space space, const char *name);

/* The text inside an element, without blanks at both ends, kept in `texts`; null: no element, no
 * text or no memory. */
const char *ovf_xml_text(const xmlNode *node, xmlDict *texts);

/* An attribute of the envelope's namespace or without one (some writers forget it), or in VMware's
 * for OVF_VMWARE; like ovf_xml_text. */
const char *ovf_xml_attribute(const xmlNode *node, enum ovf_space space, const char *name,
                              xmlDict *texts);

#endif
