/* Any bytes are either refused or a file that can be read throughout. */
#include "gguf/gguf.h"
#include "tests/support/gguf_touch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    vly_gguf *gguf;
    vly_error err = {0};
    int rc = vly_gguf_open_memory(data, n, &gguf, &err);
    /* A refusal has a code, a reason, and no object. */
    if (rc != err.code || (rc == 0) != (gguf != NULL) || (rc == 0) != (err.message[0] == '\0'))
        abort();
    if (gguf) gguf_touch(gguf);
    vly_gguf_close(gguf);
    return 0;
}
