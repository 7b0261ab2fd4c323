/* uuid.h - identifiers of images (RFC 4122), in the byte order in which they are written. */
#ifndef PL_CORE_BASE_UUID_H
#define PL_CORE_BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct pl_uuid {
    uint8_t byte[16]; /* as in the text: 00112233-4455-6677-8899-aabbccddeeff */
};

/* Room for the text and its end. */
#define PL_UUID_TEXT 37

/* A new random one (version 4). */
void pl_uuid_random(struct pl_uuid *uuid);

/* The one that follows from the len bytes of `name` alone (version 5, in a name space of platter's
 * own): the same content gives the same identifier. */
void pl_uuid_from_name(struct pl_uuid *uuid, const void *name, size_t len);

/* Reads the text form, in braces or without, any case.  PL_E_INVALID. */
int pl_uuid_parse(const char *text, struct pl_uuid *uuid, struct pl_err *e) PL_CHECK;

/* Writes the text form in lower case, without braces.  Returns buf. */
char *pl_uuid_format(const struct pl_uuid *uuid, char buf[static PL_UUID_TEXT]);

/* Whether all bytes are zero: no identifier. */
bool pl_uuid_is_null(const struct pl_uuid *uuid);

/* Whether both are the same. */
bool pl_uuid_equal(const struct pl_uuid *a, const struct pl_uuid *b);

/* Reads the 16 bytes of a GUID as Microsoft's formats and VDI store it: its first three groups are
 * little-endian numbers. */
void pl_uuid_load_guid(struct pl_uuid *uuid, const void *raw);

/* Writes those 16 bytes. */
void pl_uuid_store_guid(void *raw, const struct pl_uuid *uuid);

#endif
