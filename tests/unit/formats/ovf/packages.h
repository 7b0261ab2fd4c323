/* packages.h - what the tests of OVF packages share: descriptors, tar archives made by libarchive,
 * folders in memory.  cmocka.h and tests/support/images.h come first. */
#ifndef TESTS_UNIT_FORMATS_OVF_PACKAGES_H
#define TESTS_UNIT_FORMATS_OVF_PACKAGES_H

#include <archive.h>
#include <archive_entry.h>

#include "core/package.h"

extern const struct pl_package_driver pl_ova, pl_ovf;

#define ENVELOPE_1                                                                                 \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"                                                 \
    "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\""                                   \
    " xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\""                                        \
    " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"                             \
    "CIM_ResourceAllocationSettingData\""                                                          \
    " xmlns:vmw=\"http://www.vmware.com/schema/ovf\""                                              \
    " xmlns:vbox=\"http://www.virtualbox.org/ovf/machine\""                                        \
    " xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"                             \
    "CIM_VirtualSystemSettingData\">\n"

/* A descriptor of one disk in the file disk.vmdk. */
#define SMALL_OVF                                                                                  \
    ENVELOPE_1 "<References><File ovf:id=\"f\" ovf:href=\"disk.vmdk\"/></References>"              \
               "<DiskSection><Info/><Disk ovf:diskId=\"d\" ovf:fileRef=\"f\""                      \
               " ovf:capacity=\"1048576\"/></DiskSection></Envelope>"

/* A tar archive under way. */
struct tar {
    struct archive *a;
    size_t used;
    uint8_t bytes[4u << 20];
};

static inline struct tar *tar_begin(int format)
{
    struct tar *tar = calloc(1, sizeof *tar);

    assert_non_null(tar);
    tar->a = archive_write_new();
    assert_int_equal(archive_write_set_format(tar->a, format), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_per_block(tar->a, 0), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(tar->a, tar->bytes, sizeof tar->bytes, &tar->used),
                     ARCHIVE_OK);
    return tar;
}

/* A member of any kind: `type` AE_IFREG ...; `link`: what it points to, null for none. */
static inline void tar_member(struct tar *tar, const char *name, mode_t type, const char *link,
                              const void *bytes, size_t len)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    /* more than the field holds, where the kind of tar has a way around that */
    archive_entry_set_uid(entry,
                          archive_format(tar->a) == ARCHIVE_FORMAT_TAR_USTAR ? 262143 : 123456789);
    archive_entry_set_uname(entry, "somebody");
    if (link && type == AE_IFLNK)
        archive_entry_set_symlink(entry, link);
    else if (link)
        archive_entry_set_hardlink(entry, link);
    assert_true(archive_write_header(tar->a, entry) >= ARCHIVE_WARN);
    if (len > 0)
        assert_int_equal(archive_write_data(tar->a, bytes, len), len);
    archive_entry_free(entry);
}

static inline void tar_file(struct tar *tar, const char *name, const void *bytes, size_t len)
{
    tar_member(tar, name, AE_IFREG, NULL, bytes, len);
}

static inline void tar_text(struct tar *tar, const char *name, const char *text)
{
    tar_file(tar, name, text, strlen(text));
}

/* The finished archive in memory. */
static inline struct pl_storage *tar_end(struct tar *tar)
{
    struct pl_storage *st;

    assert_int_equal(archive_write_close(tar->a), ARCHIVE_OK);
    archive_write_free(tar->a);
    OK(pl_memory_storage(tar->bytes, tar->used, sizeof tar->bytes, &st, &e));
    free(tar);
    return st;
}

/* Files beside a descriptor; ends with a row of nulls. */
struct beside {
    const char *name;
    const void *bytes;
    size_t len;
};

static inline int open_beside(const struct pl_package_open_args *args, const char *name,
                              struct pl_storage **out, struct pl_err *e)
{
    for (const struct beside *file = args->ctx; file && file->name; file++)
        if (strcmp(file->name, name) == 0) {
            if (pl_memory_storage(file->bytes, file->len, file->len, out, e) < 0)
                return -1;
            (*out)->writable = false;
            return 0;
        }
    return pl_fail(e, PL_E_NOT_FOUND, "%s: no such file", name);
}

/* Warnings, one after the other. */
struct heard {
    char text[4096];
    struct pl_report report;
};

static inline void hear(void *ctx, const char *message)
{
    struct heard *heard = ctx;

    strncat(heard->text, message, sizeof heard->text - strlen(heard->text) - 2);
    strcat(heard->text, "\n");
}

static inline void listen(struct heard *heard)
{
    *heard = (struct heard){ .report = { .ctx = heard, .warn = hear } };
}

/* A storage that is called like a file of that name. */
static inline struct pl_storage *named(const char *name, const void *bytes, size_t len)
{
    struct pl_storage *st;

    OK(pl_memory_storage(bytes, len, len, &st, &e));
    free(st->name);
    st->name = strdup(name);
    return st;
}

/* Opens it; closes the storage when that fails. */
static inline int open_package(const struct pl_package_driver *driver, struct pl_storage *file,
                               const struct beside *files, void **state, struct pl_err *e)
{
    const struct pl_package_open_args args = { .file = file,
                                               .open_file = open_beside,
                                               .ctx = (void *)(uintptr_t)files };
    const int result = driver->open(&args, state, e);

    if (result < 0)
        pl_storage_close(file, NULL);
    return result;
}

/* Whether the disk's storage has exactly these bytes. */
static inline bool disk_is(const struct pl_package_driver *driver, void *state, size_t disk,
                           const void *bytes, size_t len)
{
    uint8_t *found = malloc(len + 1);
    struct pl_storage *st;
    bool same;

    OK(driver->storage(state, disk, &st, &e));
    same = pl_storage_size(st) == len;
    if (same) {
        OK(pl_storage_read(st, 0, found, len, &e));
        same = memcmp(found, bytes, len) == 0;
    }
    assert_false(st->writable);
    pl_storage_close(st, NULL);
    free(found);
    return same;
}

/* Appends "prefix.name=value" lines for all facts below `fact`. */
static inline void dump_facts(const struct pl_fact *fact, const char *prefix, char *text,
                              size_t room)
{
    unsigned i = 0;

    for (const struct pl_fact *member = fact->child; member; member = member->next, i++) {
        const size_t len = strlen(text);
        char *name = NULL;

        assert_true((member->name ? asprintf(&name, "%s.%s", prefix, member->name)
                                  : asprintf(&name, "%s.%u", prefix, i)) > 0);
        if (member->type == PL_FACT_TEXT)
            snprintf(text + len, room - len, "%s=%s\n", name, member->text);
        else if (member->type == PL_FACT_NUMBER)
            snprintf(text + len, room - len, "%s=%llu\n", name, (unsigned long long)member->number);
        else
            dump_facts(member, name, text, room);
        free(name);
    }
}

/* All facts of an open package as lines; the caller frees them. */
static inline char *facts_of(const struct pl_package_driver *driver, void *state)
{
    struct pl_fact *facts = pl_facts_new();
    char *text = calloc(1, 65536);

    OK(driver->facts(state, facts, &e));
    dump_facts(facts, "", text, 65536);
    pl_facts_free(facts);
    return text;
}

/* The text has that line. */
#define HAS(text, line)                                                                            \
    do {                                                                                           \
        if (!strstr(text, line "\n"))                                                              \
            fail_msg("no \"%s\" in:\n%s", line, text);                                             \
    } while (0)

/* `len` bytes that differ with the seed; the caller frees them. */
static inline uint8_t *content(size_t len, unsigned seed)
{
    uint8_t *bytes = malloc(len + 1);

    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 253 + seed * 17 + 1);
    return bytes;
}

#endif
