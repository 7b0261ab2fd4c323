/* manifest.h - the digests of a package's files: NAME.mf (DSP0243, clause 6).
 *
 *     SHA256(disk.vmdk)= 562ceb23...
 *
 * Blanks around the brackets and CR at line ends are accepted, since tools write them; names may
 * have brackets themselves. */
#ifndef PL_FORMATS_OVF_MANIFEST_H
#define PL_FORMATS_OVF_MANIFEST_H

#include "core/base/report.h"
#include "core/storage/storage.h"

/* 4096 files with long names and the longest digest. */
#define OVF_MANIFEST_BYTES_MAX (5u << 20)
#define OVF_MANIFEST_LINES_MAX 16384

struct ovf_digest {
    const char *name;      /* of the file */
    const char *algorithm; /* as core/base/digest.h calls it */
    size_t hex_len;        /* digits of such a digest */
    const char *hex;       /* as written, of that length */
};

/* How far the work of several checks is. */
struct ovf_progress {
    const struct pl_report *report; /* may be null */
    uint64_t done, total;           /* bytes */
};

struct ovf_manifest {
    struct ovf_digest *list; /* sorted by name */
    size_t count;
    char *text; /* what the list points into; owned */
};

/* Reads a manifest; `text` has `len` bytes and a zero behind them, and is copied.  PL_E_CORRUPT
 * names the line; PL_E_UNSUPPORTED: another digest than SHA-1, SHA-256, SHA-384 and SHA-512;
 * PL_E_LIMIT.  Release by ovf_manifest_free, also after failure. */
int ovf_manifest_parse(const char *text, size_t len, struct ovf_manifest *manifest,
                       struct pl_err *e) PL_CHECK;

/* Frees what it holds, not itself. */
void ovf_manifest_free(struct ovf_manifest *manifest);

/* Whether it has a digest of that file. */
bool ovf_manifest_has(const struct ovf_manifest *manifest, const char *name);

/* Computes the digest of all of `st` and compares.  PL_E_MISMATCH names the file;
 * PL_E_CANCELLED. */
int ovf_digest_check(const struct ovf_digest *wanted, struct pl_storage *st,
                     struct ovf_progress *progress, struct pl_err *e) PL_CHECK;

/* One line "SHA256(name)= value", of `len` bytes, cut in place (also behind its end); everything
 * but digest->hex is set.  1: the line is blank. */
int ovf_digest_parse(char *line, size_t len, struct ovf_digest *digest, const char **value,
                     struct pl_err *e) PL_CHECK;

#endif
