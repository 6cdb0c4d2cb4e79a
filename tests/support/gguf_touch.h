/* Reads all that a GGUF object offers, so that a sanitizer sees any view that leaves the file. */
#ifndef TESTS_GGUF_TOUCH_H
#define TESTS_GGUF_TOUCH_H

#include "gguf/gguf.h"

/* The sum of what was read; only that it comes back matters. */
uint64_t gguf_touch(const vly_gguf *gguf);

#endif
