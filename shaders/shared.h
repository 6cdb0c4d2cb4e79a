/* What C and GLSL share: the step buffer, push constants, limits and the keyed noise. Compiled by both.
 *
 * Everything that varies from step to step lives in the step buffer; recorded commands never change.
 * Offsets called "quads" count 16-byte units (4 floats) from the base that the same struct names. */
#ifndef VLY_SHARED_H
#define VLY_SHARED_H

#ifdef VLY_GLSL
#define VLY_U32          uint
#define VLY_F32          float
#define VLY_STRUCT(name) name
#define VLY_INLINE
#define VLY_ADDRESS(ref) ref
#else
#include <stdint.h>
#define VLY_U32          uint32_t
#define VLY_F32          float
#define VLY_STRUCT(name) struct name
#define VLY_INLINE       static inline
#define VLY_ADDRESS(ref) uint64_t
#endif

#define VLY_MAX_CHUNK  512 /* tokens in one prompt-processing pass */
#define VLY_MAX_BATCH  64  /* tokens in one decode or verify pass, and rows of logits in any pass */
#define VLY_MAX_COLUMNS 16 /* tokens that one workgroup of a product computes together */
#define VLY_MAX_SLOTS  64  /* sequences that one step can address */
#define VLY_PAGE_TOKENS 32 /* tokens in a KV page */
#define VLY_MAX_FRESH  16  /* tokens of a sequence in a pass whose K and V attention stores itself */
#define VLY_SPLIT_TOKENS 512 /* positions that a workgroup of the group form takes at a time */
#define VLY_MAX_AHEAD  2   /* blocks in flight at a time where the device begins the next one by itself */

#define VLY_NO_ID 0xffffffffu

/* One token of a step. */
struct vly_step_token {
    VLY_U32 id;
    VLY_U32 pos;   /* position in its sequence, from 0 */
    VLY_U32 slot;  /* row of the page table, and of `sampling` */
    VLY_U32 first; /* index in the step of the first token of the same sequence */
};

/* How the next token of one sequence is picked. */
struct vly_step_sampling {
    VLY_F32 temperature; /* 0: greedy */
    VLY_F32 top_p;       /* >= 1: off */
    VLY_F32 min_p;       /* <= 0: off */
    VLY_U32 top_k;       /* 0: off */
    VLY_U32 seed_lo, seed_hi;
    VLY_U32 noise_shift; /* added to (position + 1) for the noise's key; draft and target share keys */
    VLY_U32 pad;
};

/* What a row of a draft step proposes. Where nothing is left to propose, the row's last step is
 * repeated, which changes nothing. */
struct vly_step_draft {
    VLY_U32 verify; /* the next proposal's index among the tokens of the verify pass */
    VLY_U32 n_left; /* proposals to make, this one included */
};

struct vly_step {
    VLY_U32 n_tok;  /* tokens in the pass, <= VLY_MAX_CHUNK; of a decode pass <= VLY_MAX_BATCH */
    VLY_U32 n_rows; /* rows of logits wanted, <= VLY_MAX_BATCH */
    VLY_U32 stalled; /* set by a chained step that waited in vain: what followed is worthless */
    VLY_U32 n_advanced; /* blocks that an advance followed */
    VLY_U32 row[VLY_MAX_BATCH]; /* token index whose logits are row r */
    VLY_STRUCT(vly_step_draft) draft[VLY_MAX_BATCH]; /* draft steps: what row r is for */
    VLY_STRUCT(vly_step_sampling) sampling[VLY_MAX_SLOTS];
    VLY_STRUCT(vly_step_token) token[VLY_MAX_CHUNK];
};

/* What a step tells the host. */
struct vly_results {
    VLY_U32 id[VLY_MAX_BATCH];       /* picks as target ids: of row r, or for token r of the verify pass */
    VLY_U32 draft_id[VLY_MAX_BATCH]; /* draft steps: the same picks as the draft's own ids */
    /* The place of the token that was drafted for where row r picked another one, by the logits of row r,
     * from 1; 0: none was drafted, or that very one. */
    VLY_U32 rank[VLY_MAX_BATCH];
    /* What block n decided, at n % VLY_MAX_AHEAD, n being step.n_advanced; VLY_NO_ID: nothing, and nothing
     * after it. */
    VLY_U32 advanced[VLY_MAX_AHEAD];
};

/* An entry of the page table: where a page lies. */
struct vly_page {
    VLY_U32 address_lo, address_hi;
    VLY_U32 quad; /* the same place in the texel view of the cache */
    VLY_U32 pad;
};

/* Roles of a matrix-vector product: what its epilogue does with the rows. */
#define VLY_ROLE_QKV    0 /* rows of Q, K, V: scale by the norm, rotate Q and K */
#define VLY_ROLE_ADD    1 /* add to the residual stream, write the next norm's input and its squares */
#define VLY_ROLE_SWIGLU 2 /* row pairs (gate, up): scale by the norm, silu(gate) * up */
#define VLY_ROLE_LOGITS 3 /* scale by the norm, write logits and the statistics of each row block */

/* Specialisation constants of the matvec kernels: 0 width, then these. */
#define VLY_MATVEC_ROLE    1
#define VLY_MATVEC_COLUMNS 2 /* tokens that one workgroup computes together */
#define VLY_MATVEC_PAIRS   3 /* row pairs of a lane (lane form) or subgroup (group form) */
#define VLY_MATVEC_GROUPS  4 /* group form: subgroups of a workgroup */
#define VLY_MATVEC_TILE    5 /* with dot products: weights of a row between two barriers */

/* The tile form (matrix units): weights lie in tiles of 16 rows and units of 64 columns, in one of these
 * layouts (src/model/repack_tile.c); x is f16 (half_word of common.glsl says in which order). */
#define VLY_TILE_ROWS 16
#define VLY_TILE_UNIT 64
#define VLY_TILE_F16  0
#define VLY_TILE_Q8   1 /* 8 bits less 128, scale per 32 */
#define VLY_TILE_Q4   2 /* 4 bits less 8, scale per 32 */
#define VLY_TILE_Q5   3 /* 5 bits less 16, scale per 32 */
#define VLY_TILE_Q4M  4 /* 4 bits, scale and minimum per 32 */
#define VLY_TILE_Q5M  5 /* 5 bits, the same */
#define VLY_TILE_Q6   6 /* 6 bits less 32, scale per 16 */
#define VLY_N_TILE_LAYOUTS 7
#define VLY_TILE_COLUMNS 64 /* tokens of a workgroup at most */
#define VLY_MATMUL_COLUMNS 128 /* the same of a prompt */
#define VLY_MATMUL_TILES   8   /* tiles of a workgroup then */

/* Specialisation constants of the tile kernels: 0 width, role and columns as above (columns in whole
 * groups of 8), then these. */
#define VLY_MATVEC_LAYOUT 3 /* one of the tile layouts */
#define VLY_MATVEC_WARPS  4 /* subgroups that share a tile's units */
#define VLY_MATVEC_DEPTH  5 /* units of a subgroup that are loaded at a time */
#define VLY_MATVEC_TOKENS  6 /* tokens that a step can have */
#define VLY_MATVEC_X       7 /* chained: quads of x of all tokens, in shared memory */

/* Steps of a pass that wait for each other in their kernels and not for barriers (shaders/chain.glsl): for tags on
 * the words that they read, or for counts of workgroups that are done. Steps have numbers from 1 on. All zero: plain
 * values, with barriers between. */
#define VLY_CHAIN_POLLS 60000u /* of a wait at most: some hundredths of a second */
#define VLY_CHAIN_TELLS 0x80000000u
struct vly_chain {
    /* Of `act`. Tags: the epoch, before it that of the pass before. Counts: workgroups of this step that are
     * done, before it those of the step before. */
    VLY_U32 word;
    VLY_U32 read;    /* tags: number of the step that wrote the input; 0: it has none */
    VLY_U32 written; /* tags: what this one writes is tagged with; 0: with none */
    /* Tags. Role ADD: what x is tagged with, and one less than what it then is. The embedding, which tags with
     * 1: how far epochs are apart. Role QKV: 1 where it is the first after it. */
    VLY_U32 residual;
    /* Counts: workgroups of the step before; 0: there is a barrier behind it. And VLY_CHAIN_TELLS where the step
     * behind this one waits so. The embedding: how many counts it clears, from `word` on. */
    VLY_U32 awaited;
};

/* y[token][row] = sum_k W[row][k] x[token][k] over tokens of the step. W is [rows][blocks * 32], rows
 * even (padded), one 16-byte part after the other; x is [token][in_stride] in `act`. */
struct vly_push_matvec {
    VLY_ADDRESS(RefU4) weights; /* parts */
    VLY_ADDRESS(RefU1) scales;  /* two f16 block scales a word */
    VLY_ADDRESS(RefAct) act;
    VLY_ADDRESS(RefStep) step;
    VLY_U32 weights_quad, scales_word; /* the same places, from the start of the bound texel views */
    VLY_U32 rows;                      /* even; the real count is rows_used */
    VLY_U32 blocks;                    /* blocks of 32 weights in a row */
    VLY_U32 rows_used;
    VLY_U32 row_base;         /* of the output row of row 0 (parts of QKV in several formats) */
    VLY_U32 in_quad, in_stride;   /* x: start and quads per token */
    VLY_U32 out_quad, out_stride; /* y */
    VLY_U32 norm_quad, norm_parts; /* partial sums of squares of x, [token][norm_parts quads]; 0: it is not normed */
    VLY_U32 bias_quad;              /* of a vector that is added to the rows; 0: none */
    VLY_U32 extra[4];
    /* QKV: extra = {rotated rows, head size, rope table quad, 0}
     * ADD: extra = {xn quad, quad of the next norm's weights, partial squares out quad, stride}
     * LOGITS: extra = {block statistics quad, its stride in quads, 0, 0} */
    VLY_F32 norm_epsilon;
    VLY_U32 dim; /* of the norm */
    VLY_STRUCT(vly_chain) chain; /* tile form */
};

/* x[token] = embedding row, xn = x * norm weights, squares = sum x^2, in up to four parts. A workgroup a token. */
struct vly_push_embed {
    VLY_ADDRESS(RefU4) weights;
    VLY_ADDRESS(RefU1) scales;
    VLY_ADDRESS(RefAct) act;
    VLY_ADDRESS(RefStep) step;
    VLY_U32 norm_quad; /* weights of the first norm, in `act` */
    VLY_U32 blocks;
    VLY_U32 x_quad, xn_quad, stride; /* of x and xn alike */
    VLY_U32 squares_quad;            /* one quad a token */
    VLY_STRUCT(vly_chain) chain; /* what it writes is for */
};

/* Attention of one layer over the pages, with the step's own K and V taken from `qkv`.
 * Page: per layer, per KV head: K [32][head_dim], V [32][head_dim], then for int8 the f16 scales
 * K [32], V [32]. */
struct vly_push_attention {
    VLY_ADDRESS(RefAct) act;
    VLY_ADDRESS(RefStep) step;
    VLY_ADDRESS(RefPages) pages; /* page table [slot][pages_stride] */
    VLY_U32 pages_stride;
    VLY_U32 qkv_quad, qkv_stride; /* [token][q heads | k heads | v heads] */
    VLY_U32 out_quad, out_stride;
    VLY_U32 n_head, n_head_kv;
    VLY_U32 layer_quad; /* of this layer inside a page */
    VLY_U32 head_quads; /* of one KV head inside a layer of a page */
    VLY_F32 scale;      /* 1 / sqrt(head_dim) */
    /* Group form, decode passes, several workgroups to a token: where their splits meet. */
    VLY_U32 partial_quad, max_splits;
    VLY_ADDRESS(RefU1) counters; /* zeros, a word for each (token, workgroup of heads) */
    VLY_U32 window; /* positions that a token sees, its own included; 0: all */
    VLY_STRUCT(vly_chain) chain;
};

/* Norms each head of Q and K, then rotates it: a subgroup for each (head, token). Or Q and K as wholes: a
 * subgroup for each (Q or K, token). */
struct vly_push_qk_norm {
    VLY_ADDRESS(RefAct) act;
    VLY_ADDRESS(RefStep) step;
    VLY_U32 qkv_quad, qkv_stride;
    VLY_U32 weights_quad; /* of Q: a head, or all; and behind them of K */
    VLY_U32 rope_quad;
    VLY_U32 n_head, n_head_kv, head_dim;
    VLY_U32 whole; /* 1: of all heads together */
    VLY_F32 norm_epsilon;
};

/* Norms what a layer adds to the residual stream, for families that do: x += y * weights / rms(y); then xn
 * and the squares, as role ADD leaves them. One subgroup a token. */
struct vly_push_post_norm {
    VLY_ADDRESS(RefAct) act;
    VLY_ADDRESS(RefStep) step;
    VLY_U32 y_quad, x_quad, stride; /* of y and x alike */
    VLY_U32 weights_quad;
    VLY_U32 xn_quad, next_quad; /* of the next norm's weights */
    VLY_U32 squares_quad, squares_stride;
    VLY_U32 dim;
    VLY_F32 norm_epsilon;
};

/* Picks a token for each row of logits. */
struct vly_push_pick {
    VLY_ADDRESS(RefAct) act;
    VLY_ADDRESS(RefStep) step;
    VLY_ADDRESS(RefStep) target;  /* draft steps: the step buffer of the verify pass */
    VLY_ADDRESS(RefStep) next;    /* draft steps: that of the next one */
    VLY_ADDRESS(RefResults) results;
    VLY_ADDRESS(RefU1) row_id;     /* draft steps: head row -> own token id */
    VLY_ADDRESS(RefU1) row_target; /* draft steps: head row -> target token id */
    VLY_ADDRESS(RefU1) scratch;    /* candidates: [row][scratch_stride] words */
    VLY_U32 logits_quad, logits_stride;
    VLY_U32 stats_quad, stats_stride; /* (max, sum of exp((l - max) / T)) of each row block */
    VLY_U32 n_vocab;                  /* rows of the head */
    VLY_U32 block_rows;               /* rows of a block: a multiple of 4 */
    VLY_U32 scratch_stride;           /* >= 2 * width * ceil(blocks / width) * block_rows */
    VLY_U32 draft;                    /* 1: a draft step, which writes to both */
};

/* Makes the step of a block of one token, whose pick is in the results, that of the block after it. */
struct vly_push_advance {
    VLY_ADDRESS(RefStep) step;
    VLY_ADDRESS(RefResults) results;
    VLY_U32 n_vocab;
};

/* Reads `quads` quads from `weights`, a multiple of 4 * workgroups * width. */
struct vly_push_read {
    VLY_ADDRESS(RefU4) weights;
    VLY_ADDRESS(RefU1) sink;
    VLY_U32 weights_quad; /* the same place, from the start of the bound texel view */
    VLY_U32 quads;
};

/* ---- The keyed noise -------------------------------------------------------------------------
 * A hash of (seed, position, target token id): pcg4d of Jarzynski and Olano, "Hash Functions for GPU
 * Rendering", JCGT 9(3), 2020. The same on every device and in C. */
VLY_INLINE VLY_U32 vly_noise_hash(VLY_U32 seed_lo, VLY_U32 seed_hi, VLY_U32 pos, VLY_U32 id)
{
    VLY_U32 x = seed_lo * 1664525u + 1013904223u, y = seed_hi * 1664525u + 1013904223u;
    VLY_U32 z = pos * 1664525u + 1013904223u, w = id * 1664525u + 1013904223u;
    x += y * w;
    y += z * x;
    z += x * y;
    w += y * z;
    x ^= x >> 16;
    y ^= y >> 16;
    z ^= z >> 16;
    w ^= w >> 16;
    x += y * w;
    y += z * x;
    z += x * y;
    w += y * z;
    return x ^ w;
}

#endif
