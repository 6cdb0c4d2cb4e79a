/* Files of tests/data. Tests run from the root of the repository, or VLY_TEST_DATA says where. */
#ifndef TESTS_DATA_H
#define TESTS_DATA_H

#include <stddef.h>

/* The path of `name` within the data folder, to `path` [n]; returns `path`. Aborts if it does not
 * fit. */
const char *test_data_path(const char *name, char *path, size_t n);

/* The whole file `name`, terminated, to be freed by the caller; *n (may be NULL) is its length.
 * Prints a message and aborts when it cannot be read. */
char *test_data_read(const char *name, size_t *n);

#endif
