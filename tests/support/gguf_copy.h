/* A model file in other files. */
#ifndef TESTS_GGUF_COPY_H
#define TESTS_GGUF_COPY_H

#include "gguf/gguf.h"

/* Writes `gguf` as NAME-00001-of-0000N.gguf and so on, as near to `n_parts` (2..9) parts of equal
 * numbers of tensors as can be, NAME being `stem`. Aborts on failure. */
void gguf_copy_split(const vly_gguf *gguf, const char *stem, unsigned n_parts);

/* Writes `gguf` to the file `path`, with a string more in its metadata. Aborts on failure. */
void gguf_copy_with(const vly_gguf *gguf, const char *key, const char *text, const char *path);

/* Writes `gguf` to the file `path`, with `key` of its metadata being the u32 `value`. Aborts on
 * failure. */
void gguf_copy_with_number(const vly_gguf *gguf, const char *key, uint32_t value, const char *path);

/* What becomes of tensor `i`: its format, and its data to *data (malloc'd). The shape stays. */
typedef const vly_format *gguf_copy_fn(void *arg, size_t i, const vly_gguf_tensor *tensor,
                                       uint8_t **data);

/* Writes `gguf` to `path` with other tensors. Aborts on failure. */
void gguf_copy_changed(const vly_gguf *gguf, const char *path, gguf_copy_fn *change, void *arg);

/* Opens such a copy of the model `from`, whose file has no name any more. Aborts on failure. */
vly_gguf *gguf_copy_open(const char *from, gguf_copy_fn *change, void *arg);

#endif
