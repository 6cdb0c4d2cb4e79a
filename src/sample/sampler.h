/* How the next token is chosen from a row of logits: in this order penalties and bias, temperature,
 * top-k, top-p, min-p, then the argmax of logit / T + Gumbel noise keyed by (seed, position,
 * token). That argmax is a sample of the softmax (the Gumbel-max trick), and the key makes it the
 * same whoever drafts: drafter-invariant coupling, Daliri et al., arXiv 2408.07978.
 *
 * The GPU's pick.comp does the same without penalties and bias; what needs them takes this path on
 * the host. The filters are exact: top-k keeps every token that ties with the k-th; top-p keeps the
 * fewest highest tokens whose probabilities, renormalised over what top-k left, come to at least
 * top_p, and those that tie with the last of them; min-p keeps tokens of at least min_p times the
 * best one's probability. The best token is always kept. */
#ifndef VLY_SAMPLE_SAMPLER_H
#define VLY_SAMPLE_SAMPLER_H

#include "base/error.h"

/* vly_sampling and its default are public: volley.h. */

/* VLY_E_INVALID, naming the parameter, its range and what came, where one is out of range. */
int vly_sampling_check(const vly_sampling *sampling, uint32_t n_vocab, vly_error *err);

/* Do penalties or bias make the host pick? */
bool vly_sampling_needs_host(const vly_sampling *sampling);

/* The noise of token `id` at text position `pos` (the position that the token will have, counted in
 * target tokens from the start of the prompt). */
float vly_noise_gumbel(uint64_t seed, uint32_t pos, uint32_t id);

/* Applies penalties and bias to `logits` [n_vocab] in place; `history` are the n tokens so far. */
void vly_sample_adjust(const vly_sampling *sampling, const uint32_t *history, size_t n,
                       float *logits, uint32_t n_vocab);

/* The least logit that the filters leave (the whole row where none is on). `logits` [n_vocab];
 * `scratch` [2 * n_vocab] is written. */
float vly_sample_threshold(const vly_sampling *sampling, const float *logits, uint32_t n_vocab,
                           float *scratch);

/* The pick at `pos`; `row_key` [n_vocab] gives each row's token id for the noise, NULL: the row
 * itself. `logits` are already adjusted; `scratch` [2 * n_vocab] is written. VLY_E_INVALID: all of
 * them are NaN or -inf. */
int vly_sample_pick(const vly_sampling *sampling, const float *logits, uint32_t n_vocab,
                    uint32_t pos, const uint32_t *row_key, float *scratch, uint32_t *out,
                    vly_error *err);

#endif
