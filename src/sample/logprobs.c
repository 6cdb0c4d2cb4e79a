#include "sample/logprobs.h"

#include <math.h>

/* The n highest logits, in place of log-probabilities. */
static uint32_t find_top(const float *logits, uint32_t n_vocab, uint32_t n, vly_candidate *top)
{
    uint32_t n_found = 0;
    for (uint32_t id = 0; n > 0 && id < n_vocab; id++) {
        if (!(logits[id] > (n_found == n ? top[n - 1].logprob : -INFINITY))) continue;
        uint32_t at = n_found < n ? n_found++ : n - 1;
        for (; at > 0 && logits[id] > top[at - 1].logprob; at--) top[at] = top[at - 1];
        top[at] = (vly_candidate){id, logits[id]};
    }
    return n_found;
}

vly_token_logprobs vly_logprobs(const float *logits, uint32_t n_vocab, uint32_t id, uint32_t n_top,
                                vly_candidate *top)
{
    float high = -INFINITY;
    for (uint32_t i = 0; i < n_vocab; i++) high = logits[i] > high ? logits[i] : high;
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] > -INFINITY) sum += (double)expf(logits[i] - high);
    double all = (double)high + log(sum > 0 ? sum : 1); /* 0: nothing is possible */
    uint32_t n = find_top(logits, n_vocab, n_top, top);
    for (uint32_t i = 0; i < n; i++) top[i].logprob = (float)((double)top[i].logprob - all);
    return (vly_token_logprobs){(float)((double)logits[id] - all), n, top};
}
