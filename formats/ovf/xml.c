/* xml.c - see xml.h.
 *
 * The text is taken as UTF-8, or Latin-1 where it is none, whatever it says about itself: then its
 * bytes can be counted before anything is parsed, and no decoder of a rare encoding runs.  The
 * number of "<" bounds that of elements, the number of "=" that of attributes, for which libxml2
 * needs memory, and time that grows with the square where one element has many.  A document type
 * declaration stops the parser; without one there are no entities but the five of XML. */
#include "formats/ovf/xml.h"

#include <limits.h>
#include <string.h>
#include <libxml/parser.h>

#define OPTIONS (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA)

static void document_type(void *parser, const xmlChar *name, const xmlChar *external,
                          const xmlChar *system)
{
    bool *seen = ((xmlParserCtxt *)parser)->_private;

    (void)name;
    (void)external;
    (void)system;
    *seen = true;
    xmlStopParser(parser);
}

/* The parser's message, which ends in a newline. */
static int malformed(xmlParserCtxt *parser, struct pl_err *e)
{
    const xmlError *error = xmlCtxtGetLastError(parser);
    const char *message = error && error->message ? error->message : "no XML";

    return pl_fail(e, PL_E_CORRUPT, "the descriptor is not well-formed: line %d: %.*s",
                   error ? error->line : 0, (int)strcspn(message, "\n"), message);
}

static int parse(xmlParserCtxt *parser, const char *text, size_t len, xmlDoc **out,
                 struct pl_err *e)
{
    const char *encoding = xmlCheckUTF8((const xmlChar *)text) ? "UTF-8" : "ISO-8859-1";
    bool has_type = false;
    xmlDoc *doc;

    parser->_private = &has_type;
    parser->sax->internalSubset = document_type;
    doc = xmlCtxtReadMemory(parser, text, (int)len, NULL, encoding, OPTIONS);
    if (has_type) {
        xmlFreeDoc(doc);
        return pl_fail(e, PL_E_CORRUPT,
                       "the descriptor has a document type declaration, which it does not need");
    }
    if (!doc)
        return malformed(parser, e);
    *out = doc;
    return 0;
}

static int check_count(const char *text, size_t len, char what, size_t max, struct pl_err *e)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += text[i] == what;
    if (count > max)
        return pl_fail(e, PL_E_LIMIT,
                       "the descriptor has %zu characters '%c', more than the "
                       "limit of %zu",
                       count, what, max);
    return 0;
}

int ovf_xml_parse(const char *text, size_t len, xmlDoc **out, struct pl_err *e)
{
    xmlParserCtxt *parser;
    int result;

    if (len > OVF_XML_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT, "the descriptor has %zu bytes, more than the limit of %u",
                       len, OVF_XML_BYTES_MAX);
    if (memchr(text, '\0', len))
        return pl_fail(e, PL_E_CORRUPT, "the descriptor is no text in UTF-8: it has a zero byte");
    if (check_count(text, len, '<', OVF_XML_TAGS_MAX, e) < 0 ||
        check_count(text, len, '=', OVF_XML_ATTRIBUTES_MAX, e) < 0)
        return -1;
    parser = xmlNewParserCtxt();
    if (!parser)
        return pl_fail(e, PL_E_NOMEM, "no memory to parse the descriptor");
    result = parse(parser, text, len, out, e);
    xmlFreeParserCtxt(parser);
    return result;
}

const char *ovf_xml_version(const xmlNode *node)
{
    static const char *const known[][2] = {
        { "http://schemas.dmtf.org/ovf/envelope/1", "1" },
        { "http://schemas.dmtf.org/ovf/envelope/1/", "1" }, /* oVirt */
        { "http://schemas.dmtf.org/ovf/envelope/2", "2" },
        { "http://schemas.dmtf.org/ovf/1/envelope", "1" },
        { "http://www.vmware.com/schema/ovf/1/envelope", "0.9" },
    };

    for (size_t i = 0; node->ns && node->ns->href && i < sizeof known / sizeof *known; i++)
        if (strcmp((const char *)node->ns->href, known[i][0]) == 0)
            return known[i][1];
    return NULL;
}

static bool begins(const xmlChar *text, const char *start)
{
    return text && strncmp((const char *)text, start, strlen(start)) == 0;
}

static bool in_space(const xmlNode *node, enum ovf_space space)
{
    const xmlChar *uri = node->ns ? node->ns->href : NULL;

    switch (space) {
    case OVF_ENVELOPE:
        return !node->ns || ovf_xml_version(node); /* oVirt's have a namespace at the root alone */
    case OVF_CIM:
        return begins(uri, "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_");
    default:
        return begins(uri, "http://www.vmware.com/schema/ovf");
    }
}

bool ovf_xml_is(const xmlNode *node, enum ovf_space space, const char *name)
{
    return node->type == XML_ELEMENT_NODE && in_space(node, space) &&
           (!name || strcmp((const char *)node->name, name) == 0);
}

const xmlNode *ovf_xml_find(const xmlNode *first, enum ovf_space space, const char *name)
{
    while (first && !ovf_xml_is(first, space, name))
        first = first->next;
    return first;
}

static const char *trimmed(xmlChar *text, xmlDict *texts)
{
    static const char blanks[] = " \t\r\n";
    const char *start = (const char *)text;
    const char *kept = NULL;
    size_t len;

    if (!text)
        return NULL;
    start += strspn(start, blanks);
    len = strlen(start);
    while (len > 0 && strchr(blanks, start[len - 1]))
        len--;
    if (len > 0 && len < INT_MAX)
        kept = (const char *)xmlDictLookup(texts, (const xmlChar *)start, (int)len);
    xmlFree(text);
    return kept;
}

const char *ovf_xml_text(const xmlNode *node, xmlDict *texts)
{
    return node ? trimmed(xmlNodeGetContent(node), texts) : NULL;
}

/* Whether an attribute belongs to an element of the space asked for. */
static bool attribute_in_space(const xmlAttr *attribute, enum ovf_space space)
{
    const xmlNode as_node = { .type = XML_ELEMENT_NODE, .ns = attribute->ns };

    return (!attribute->ns && space == OVF_ENVELOPE) || in_space(&as_node, space);
}

const char *ovf_xml_attribute(const xmlNode *node, enum ovf_space space, const char *name,
                              xmlDict *texts)
{
    for (const xmlAttr *attribute = node->properties; attribute; attribute = attribute->next)
        if (strcmp((const char *)attribute->name, name) == 0 &&
            attribute_in_space(attribute, space))
            return trimmed(xmlNodeListGetString(node->doc, attribute->children, 1), texts);
    return NULL;
}
