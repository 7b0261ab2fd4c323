/* pages.h - the bytes of a file in memory, sparse, with cheap copies: pages are shared until one of
 * the copies is changed.  One thread at a time.  Out of memory ends the program. */
#ifndef TESTS_SUPPORT_PAGES_H
#define TESTS_SUPPORT_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 16384u

struct page;

/* All zero: no bytes. */
struct pages {
    uint64_t size;
    size_t count;       /* of page */
    struct page **page; /* null: zeros, as is everything behind the last */
};

void pages_free(struct pages *pages);

/* *to, which is empty, becomes the same bytes. */
void pages_copy(struct pages *to, const struct pages *from);

void pages_resize(struct pages *pages, uint64_t size);

/* Grows where needed.  bytes null: zeros. */
void pages_write(struct pages *pages, uint64_t off, const void *bytes, uint64_t len);

/* Zeros inside the size; what is behind it is left out. */
void pages_zero(struct pages *pages, uint64_t off, uint64_t len);

/* Equal bytes, equal numbers. */
uint64_t pages_hash(const struct pages *pages);

/* One page's bytes; null: zeros. */
const uint8_t *pages_at(const struct pages *pages, size_t index);

/* What a host file has; false with errno. */
bool pages_load(struct pages *pages, const char *path);

/* Makes the host file have it, sparse. */
bool pages_store(const struct pages *pages, const char *path);

#endif
