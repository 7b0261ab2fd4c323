/* pages.c - see pages.h. */
#include "tests/support/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/base/scope.h"

struct page {
    unsigned owners;
    bool hashed;
    uint64_t hash; /* 0: nothing but zeros */
    uint8_t bytes[PAGE_BYTES];
};

static void drop(struct page *page)
{
    if (page && --page->owners == 0)
        free(page);
}

void pages_free(struct pages *pages)
{
    for (size_t i = 0; i < pages->count; i++)
        drop(pages->page[i]);
    free(pages->page);
    *pages = (struct pages){ 0 };
}

static void set_count(struct pages *pages, size_t count)
{
    for (size_t i = count; i < pages->count; i++)
        drop(pages->page[i]);
    pages->page = realloc(pages->page, (count + 1) * sizeof *pages->page);
    if (!pages->page)
        abort();
    for (size_t i = pages->count; i < count; i++)
        pages->page[i] = NULL;
    pages->count = count;
}

void pages_copy(struct pages *to, const struct pages *from)
{
    *to = (struct pages){ .size = from->size };
    set_count(to, from->count);
    for (size_t i = 0; i < from->count; i++) {
        to->page[i] = from->page[i];
        if (to->page[i])
            to->page[i]->owners++;
    }
}

/* The page, this copy's own, to be changed. */
static uint8_t *own(struct pages *pages, size_t index)
{
    struct page *page = pages->page[index];

    if (!page || page->owners > 1) {
        struct page *fresh = calloc(1, sizeof *fresh);

        if (!fresh)
            abort();
        if (page)
            memcpy(fresh->bytes, page->bytes, PAGE_BYTES);
        drop(page);
        fresh->owners = 1;
        pages->page[index] = page = fresh;
    }
    page->hashed = false;
    return page->bytes;
}

void pages_resize(struct pages *pages, uint64_t size)
{
    if (size < pages->size) {
        pages_zero(pages, size, pages->size - size);
        if (pl_div_up(size, PAGE_BYTES) < pages->count)
            set_count(pages, (size_t)pl_div_up(size, PAGE_BYTES));
    }
    pages->size = size;
}

/* [off, off + len) lies in one page. */
static void change(struct pages *pages, uint64_t off, const uint8_t *bytes, size_t len)
{
    const size_t index = (size_t)(off / PAGE_BYTES);

    if (!bytes && (index >= pages->count || !pages->page[index]))
        return;
    if (index >= pages->count)
        set_count(pages, index + 1);
    if (!bytes && len == PAGE_BYTES) {
        drop(pages->page[index]);
        pages->page[index] = NULL;
    } else if (bytes) {
        memcpy(own(pages, index) + off % PAGE_BYTES, bytes, len);
    } else {
        memset(own(pages, index) + off % PAGE_BYTES, 0, len);
    }
}

void pages_write(struct pages *pages, uint64_t off, const void *bytes, uint64_t len)
{
    const uint8_t *at = bytes;

    if (off + len > pages->size)
        pages->size = off + len;
    while (len > 0) {
        const size_t now = (size_t)PL_MIN(len, PAGE_BYTES - off % PAGE_BYTES);

        change(pages, off, at, now);
        off += now, len -= now;
        at = at ? at + now : NULL;
    }
}

void pages_zero(struct pages *pages, uint64_t off, uint64_t len)
{
    const uint64_t end = PL_MIN(pages->size, off + len);

    if (off < end)
        pages_write(pages, off, NULL, end - off);
}

const uint8_t *pages_at(const struct pages *pages, size_t index)
{
    return index < pages->count && pages->page[index] ? pages->page[index]->bytes : NULL;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t page_hash(struct page *page)
{
    uint64_t any = 0, hash = 1, word;

    if (page->hashed)
        return page->hash;
    for (size_t i = 0; i < PAGE_BYTES; i += sizeof word) {
        memcpy(&word, page->bytes + i, sizeof word);
        any |= word;
        hash = mix(hash, word);
    }
    page->hash = any ? hash | 1 : 0;
    page->hashed = true;
    return page->hash;
}

uint64_t pages_hash(const struct pages *pages)
{
    uint64_t hash = pages->size;

    for (size_t i = 0; i < pages->count; i++) {
        const uint64_t of_page = pages->page[i] ? page_hash(pages->page[i]) : 0;

        if (of_page)
            hash = mix(mix(hash, i), of_page);
    }
    return hash;
}

/* Reads what lies between two places of the file. */
static bool load_range(struct pages *pages, int fd, uint64_t off, uint64_t end)
{
    uint8_t bytes[PAGE_BYTES];

    while (off < end) {
        const ssize_t n = pread(fd, bytes, (size_t)PL_MIN(sizeof bytes, end - off), (off_t)off);

        if (n <= 0)
            return false;
        pages_write(pages, off, bytes, (uint64_t)n);
        off += (uint64_t)n;
    }
    return true;
}

bool pages_load(struct pages *pages, const char *path)
{
    PL_CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    off_t data = 0, end;

    *pages = (struct pages){ 0 };
    if (fd < 0 || fstat(fd, &stat) < 0)
        return false;
    pages_resize(pages, (uint64_t)stat.st_size);
    while ((data = lseek(fd, data, SEEK_DATA)) >= 0) {
        end = lseek(fd, data, SEEK_HOLE);
        if (end < 0 || !load_range(pages, fd, (uint64_t)data, (uint64_t)end))
            return false;
        data = end;
    }
    return errno == ENXIO;
}

bool pages_store(const struct pages *pages, const char *path)
{
    PL_CLOSE_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0 || ftruncate(fd, (off_t)pages->size) < 0)
        return false;
    for (size_t i = 0; i < pages->count; i++) {
        const uint64_t off = i * (uint64_t)PAGE_BYTES;
        size_t len;

        if (off >= pages->size || !pages->page[i] || !page_hash(pages->page[i]))
            continue;
        len = (size_t)PL_MIN(PAGE_BYTES, pages->size - off);
        if (pwrite(fd, pages->page[i]->bytes, len, (off_t)off) != (ssize_t)len)
            return false;
    }
    return true;
}
