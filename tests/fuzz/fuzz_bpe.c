/* Byte-level BPE: any text on a real vocabulary, any metadata. */
#include "tests/support/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const models[] = {"models/smol-stories-11M-q8_0.gguf"};
    tokenizer_fuzz(models, 1, data, n);
    return 0;
}
