/* A description of an architecture, a zero byte, and a model file: any bytes are refused or give a
 * shape within bounds, all of whose tensors are there. */
#include "model/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The RoPE table's row of the last position. */
static void touch_rope(const vly_model_config *c)
{
    double frequencies[128];
    float row[256];
    vly_rope_frequencies(&c->rope, NULL, frequencies);
    vly_rope_row(&c->rope, frequencies, c->n_ctx - 1, row);
    for (uint32_t i = 0; i < c->head_dim; i++)
        if (vly_rope_source(&c->rope, i) >= c->head_dim) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *end = memchr(data, 0, n);
    if (!end) return 0;
    vly_arch arch;
    vly_error err = {0};
    size_t len = (size_t)(end - data);
    int rc = vly_arch_parse("FILE", (const char *)data, len, &arch, &err);
    if (rc != err.code || (rc == 0) != (err.message[0] == '\0')) abort();
    const vly_arch *described = rc ? NULL : &arch;
    vly_gguf *gguf;
    if (vly_gguf_open_memory(end + 1, n - len - 1, &gguf, NULL)) return 0;
    vly_model_config config;
    err = (vly_error){0};
    rc = vly_model_check(gguf, described, &config, &err);
    if (rc != err.code || (rc == 0) != (err.message[0] == '\0')) abort();
    if (rc == 0) touch_rope(&config);
    vly_gguf_close(gguf);
    return 0;
}
