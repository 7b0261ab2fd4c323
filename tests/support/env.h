/* env.h - what tests/run gives a test: folders, the program, the sample images.
 *
 * A test run by hand, without tests/run, gets sensible values too. */
#ifndef TESTS_SUPPORT_ENV_H
#define TESTS_SUPPORT_ENV_H

#include <stdint.h>
#include <stdio.h>

/* Absolute path of `name` in the test's own temporary folder.  The caller frees it. */
char *test_tmp(const char *name);

/* Absolute path of `name` in the project's tree.  The caller frees it. */
char *test_source(const char *name);

/* Absolute path of the sample image `name`; NULL when there are no samples: then skip the test
 * with TEST_SKIP.  The caller frees it. */
char *test_image(const char *name);

/* A number from the environment, such as the seed of another run; `otherwise` without it. */
uint64_t test_number(const char *name, uint64_t otherwise);

/* Ends the running cmocka test as skipped; tests/run prints the reason.  cmocka.h comes first. */
#define TEST_SKIP(...)                                                                             \
    do {                                                                                           \
        printf("# skip: " __VA_ARGS__);                                                            \
        printf("\n");                                                                              \
        skip();                                                                                    \
    } while (0)

#endif
