/* A model file in other files. */
#ifndef TESTS_GGUF_COPY_H
#define TESTS_GGUF_COPY_H

#include "gguf/gguf.h"

/* Writes `gguf` as NAME-00001-of-0000N.gguf and so on, as near to `n_parts` (2..9) parts of equal
 * numbers of tensors as can be, NAME being `stem`. Aborts on failure. */
void gguf_copy_split(const vly_gguf *gguf, const char *stem, unsigned n_parts);

/* Writes `gguf` to the file `path`, with a string more in its metadata. Aborts on failure. */
void gguf_copy_with(const vly_gguf *gguf, const char *key, const char *text, const char *path);

#endif
