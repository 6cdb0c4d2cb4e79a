#include "cli/best_logits.h"

uint32_t vly_cli_best_logits(const float *logits, uint32_t n_vocab, uint32_t n, vly_cli_logit *best)
{
    uint32_t n_best = 0;
    for (uint32_t id = 0; id < n_vocab; id++) {
        if (n_best == n && (n == 0 || !(logits[id] > best[n - 1].logit))) continue;
        uint32_t at = n_best < n ? n_best++ : n - 1;
        for (; at > 0 && logits[id] > best[at - 1].logit; at--) best[at] = best[at - 1];
        best[at] = (vly_cli_logit){id, logits[id]};
    }
    return n_best;
}
