/* How likely tokens were. */
#ifndef VLY_SAMPLE_LOGPROBS_H
#define VLY_SAMPLE_LOGPROBS_H

#include "base/error.h"

/* The log-probability of token `id` under softmax(logits [n_vocab]), and the n_top likeliest tokens
 * to `top` [n_top], best first, ties by id; fewer where fewer have a logit above minus infinity. */
vly_token_logprobs vly_logprobs(const float *logits, uint32_t n_vocab, uint32_t id, uint32_t n_top,
                                vly_candidate *top);

#endif
