/* SentencePiece: any text on real vocabularies, any metadata. */
#include "tests/support/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const models[] = {"models/stories15M-q8_0.gguf",
                                         "tests/data/tokenizers/mistral-v0.1.gguf",
                                         "tests/data/tokenizers/mistral-v0.3.gguf"};
    tokenizer_fuzz(models, 3, data, n);
    return 0;
}
