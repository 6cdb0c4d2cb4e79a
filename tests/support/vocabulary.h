/* Vocabularies of model files, for tests. */
#ifndef TESTS_VOCABULARY_H
#define TESTS_VOCABULARY_H

#include "text/tokenizer.h"

#include <stdbool.h>

/* That of the GGUF file `path`; for vly_tokenizer_destroy. Aborts after a message where it cannot
 * be read. */
vly_tokenizer *vocabulary_open(const char *path);

/* Which bytes come back, alone, when they have been encoded: text that has others cannot be
 * spelled. */
void vocabulary_bytes(const vly_tokenizer *tokenizer, bool spelled[256]);

#endif
