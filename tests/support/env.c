/* env.c - see env.h. */
#include "tests/support/env.h"

#include <stdlib.h>
#include <unistd.h>

static char *join(const char *folder, const char *name)
{
    char *path;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        abort();
    return path;
}

char *test_tmp(const char *name)
{
    if (!getenv("TEST_TMP")) {
        char made[] = "/tmp/platter-test.XXXXXX";

        if (!mkdtemp(made) || setenv("TEST_TMP", made, 1) != 0)
            abort();
    }
    return join(getenv("TEST_TMP"), name);
}

char *test_source(const char *name)
{
    const char *root = getenv("SRCDIR");
    char here[4096];

    if (!root && !(root = getcwd(here, sizeof here)))
        abort();
    return join(root, name);
}

char *test_image(const char *name)
{
    const char *images = getenv("IMAGES");

    return images ? join(images, name) : NULL;
}

uint64_t test_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}
