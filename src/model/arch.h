/* Architectures as data: what distinguishes a family of models from another. The families that are
 * known are the rows of arch.def; a JSON file can describe one more (docs/models.md). */
#ifndef VLY_MODEL_ARCH_H
#define VLY_MODEL_ARCH_H

#include "base/error.h"

typedef enum {
#define VLY_TENSOR(id, key, name, columns, rows) VLY_TENSOR_##id,
#include "model/tensors.def"
#undef VLY_TENSOR
    VLY_N_TENSORS
} vly_tensor_id;

/* The numbers of a model's shape that make up its tensors' dimensions. */
typedef enum {
    VLY_DIM_ONE,
    VLY_DIM_DIM, /* width of the residual stream */
    VLY_DIM_VOCAB,
    VLY_DIM_ALL_HEADS,
    VLY_DIM_ALL_KV_HEADS,
    VLY_DIM_ROTATED_PAIRS, /* of one head */
    VLY_DIM_Q_NORM,        /* of one head or of all */
    VLY_DIM_K_NORM,
    VLY_DIM_FF,
    VLY_N_DIMS
} vly_dim;

/* A row of tensors.def. */
typedef struct {
    const char *key, *name;
    vly_dim columns, rows;
} vly_tensor_kind;
extern const vly_tensor_kind vly_tensor_kinds[VLY_N_TENSORS];

typedef enum { VLY_NEED_NEVER, VLY_NEED_OPTIONAL, VLY_NEED_REQUIRED } vly_need;

/* Where a layer's two norms are: of what attention and feed-forward take from the residual stream,
 * of what they add to it, or of both. */
typedef enum { VLY_NORMS_PRE, VLY_NORMS_POST, VLY_NORMS_BOTH } vly_norms;

/* Norms of Q and K before they are rotated: of each head by itself, or of all heads together. */
typedef enum { VLY_QK_NORM_NONE, VLY_QK_NORM_HEAD, VLY_QK_NORM_ALL } vly_qk_norm;

/* Which two numbers of a head are rotated together: neighbours, or i and i + half of them. */
typedef enum { VLY_ROPE_PAIRS, VLY_ROPE_HALVES } vly_rope_kind;

/* Where the logits' matrix comes from: tied, it is the embedding. */
typedef enum { VLY_HEAD_EITHER, VLY_HEAD_OWN, VLY_HEAD_TIED } vly_head;

#define VLY_ARCH_NAME_CHARS   32
#define VLY_TENSOR_NAME_CHARS 64
#define VLY_MAX_PATTERN       64

typedef struct {
    char
        name[VLY_ARCH_NAME_CHARS]; /* general.architecture, and what its metadata keys begin with */
    char tensor[VLY_N_TENSORS][VLY_TENSOR_NAME_CHARS]; /* "": the name of tensors.def */
    vly_need bias[VLY_N_TENSORS]; /* of matrices of a layer only; in all layers or in none */
    vly_norms norms;
    vly_qk_norm qk_norm;
    vly_rope_kind rope;
    vly_head head;
    uint32_t window; /* positions that windowed layers see, where the file does not say; 0: all */
    uint32_t n_pattern;
    bool pattern[VLY_MAX_PATTERN]; /* is layer i windowed: [i % n_pattern]; of 0: all layers are */
} vly_arch;

/* The row of arch.def of this name, or NULL. */
const vly_arch *vly_arch_find(const char *name);

/* "llama, mistral, ..." */
const char *vly_arch_names(void);

/* Reads a description of an architecture, `len` bytes of JSON; `source` is what errors call it.
 * VLY_E_FORMAT (not JSON; an unknown key, a value of another type or out of range: names the key),
 * VLY_E_HOST_MEMORY. */
int vly_arch_parse(const char *source, const char *json, size_t len, vly_arch *out, vly_error *err);

/* The same of a file of at most 1 MiB. VLY_E_NOT_FOUND, VLY_E_IO besides. */
int vly_arch_read(const char *path, vly_arch *out, vly_error *err);

/* Has each layer one? */
bool vly_tensor_is_layered(vly_tensor_id id);
/* Can it have a bias: is it a matrix of a layer? */
bool vly_tensor_is_biasable(vly_tensor_id id);

/* The name of a tensor in files of this architecture: `suffix` is ".weight" or ".bias", `layer` is
 * of use where each layer has one. Returns `out`, terminated. */
#define VLY_FULL_NAME_CHARS (VLY_TENSOR_NAME_CHARS + 24)
const char *vly_arch_tensor_name(const vly_arch *arch, vly_tensor_id id, uint32_t layer,
                                 const char *suffix, char out[VLY_FULL_NAME_CHARS]);

#endif
