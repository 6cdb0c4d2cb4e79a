/* How much there is in a model file. */
#ifndef VLY_GGUF_TOTALS_H
#define VLY_GGUF_TOTALS_H

#include "gguf/gguf.h"

typedef struct {
    uint64_t n_tensors, n_weights, n_bytes;
} vly_totals;

typedef struct {
    vly_totals all, by_format[VLY_N_FORMATS];
} vly_gguf_totals;

vly_gguf_totals vly_gguf_count(const vly_gguf *gguf);

#endif
