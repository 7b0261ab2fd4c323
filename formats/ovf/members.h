/* members.h - the files of a package: members of an OVA, or files beside an OVF.
 *
 * An OVA is a tar archive (DSP0243, clause 5): its members are windows over the archive, found once
 * by libarchive when it is opened.  Refused are archives with members of the same name, with names
 * that are absolute or have "..", and beyond the limits below; links, folders, sparse members and
 * the like are listed but cannot be opened. */
#ifndef PL_FORMATS_OVF_MEMBERS_H
#define PL_FORMATS_OVF_MEMBERS_H

#include "core/package.h"

#define OVF_MEMBERS_MAX 4096
#define OVF_NAME_MAX 1024

struct ovf_member {
    char *name;    /* without "./" in front and slashes at the end; owned */
    uint64_t off;  /* of its bytes in the archive */
    uint64_t size; /* bytes */
    bool folder;
    const char *flaw; /* what it is instead of a plain file, e.g. "a hard link"; null: plain */
};

/* Constant after it was made. */
struct ovf_members {
    struct pl_package_open_args args; /* of the package */
    bool archive;                     /* an OVA: list; else files come from args.open_file */
    struct ovf_member *list;          /* sorted by name */
    size_t count;
    char *descriptor; /* the name of the .ovf; owned */
};

/* Indexes the tar archive in args->file and finds its one descriptor.  PL_E_FORMAT, PL_E_CORRUPT,
 * PL_E_LIMIT, PL_E_NOMEM, PL_E_SYS.  Release it by ovf_members_free, also after failure. */
int ovf_members_of_archive(const struct pl_package_open_args *args, struct ovf_members *members,
                           struct pl_err *e) PL_CHECK;

/* The files beside the descriptor in args->file. */
int ovf_members_beside(const struct pl_package_open_args *args, struct ovf_members *members,
                       struct pl_err *e) PL_CHECK;

/* Frees what it holds, not itself. */
void ovf_members_free(struct ovf_members *members);

/* Opens the file `name`, which is relative to the descriptor, as the descriptor or manifest says
 * it ("%20" and the like too).  The storage is the caller's.  PL_E_NOT_FOUND: there is none;
 * PL_E_CORRUPT: it is no plain file; PL_E_POLICY: it lies elsewhere. */
int ovf_members_open(const struct ovf_members *members, const char *name, struct pl_storage **out,
                     struct pl_err *e) PL_CHECK;

/* The descriptor's own name as the manifest knows it: without a folder. */
const char *ovf_members_descriptor(const struct ovf_members *members);

/* The file with the descriptor's name and another ending (".mf").  Errors as ovf_members_open;
 * PL_E_NOT_FOUND: there is none. */
int ovf_members_open_companion(const struct ovf_members *members, const char *ending,
                               struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* Reads a whole small file as text with a zero behind it; the caller frees *text.  PL_E_LIMIT over
 * `max` bytes. */
int ovf_read_text(struct pl_storage *st, size_t max, char **text, size_t *len, struct pl_err *e)
    PL_CHECK;

#endif
