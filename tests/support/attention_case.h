/* Operands for the kernels of attention, and running these. Failures fail the test. */
#ifndef TESTS_ATTENTION_CASE_H
#define TESTS_ATTENTION_CASE_H

#include "tests/support/kernel_fixture.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    ATTENTION_N_POS = 100,
    ATTENTION_N_LAYER = 2,
    ATTENTION_LAYER = 1,
    ATTENTION_PAGES_STRIDE = 5,
    ATTENTION_N_SLOTS = 3
};

/* A model's attention and the kernels that do it: `heads` of a group are taken
 * together. The rest is of the group form (which is the one that reads by
 * address): subgroups of a workgroup, positions of a split, workgroups that may
 * share the splits of a token. */
typedef struct {
    bool int8, texel;
    uint32_t head_dim, n_head_kv, group, heads;
    uint32_t subgroups, split, workers;
} attention_shape;

/* Two sequences, in slots 0 and 2, of ATTENTION_N_POS tokens each. */
typedef struct {
    attention_shape s;
    float *qkv[ATTENTION_N_SLOTS]; /* [ATTENTION_N_POS][n_qkv] */
    uint32_t n_qkv, n_out, head_quads, page_quads, counters_quad;
    struct vly_push_attention push;
} attention_case;

/* Random tokens, some of them zero or very small; no page holds any yet. Empties the activations of
 * `fixture`. */
attention_case attention_case_make(attention_shape shape, uint64_t seed);
void attention_case_free(attention_case *o);

/* Parts of 16 bytes of a token's K or V. */
uint32_t attention_case_parts_of(const attention_shape *shape);
/* The page of a slot's position, pages lying scattered; and where it is. */
uint32_t attention_case_page_of(uint32_t slot, uint32_t pos);
uint8_t *attention_case_page_at(const attention_case *o, uint32_t page);
void attention_case_forget_pages(const attention_case *o);

/* Empties the step; adds tokens pos .. pos + n - 1 of `slot` to it. */
void attention_case_clear_step(void);
void attention_case_add_tokens(const attention_case *o, uint32_t slot, uint32_t pos, uint32_t n);

/* Puts the step's K and V into pages. */
void attention_case_store(const attention_case *o);
/* Attends; `stored`: its K and V are in pages. */
void attention_case_attend(const attention_case *o, bool stored);
/* The output of a token of the step: [n_out]. */
const float *attention_case_output(const attention_case *o, uint32_t token);
/* Every token in a step of its own: outputs [ATTENTION_N_POS][n_out], to be freed. */
float *attention_case_one_by_one(const attention_case *o, uint32_t slot);

/* Of the positions up to `pos`, the first that its token sees. */
uint32_t attention_case_first_seen(const attention_case *o, uint32_t pos);
/* The pages of `slot` hold what they should, and outputs [ATTENTION_N_POS][n_out] are, but for
 * `tolerance`, what the reference computes of them. */
void attention_case_check(const attention_case *o, uint32_t slot, const float *got,
                          double tolerance);

#endif
