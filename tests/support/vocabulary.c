#include "tests/support/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>

vly_tokenizer *vocabulary_open(const char *path)
{
    vly_gguf *gguf;
    vly_tokenizer *tokenizer;
    vly_error err;
    if (vly_gguf_open(path, &gguf, &err) || vly_tokenizer_create(gguf, &tokenizer, &err)) {
        fprintf(stderr, "%s: %s\n", path, err.message);
        abort();
    }
    vly_gguf_close(gguf);
    return tokenizer;
}

void vocabulary_bytes(const vly_tokenizer *tokenizer, bool spelled[256])
{
    vly_ids ids = {0};
    vly_text back = {0};
    vly_error err;
    for (int i = 0; i < 256; i++) {
        const char byte = (char)i;
        ids.len = back.len = 0;
        if (vly_tokenizer_encode(tokenizer, &byte, 1, VLY_ENCODE_CONTINUE, &ids, &err) ||
            vly_tokenizer_decode(tokenizer, ids.data, ids.len, false, &back))
            abort();
        spelled[i] = back.len == 1 && back.data[0] == byte;
    }
    vly_ids_free(&ids);
    vly_text_free(&back);
}
