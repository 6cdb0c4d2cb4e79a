#include "tests/support/data.h"

#include "base/vec.h"

#include <stdio.h>
#include <stdlib.h>

const char *test_data_path(const char *name, char *path, size_t n)
{
    const char *folder = getenv("VLY_TEST_DATA");
    int length = snprintf(path, n, "%s/%s", folder ? folder : "tests/data", name);
    if (length < 0 || (size_t)length >= n) abort();
    return path;
}

char *test_data_read(const char *name, size_t *n)
{
    char path[4096], chunk[65536];
    FILE *file = fopen(test_data_path(name, path, sizeof path), "rb");
    vly_text text = {0};
    size_t got = 0;
    do {
        got = file ? fread(chunk, 1, sizeof chunk, file) : 0;
        if (vly_text_append(&text, chunk, got)) abort();
    } while (got > 0);
    if (!file || ferror(file) || !text.data) {
        fprintf(stderr, "%s: cannot be read: run tests from the root of the repository\n", path);
        abort();
    }
    fclose(file);
    if (n) *n = text.len;
    return text.data;
}
