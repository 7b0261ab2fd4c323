#include "cli/suggest.h"

#include <string.h>

#include "core/base/checked.h"

#define WORD_MAX 31 /* longer than any option or command; what is longer gets no suggestion */

/* Levenshtein's distance, one row of the table at a time. */
static unsigned edits(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned row[WORD_MAX + 1];

    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned above = row[j];
            unsigned other = PL_MIN(row[j - 1], above) + 1;

            row[j] = PL_MIN(diagonal + (a[i - 1] != b[j - 1]), other);
            diagonal = above;
        }
    }
    return row[b_len];
}

struct suggestion suggestion_for(const char *given, size_t len)
{
    /* A third of the letters may be wrong; beyond that a suggestion only confuses. */
    return (struct suggestion){ .given = given, .len = len, .distance = (unsigned)(len / 3 + 1) };
}

void suggestion_offer(struct suggestion *s, const char *word)
{
    size_t word_len = strlen(word);
    unsigned distance;

    if (s->len < 2 || s->len > WORD_MAX || word_len > WORD_MAX)
        return;
    distance = edits(s->given, s->len, word, word_len);
    if (distance > s->distance || (s->best && distance == s->distance))
        return;
    s->best = word;
    s->distance = distance;
}
