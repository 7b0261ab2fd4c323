/* xml.c - see xml.h.
 *
 * The parser builds its tree by itself; two of its callbacks are wrapped to stop it early: one that
 * sees elements begin (depth and number), one that sees a document type declaration, without which
 * there are no entities but the five of XML. */
#include "formats/ovf/xml.h"

#include <limits.h>
#include <string.h>
#include <libxml/SAX2.h>
#include <libxml/parser.h>

#define OPTIONS (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA)

/* The parse's own; reached by the parser's _private. */
struct watch {
    unsigned elements;
    const char *stopped; /* why; null: it was not */
};

static void stop(xmlParserCtxt *parser, const char *why)
{
    struct watch *watch = parser->_private;

    if (!watch->stopped)
        watch->stopped = why;
    xmlStopParser(parser);
}

static void document_type(void *ctx, const xmlChar *name, const xmlChar *external,
                          const xmlChar *system)
{
    (void)name;
    (void)external;
    (void)system;
    stop(ctx, "has a document type declaration, which descriptors do not need");
}

static void element(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                    int namespace_count, const xmlChar **namespaces, int attribute_count,
                    int default_count, const xmlChar **attributes)
{
    xmlParserCtxt *parser = ctx;
    struct watch *watch = parser->_private;

    if (parser->nameNr > OVF_XML_DEPTH_MAX)
        stop(parser, "has elements nested deeper than 64");
    else if (++watch->elements > OVF_XML_ELEMENTS_MAX)
        stop(parser, "has more than 65536 elements");
    else
        xmlSAX2StartElementNs(ctx, name, prefix, uri, namespace_count, namespaces, attribute_count,
                              default_count, attributes);
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
    struct watch watch = { 0 };
    xmlDoc *doc;

    parser->_private = &watch;
    parser->sax->internalSubset = document_type;
    parser->sax->startElementNs = element;
    doc = xmlCtxtReadMemory(parser, text, (int)len, NULL, NULL, OPTIONS);
    if (watch.stopped) {
        xmlFreeDoc(doc);
        return pl_fail(e, PL_E_CORRUPT, "the descriptor %s", watch.stopped);
    }
    if (!doc)
        return malformed(parser, e);
    *out = doc;
    return 0;
}

int ovf_xml_parse(const char *text, size_t len, xmlDoc **out, struct pl_err *e)
{
    xmlParserCtxt *parser;
    int result;

    if (len > OVF_XML_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT, "the descriptor has %zu bytes, more than the limit of %u",
                       len, OVF_XML_BYTES_MAX);
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
        return ovf_xml_version(node) != NULL;
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
