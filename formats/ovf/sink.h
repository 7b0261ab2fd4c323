/* sink.h - storage that appends to an archive: one member under way, digested as it goes by. */
#ifndef PL_FORMATS_OVF_SINK_H
#define PL_FORMATS_OVF_SINK_H

#include "core/base/digest.h"
#include "core/storage/storage.h"

/* What became of a member; filled when its sink is closed. */
struct ovf_sunk {
    bool complete; /* it was closed, and all its bytes are written */
    uint64_t size;
    char hex[PL_DIGEST_TEXT];
};

struct ovf_sink_args {
    struct pl_storage *archive; /* must outlive the sink ... */
    struct ovf_sunk *result;    /* ... and so must this */
    uint64_t start;             /* where in the archive its byte 0 goes */
    const char *name;           /* for messages */
    const char *algorithm;      /* of the digest */
};

/* A storage that, like a pipe, is written at growing offsets (gaps become zeros) and whose resize
 * promises a length; what was written may be read.  PL_E_NOMEM, errors of pl_digest_new. */
int ovf_sink(const struct ovf_sink_args *args, struct pl_storage **out, struct pl_err *e) PL_CHECK;

#endif
