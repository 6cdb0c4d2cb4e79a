/* The weights of a model: planned (checked against the shape and measured) before anything is
 * allocated, then uploaded and laid out once. */
#ifndef VLY_MODEL_WEIGHTS_H
#define VLY_MODEL_WEIGHTS_H

#include "model/config.h"
#include "model/repack.h"
#include "model/repack_tile.h"
#include "model/tensors.h"

/* Where a matrix's rows come from. */
typedef enum {
    VLY_ROWS_STACKED,     /* all rows of tensor 0, then of tensor 1, ... */
    VLY_ROWS_INTERLEAVED, /* rows 2 i of tensor 0, rows 2 i + 1 of tensor 1 */
    VLY_ROWS_GATHERED     /* rows `gather[i]` of tensor 0 */
} vly_row_order;

/* A matrix on the device: [rows][blocks * 32], y = W x. */
typedef struct {
    vly_format_id format; /* as laid out */
    uint32_t rows;        /* even: an odd count gets a row of zeros */
    uint32_t rows_used;
    uint32_t rows_beside; /* of the matrices that are multiplied in the same step */
    uint32_t columns, blocks;
    uint32_t chunk;         /* which of the weights' buffers */
    uint64_t parts, scales; /* byte offsets of its planes in that buffer, multiples of 256; in
                               tiles: of main and high, of scales and factors (repack_tile.h) */
    bool tiled;

    /* Source, until uploaded. */
    const vly_gguf_tensor *tensor[3];
    uint32_t n_tensors;
    vly_row_order order;
    const uint32_t *gather;
    const vly_rope *rope;   /* rows are those of heads, of which those of the first n_rotated */
    uint32_t n_rotated;     /* tensors are rotated, and put in order; else NULL */
    const vly_rope *spread; /* columns are those of heads that are larger on the device; or NULL */
} vly_matrix;

typedef struct {
    uint32_t n_qkv; /* 1 to 3: neighbours among Q, K and V that share a format are stacked */
    vly_matrix qkv[3];
    vly_matrix out, gate_up, down;
} vly_layer_weights;

typedef struct {
    const vly_gguf *gguf; /* until uploaded */
    vly_matrix embed;
    vly_matrix head; /* the same planes as `embed` where the head is tied and not pruned */
    vly_layer_weights *layer;
    uint32_t n_layer;
    vly_tensors tensors; /* where all of it comes from; of use until uploaded */
    vly_gpu_buffer *chunk;
    uint64_t *chunk_bytes;
    uint32_t n_chunks;
    uint64_t n_bytes; /* of all chunks */
    bool beyond_f16;  /* why the upload failed: tiles cannot hold these weights */
} vly_weights;

/* Told as weights arrive: bytes done of all. A return other than 0 ends that. */
typedef int (*vly_progress)(void *arg, uint64_t done, uint64_t total);

/* Finds every tensor and decides where it will lie. `head_rows` [n_head_rows], where not NULL,
 * keeps only these rows of the head, in this order (it must outlive the upload). `tiled`: matrices
 * of products lie in tiles. `gguf` and `config` must outlive the upload. Errors: those of
 * vly_tensors_find; VLY_E_UNSUPPORTED (a tensor that is too large for the device: names it). */
int vly_weights_plan(const vly_gguf *gguf, const vly_model_config *config, const vly_gpu_info *info,
                     const uint32_t *head_rows, uint32_t n_head_rows, bool tiled, vly_weights *out,
                     vly_error *err);

/* Allocates and uploads what was planned. VLY_E_FORMAT names a tensor whose weights are no numbers,
 * VLY_E_UNSUPPORTED one that f16 cannot hold, as tiles must (then weights->beyond_f16);
 * VLY_E_CANCELLED (progress). */
int vly_weights_upload(vly_gpu *gpu, vly_weights *weights, vly_progress progress,
                       void *progress_arg, vly_error *err);

/* Bytes of the matrix on the device. */
uint64_t vly_matrix_bytes(const vly_matrix *matrix);

/* `gpu` may be NULL where nothing was uploaded. Zeroed weights are left alone. */
void vly_weights_deinit(vly_gpu *gpu, vly_weights *weights);

#endif
