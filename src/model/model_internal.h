/* Shared by model.c (memory) and forward.c (recording). */
#ifndef VLY_MODEL_INTERNAL_H
#define VLY_MODEL_INTERNAL_H

#include "model/measure.h"
#include "model/program.h"

/* Passes are recorded for these numbers of tokens or rows (VLY_PASS_PROMPT for powers of two from
 * 16 on); a pass over n takes the first that is >= n. */
#define VLY_N_BUCKETS 16
extern const uint32_t vly_buckets[VLY_N_BUCKETS];

/* How matrix-vector kernels are laid over the device. Lane form: `pairs` row pairs to a lane, read
 * through texel views, where lanes are a processor's vector. Group form: `pairs` row pairs to a
 * subgroup, `groups` subgroups to a workgroup. Tile form, on matrix units: 16 rows to a workgroup,
 * and activations that products read are f16. A row block is the rows of a subgroup (lane form) or
 * workgroup: for each there is one partial sum of squares, one statistic of the logits. */
typedef struct {
    bool lane_form;
    bool tile_form;
    /* Tile form, in decode passes: the steps that wait in their kernels for the step before, and
     * not for a barrier (shaders/chain.glsl): bits 1 << vly_step_kind. */
    uint32_t links;
    bool tags;      /* they wait for tags on words; else for counts of workgroups */
    bool dot;       /* group form: packed 8-bit dot products for the formats that have them */
    uint32_t lanes; /* of a subgroup */
    uint32_t width; /* of a workgroup */
    uint32_t pairs, groups;
    uint32_t patience;   /* lane form: see vly_program */
    uint32_t pick_width; /* of a workgroup that picks a token */
} vly_geometry;

/* Where things lie in the activations buffer: starts in quads (16 bytes), strides in quads a token.
 */
typedef struct {
    uint32_t norms; /* per layer: attention norm, feed-forward norm; then the output norm */
    uint32_t qk_norms, qk_norms_stride; /* per layer: weights of Q, of K; 0: none */
    uint32_t post_norms; /* per layer: of what attention adds, of what feed-forward adds; 0: none */
    uint32_t added;      /* what is added, before such a norm */
    /* Per layer, in the order of the matrices' rows; 0: none. */
    uint32_t bias_qkv, bias_out, bias_gate_up, bias_down;
    uint32_t gate_up_stride; /* of bias_gate_up; the others have that of what they are added to */
    uint32_t dim_quads;
    uint32_t rope;
    uint32_t x, xn, x_stride, xn_stride;
    uint32_t qkv, qkv_stride;
    uint32_t att, att_stride;
    uint32_t ff, ff_stride;
    uint32_t embed_squares; /* one quad a token */
    uint32_t squares, squares_stride;
    uint32_t logits, logits_stride;
    uint32_t stats, stats_stride;
    uint32_t scratch, scratch_words;         /* words a row */
    uint32_t partials, max_splits, counters; /* attention over long contexts */
    uint32_t chain;                          /* epochs of chained steps */
    uint32_t counts;                         /* of chained steps, by their numbers */
    /* What chained steps of a layer leave for the next one, where they wait for counts:
     * VLY_MAX_COUNTED tokens, those of the next layer layer_stride quads further. xn: of QKV, of
     * gate and up. */
    uint32_t layer_att, layer_ff, layer_xn[2], layer_stride;
    uint32_t program; /* counters of a program */
    uint64_t n_quads;
} vly_act_layout;

struct vly_model {
    vly_gpu *gpu;
    vly_model_config config;
    vly_model_memory memory;
    vly_geometry geometry;
    vly_act_layout at;
    vly_act_layout tagged; /* the same, but for where steps write what linked ones read */
    vly_weights weights;
    vly_kv *kv;
    vly_gpu_buffer act, results, logits, tables, blocks;
    vly_gpu_buffer step[VLY_N_STEP_BUFFERS];
    vly_gpu_views **views; /* one for each chunk of the weights; lane form only */
    vly_gpu_buffer ops;    /* of programs; unused where the model has none */
    uint64_t draft_row_id, draft_row_target, draft_target_step; /* addresses; 0: not a draft */
    struct vly_push_block advance; /* of a target with a draft: where that one's steps are */
    uint32_t n_head_rows;          /* of the head, in passes but those over all rows */
    vly_gpu_commands *passes[VLY_N_PASSES][VLY_N_BUCKETS];
};

/* Workgroups, row blocks and rows of a block of a product of `rows` rows. */
uint32_t vly_row_workgroups(const vly_geometry *geometry, uint32_t rows);
uint32_t vly_row_blocks(const vly_geometry *geometry, uint32_t rows);
uint32_t vly_block_rows(const vly_geometry *geometry);
#define VLY_MAX_COUNTED       16u    /* tokens of a pass whose steps wait for counts */
#define VLY_DOT_SHARED_BYTES  40960u /* of shared memory for x, where there are 48 KiB */
#define VLY_MAX_SPLIT_WORKERS 16u    /* workgroups that share a token's attention */

/* Uploads the activations' vectors. VLY_E_FORMAT names a tensor whose numbers are none. */
int vly_vectors_upload(vly_model *model, vly_error *err);

/* The links of a pass over n tokens: the model's, or none where these are too many for them. */
uint32_t vly_chain_links(const vly_model *model, uint32_t n);

/* Which links work on this device, and are fastest for this model: tries some. */
int vly_chain_choose(vly_model *model, vly_error *err);

/* Begins the program of a pass over n tokens; false where it is dispatched step by step. */
bool vly_model_program(vly_model *model, vly_pass pass, uint32_t n, vly_program *out);

/* Records pass `pass` for `n` tokens or rows into `commands`; where `marks` is not NULL, with the
 * time after each step. */
int vly_forward_record(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands *commands,
                       vly_step_marks *marks, vly_error *err);

/* Records one step of it, alone. */
int vly_forward_record_step(vly_model *model, vly_step_kind kind, uint32_t layer, uint32_t n,
                            vly_gpu_commands *commands, vly_error *err);

#endif
