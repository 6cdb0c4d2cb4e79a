#ifndef VLY_CLI_BEST_LOGITS_H
#define VLY_CLI_BEST_LOGITS_H

#include <stdint.h>

typedef struct {
    uint32_t id;
    float logit;
} vly_cli_logit;

/* The `n` highest of `logits` [n_vocab] to best [n], descending, ties by id; returns how many there
 * are: n, or n_vocab where that is less. No logit may be a NaN. */
uint32_t vly_cli_best_logits(const float *logits, uint32_t n_vocab, uint32_t n,
                             vly_cli_logit *best);

#endif
