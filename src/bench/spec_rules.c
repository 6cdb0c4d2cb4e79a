/* Three ways of accepting, compared on the same logits. The draft's context is made as the engine
 * makes it: of the text's bytes, whole words encoded as such (drafts/context.h). */
#include "bench/spec.h"

#include "spec/vocab_map.h"
#include "store/store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- two distributions ---- */

static int by_ratio(const void *a, const void *b)
{
    float x = ((const vly_spec_pair *)a)->ratio, y = ((const vly_spec_pair *)b)->ratio;
    return (x > y) - (x < y);
}

void vly_spec_acceptance(vly_spec_pair *pairs, uint32_t n, double out[VLY_N_RULES])
{
    double rejection = 0, keyed = 0, greedy = 0, p_above = 0, q_below = 0;
    float likeliest = -1;
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        const vly_spec_pair t = pairs[i];
        rejection += t.p < t.q ? (double)t.p : (double)t.q;
        if (t.q > likeliest) greedy = (double)t.p;
        if (t.q > likeliest) likeliest = t.q;
        /* The rest of a large vocabulary comes to too little to be sorted. */
        if (t.p < 1e-9f && t.q < 1e-9f) continue;
        p_above += (double)t.p;
        pairs[n_kept++] = (vly_spec_pair){t.p, t.q, t.q > 0 ? t.p / t.q : INFINITY};
    }
    /* sum_s max(p_s, r q_s), r being t's ratio: p of those with a ratio of r or more, r q of the
     * others. */
    qsort(pairs, n_kept, sizeof *pairs, by_ratio);
    for (uint32_t i = 0; i < n_kept && pairs[i].q > 0; i++) {
        double p = (double)pairs[i].p, q = (double)pairs[i].q;
        if (p > 0) keyed += p / (p_above + p / q * q_below);
        p_above -= p;
        q_below += q;
    }
    out[VLY_RULE_KEYED] = keyed;
    out[VLY_RULE_REJECTION] = rejection;
    out[VLY_RULE_GREEDY] = greedy;
}

/* ---- along a text ---- */

typedef struct {
    vly_tokenizer *target, *draft;
    vly_vocab_map map;
    vly_engine *draft_engine;
    double temperature;
    uint32_t n_rows;   /* mapped tokens */
    uint32_t n_text;   /* positions */
    uint32_t n_prompt; /* of the target's tokens */
    float *p;          /* [n_text][n_rows + 1]: of mapped tokens, and of all others together */
    vly_ids draft_ids;
    uint32_t *draft_pos; /* [n_text]: where the draft's row for a position is */
    vly_spec_pair *pairs;
    double sums[VLY_N_RULES];
    uint32_t n_seen;
} analysis;

static double exp_of(const analysis *a, float logit, double max)
{
    return exp(((double)logit - max) / a->temperature);
}

/* A vly_logits_fn of the target. */
static int take_target(void *arg, uint32_t pos, uint32_t id, const float *logits, uint32_t n_vocab)
{
    analysis *a = arg;
    (void)id;
    float *p = a->p + (size_t)(pos + 1 - a->n_prompt) * (a->n_rows + 1);
    double max = -INFINITY, sum = 0, rest = 1;
    for (uint32_t i = 0; i < n_vocab; i++)
        if ((double)logits[i] > max) max = (double)logits[i];
    for (uint32_t i = 0; i < n_vocab; i++) sum += exp_of(a, logits[i], max);
    for (uint32_t i = 0; i < a->n_rows; i++) {
        uint32_t t = a->map.identity ? i : a->map.target_id[i];
        double value = exp_of(a, logits[t], max) / sum;
        p[i] = (float)value;
        rest -= value;
    }
    p[a->n_rows] = rest > 0 ? (float)rest : 0;
    return 0;
}

static float draft_logit(const analysis *a, const float *logits, uint32_t row)
{
    return logits[a->map.identity ? row : a->map.draft_id[row]];
}

/* A vly_logits_fn of the draft. Several positions may share a row: where the draft's vocabulary
 * cannot spell a token, its context does not grow. */
static int take_draft(void *arg, uint32_t pos, uint32_t id, const float *logits, uint32_t n_vocab)
{
    analysis *a = arg;
    double max = -INFINITY, sum = 0, rules[VLY_N_RULES];
    (void)id;
    (void)n_vocab;
    for (uint32_t i = 0; i < a->n_rows; i++) max = fmax(max, (double)draft_logit(a, logits, i));
    for (uint32_t i = 0; i < a->n_rows; i++) sum += exp_of(a, draft_logit(a, logits, i), max);
    for (uint32_t j = 0; j < a->n_text; j++) {
        if (a->draft_pos[j] != pos) continue;
        const float *p = a->p + (size_t)j * (a->n_rows + 1);
        for (uint32_t i = 0; i < a->n_rows; i++) {
            double q = exp_of(a, draft_logit(a, logits, i), max) / sum;
            a->pairs[i] = (vly_spec_pair){p[i], (float)q, 0};
        }
        a->pairs[a->n_rows] = (vly_spec_pair){p[a->n_rows], 0, 0};
        vly_spec_acceptance(a->pairs, a->n_rows + 1, rules);
        for (int r = 0; r < VLY_N_RULES; r++) a->sums[r] += rules[r];
        a->n_seen++;
    }
    return 0;
}

/* The first `n` tokens of a text in the draft's, to `out`. */
static int encode_for_draft(const analysis *a, const uint32_t *ids, size_t n, vly_ids *out,
                            vly_error *err)
{
    vly_text bytes = {0};
    out->len = 0;
    if (a->map.identity) {
        int rc = vly_ids_append(out, ids, n);
        return rc ? vly_fail(err, rc, "no memory for the draft's text") : 0;
    }
    unsigned flags = vly_tokenizer_adds_bos(a->draft) ? VLY_ENCODE_BOS : 0;
    int rc = vly_tokenizer_decode(a->target, ids, n, true, &bytes);
    if (rc)
        vly_fail(err, rc, "no memory for the draft's text");
    else
        rc = vly_tokenizer_encode(a->draft, bytes.data ? bytes.data : "", bytes.len, flags, out,
                                  err);
    vly_text_free(&bytes);
    return rc;
}

/* The draft's rows for the positions that a->draft_ids are the context of, which are done then. */
static int take_rows(analysis *a, size_t first, vly_error *err)
{
    int rc = 0;
    if (first < a->draft_ids.len)
        rc = vly_engine_logits(a->draft_engine, a->draft_ids.data, a->draft_ids.len, first,
                               take_draft, a, err);
    for (uint32_t j = 0; j < a->n_text; j++) a->draft_pos[j] = UINT32_MAX;
    return rc;
}

static int analyse_text(vly_spec *s, analysis *a, const vly_ids *ids, vly_error *err)
{
    int rc =
        vly_engine_logits(s->engine, ids->data, ids->len - 1, a->n_prompt - 1, take_target, a, err);
    uint32_t n_ctx = vly_engine_get_info(a->draft_engine)->n_ctx;
    vly_ids next = {0};
    size_t first = SIZE_MAX; /* of the rows that are to be taken */
    a->draft_ids.len = 0;
    for (uint32_t j = 0; j < a->n_text; j++) a->draft_pos[j] = UINT32_MAX;
    for (uint32_t j = 0; rc == 0 && j < a->n_text; j++) {
        rc = encode_for_draft(a, ids->data, a->n_prompt + j, &next, err);
        if (rc || next.len == 0 || next.len > n_ctx) continue;
        /* The last word may be other tokens once more of it is there: then it is another context.
         */
        size_t n = a->draft_ids.len;
        if (n && (next.len < n || memcmp(next.data, a->draft_ids.data, n * sizeof *next.data))) {
            rc = take_rows(a, first, err);
            first = SIZE_MAX;
        }
        const vly_ids before = a->draft_ids;
        a->draft_ids = next;
        next = before;
        a->draft_pos[j] = (uint32_t)a->draft_ids.len - 1;
        if (a->draft_pos[j] < first) first = a->draft_pos[j];
    }
    if (rc == 0) rc = take_rows(a, first, err);
    vly_ids_free(&next);
    return rc;
}

/* One text of a prompt, added to the sums. */
static int analyse_sample(vly_spec *s, analysis *a, size_t prompt, uint64_t seed, vly_error *err)
{
    vly_ids ids = {0};
    size_t n_prompt;
    int rc = vly_spec_sample(s, (float)a->temperature, prompt, seed, &ids, &n_prompt, err);
    if (rc == 0) {
        a->n_prompt = (uint32_t)n_prompt;
        a->n_text = (uint32_t)(ids.len - n_prompt);
        a->p = calloc((size_t)a->n_text * (a->n_rows + 1) + 1, sizeof *a->p);
        a->draft_pos = calloc(a->n_text + 1, sizeof *a->draft_pos);
        rc = a->p && a->draft_pos ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for logits");
    }
    if (rc == 0 && a->n_text > 0) rc = analyse_text(s, a, &ids, err);
    free(a->p);
    free(a->draft_pos);
    a->p = NULL;
    a->draft_pos = NULL;
    vly_ids_free(&ids);
    return rc;
}

/* One prompt at one temperature: the means over the positions of its texts; NAN without any. */
static int analyse_prompt(vly_spec *s, analysis *a, size_t prompt, double means[VLY_N_RULES],
                          vly_error *err)
{
    int rc = 0;
    a->n_seen = 0;
    memset(a->sums, 0, sizeof a->sums);
    for (uint32_t seed = 1; rc == 0 && seed <= s->options->n_seeds; seed++)
        rc = analyse_sample(s, a, prompt, seed, err);
    for (int r = 0; r < VLY_N_RULES; r++) means[r] = a->n_seen ? a->sums[r] / a->n_seen : NAN;
    return rc;
}

/* ---- setting up ---- */

static int open_tokenizer(const char *model, vly_tokenizer **out, vly_error *err)
{
    vly_gguf *gguf;
    int rc = vly_store_open(model, &gguf, err);
    if (rc) return rc;
    rc = vly_tokenizer_create(gguf, out, err);
    vly_gguf_close(gguf);
    return rc;
}

static int open_analysis(const vly_spec *s, analysis *a, vly_error *err)
{
    const vly_ids *kvs = &s->options->kvs;
    vly_engine_options options = {.target = s->draft,
                                  .device = s->options->device,
                                  .arch = s->options->arch,
                                  .kv_f16 = kvs->data[kvs->len - 1]}; /* as s->engine is now */
    int rc = open_tokenizer(s->target, &a->target, err);
    if (rc == 0) rc = open_tokenizer(s->draft, &a->draft, err);
    if (rc == 0) rc = vly_engine_create(&options, &a->draft_engine, err);
    if (rc) return rc;
    uint32_t n_draft = vly_engine_get_info(a->draft_engine)->n_vocab;
    uint32_t n_target = vly_engine_get_info(s->engine)->n_vocab;
    rc = vly_vocab_map_init(a->draft, a->target, n_draft, n_target, &a->map, err);
    if (rc) return rc;
    a->n_rows = a->map.n_mapped;
    if (a->map.identity) a->n_rows = n_draft < n_target ? n_draft : n_target;
    a->pairs = calloc(a->n_rows + 1, sizeof *a->pairs);
    return a->pairs ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for logits");
}

int vly_spec_compare_rules(vly_spec *s, vly_error *err)
{
    const vly_reals *t = &s->options->temperatures;
    size_t n = s->prompts.n;
    analysis a = {0};
    if (!s->draft)
        return vly_fail(err, VLY_E_INVALID, "--compare-rules needs a draft: give -d FILE");
    s->rules = calloc(t->len * VLY_N_RULES * n, sizeof *s->rules);
    int rc = s->rules ? open_analysis(s, &a, err)
                      : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for results");
    for (size_t i = 0; rc == 0 && i < t->len; i++)
        for (size_t p = 0; rc == 0 && p < n && t->data[i] > 0; p++) {
            double means[VLY_N_RULES];
            a.temperature = t->data[i];
            rc = analyse_prompt(s, &a, p, means, err);
            for (int r = 0; rc == 0 && r < VLY_N_RULES; r++)
                s->rules[(i * VLY_N_RULES + (size_t)r) * n + p] = means[r];
        }
    vly_engine_destroy(a.draft_engine);
    vly_vocab_map_deinit(&a.map);
    vly_tokenizer_destroy(a.target);
    vly_tokenizer_destroy(a.draft);
    vly_ids_free(&a.draft_ids);
    free(a.pairs);
    return rc;
}
