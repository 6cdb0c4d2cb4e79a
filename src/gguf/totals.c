#include "gguf/totals.h"

vly_gguf_totals vly_gguf_count(const vly_gguf *gguf)
{
    vly_gguf_totals totals = {0};
    for (size_t i = 0; i < vly_gguf_n_tensors(gguf); i++) {
        const vly_gguf_tensor *t = vly_gguf_tensor_at(gguf, i);
        vly_totals *sums[] = {&totals.all, &totals.by_format[t->format->id]};
        for (int j = 0; j < 2; j++) {
            sums[j]->n_tensors++;
            sums[j]->n_weights += t->n_bytes / t->format->block_bytes * t->format->block_weights;
            sums[j]->n_bytes += t->n_bytes;
        }
    }
    return totals;
}
