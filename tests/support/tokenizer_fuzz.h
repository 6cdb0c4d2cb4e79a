/* What the fuzzers of the two kinds of tokenizers do. Their input is one byte that chooses, then
 *   0..: text for a real vocabulary: encoding and decoding must give it back
 *   0xFF: a GGUF image: its vocabulary must be refused, or encode and decode a fixed text. */
#ifndef TESTS_TOKENIZER_FUZZ_H
#define TESTS_TOKENIZER_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Aborts where something does not hold. `models` are paths from the root of the repository, opened
 * at the first call and kept. */
void tokenizer_fuzz(const char *const *models, size_t n_models, const uint8_t *data, size_t n);

#endif
